"""Signals: an API ends with exit code 0, a second signal shortens a worker's drain, and both say what they were."""

import asyncio
import json
import re
import signal
from pathlib import Path

from tests.support.processes import base_env, start_api
from tests.support.stack import running_stack


async def test_a_second_signal_ends_the_drain_and_another_worker_goes_on(tmp_path: Path) -> None:
    async with running_stack(tmp_path, HEADRACE_DRAIN_S="120") as stack:
        created = await stack.create({"tokens": 100, "interval_ms": 100})
        await stack.until_said(created["id"])
        first = stack.workers[0]
        first.send(signal.SIGTERM)
        await asyncio.sleep(1)
        said = len((await stack.record(created["id"]))["text"])
        await stack.until_said(created["id"], said + 1)
        assert first.exit_code is None, "it drains"
        second = await stack.add_worker()
        first.send(signal.SIGTERM)
        assert await asyncio.to_thread(first.wait, 60) == 0
        assert "handed_over" in first.output()
        assert "Traceback" not in first.output()
        assert "pending" not in first.output()
        record = await stack.until_status(created["id"], "done")
        assert record["attempt"] == 2
        assert "stream_ended" in second.output()


async def test_an_api_ends_with_exit_code_0_and_says_where_it_was_and_with_what(tmp_path: Path) -> None:
    env = base_env("redis://:hunter2@127.0.0.1:1/0", HEADRACE_LOG_FORMAT="json", HEADRACE_VIEWERS="77")
    with start_api(env | {"HEADRACE_PORT_8000_TCP_ADDR": "10.0.0.7"}, tmp_path) as api:
        api.send(signal.SIGTERM)
        assert api.wait(60) == 0
        said = {line["event"]: line for line in map(json.loads, api.output().splitlines())}
        started = said["api_started"]
        assert started["listening"] == [api.url.removeprefix("http://")]
        assert started["settings"] == {
            "redis_url": "redis://***@127.0.0.1:1/0", "viewers": 77, "log_format": "json",
        }  # fmt: skip
        assert re.fullmatch(r"\d+\.\d+\.\d+", started["version"])
        assert said["service_links_passed_over"]["names"] == ["HEADRACE_PORT_8000_TCP_ADDR"]
        assert "api_stopped" in said
        assert "hunter2" not in api.output()


async def test_a_signal_ends_an_api_that_has_a_viewer_with_exit_code_0(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        created = await stack.create({"tokens": 60, "interval_ms": 100})
        async with stack.client.stream("GET", created["events_url"]) as answer:
            assert answer.status_code == 200
            stack.apis[0].send(signal.SIGTERM)
            async for _ in answer.aiter_bytes():
                pass
        assert await asyncio.to_thread(stack.apis[0].wait, 60) == 0
