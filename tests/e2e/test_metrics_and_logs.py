"""What an operator sees of real processes: metrics of each, one line for each ended stream and each refused
request, and no fault where nothing of it can be written."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.up.sockets import free_port
from shared.protocol.cursor import new_stream_id
from tests.support.processes import Child, wait_until
from tests.support.stack import running_stack


def values(text: str) -> dict[str, float]:
    """Each sample of a metric, by its name and the values of its labels (in the order of their names)."""
    return {
        " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def lines(child: Child, event: str) -> list[dict[str, Any]]:
    """The lines of this kind that it has logged as JSON."""
    return [line for text in child.output().splitlines() if (line := json.loads(text))["event"] == event]


async def scrape(child: Child) -> dict[str, float]:
    """The metrics at the process's own port."""
    (served,) = lines(child, "metrics_served")
    async with httpx.AsyncClient() as client:
        return values((await client.get(served["url"])).text)


async def test_every_process_tells_what_it_did(tmp_path: Path) -> None:
    settings = {"HEADRACE_METRICS_PORT": str(free_port()), "HEADRACE_LOG_FORMAT": "json"}
    async with running_stack(tmp_path, workers=1, **settings) as stack:
        done = await stack.create({"tokens": 20, "interval_ms": 10})
        async with stack.client.stream("GET", done["events_url"]) as events:
            async for _ in events.aiter_lines():
                pass
        failed = await stack.create({"name": "bad", "status": 401})
        await stack.until_status(failed["id"], "failed")
        stopped = await stack.create({"tokens": 100, "interval_ms": 100})
        await stack.until_said(stopped["id"])
        await stack.client.post(f"/v1/streams/{stopped['id']}/cancel")
        assert (await stack.client.get(f"/v1/streams/{new_stream_id()}")).status_code == 404
        assert (await stack.client.post("/v1/streams", json={"prompt": 1})).status_code == 422
        await asyncio.to_thread(wait_until, lambda: lines(stack.workers[0], "attempt_stopped"))

        worker, api = await scrape(stack.workers[0]), await scrape(stack.apis[0])
        code = (await stack.record(failed["id"]))["error"]["code"]
        assert worker["headrace_streams_ended_total  smollm2 local done"] == 1
        assert worker[f"headrace_streams_ended_total {code} smollm2 local failed"] == 1
        assert worker["headrace_attempts_total started"] == 3
        assert worker["headrace_queue_wait_seconds_count"] == 3
        assert worker["headrace_first_token_seconds_count local"] == 2
        assert worker["headrace_tokens_total output smollm2 local"] == 20
        assert worker["headrace_provider_requests_total local"] == 3
        assert worker[f"headrace_provider_errors_total {code} local"] == 1
        assert 0 < worker["headrace_flush_seconds_count"] <= worker["headrace_events_written_total"]
        assert worker["headrace_running_streams"] == 0
        assert api["headrace_creates_total created"] == 3
        assert api["headrace_streams_ended_total  smollm2 local cancelled"] == 1
        assert api["headrace_refused_requests_total stream_not_found"] == 1
        assert api["headrace_workers"] == 1
        assert api["headrace_queue_jobs"] == 0
        assert api["headrace_read_seconds_count"] > 0
        assert values((await stack.client.get("/metrics")).text).keys() == api.keys()

        ended = {line["stream"]: line for line in lines(stack.workers[0], "stream_ended")}
        assert ended.keys() == {done["id"], failed["id"]}
        told = ended[done["id"]]
        assert (told["status"], told["provider"], told["model"], told["attempt"]) == ("done", "local", "smollm2", 1)
        assert 0 <= told["queued_ms"] <= told["first_token_ms"] <= told["total_ms"]
        assert (ended[failed["id"]]["level"], ended[failed["id"]]["code"]) == ("warning", code)
        assert [line["stream"] for line in lines(stack.apis[0], "stream_ended")] == [stopped["id"]]
        refused = [(line["status"], line["code"]) for line in lines(stack.apis[0], "request_refused")]
        assert refused == [(404, "stream_not_found"), (422, "invalid_request")]


async def test_a_retry_a_lost_redis_and_a_takeover_are_counted(tmp_path: Path) -> None:
    settings = {"HEADRACE_METRICS_PORT": str(free_port()), "HEADRACE_LOG_FORMAT": "json"}
    async with running_stack(tmp_path, **settings) as stack:
        again = await stack.create({"name": "again", "status": 503, "fail_times": 1, "tokens": 3})
        await stack.until_status(again["id"], "done", "failed")
        retried = await scrape(stack.workers[0])
        assert retried["headrace_provider_retries_total provider_unavailable local"] >= 1
        stack.server.kill()
        assert (await stack.client.post("/v1/streams", json={"prompt": "x"})).status_code == 503
        api = await scrape(stack.apis[0])
        assert sum(value for name, value in api.items() if name.startswith("headrace_redis_errors_total")) >= 1
        assert "headrace_queue_jobs" not in api
        assert api["headrace_refused_requests_total redis_unavailable"] == 1
        stack.server.start_again()
        await stack.until_ready()
        lost = await stack.create({"tokens": 30, "interval_ms": 100})
        await stack.until_said(lost["id"])
        stack.workers[0].kill()
        second = await stack.add_worker()
        await stack.until_status(lost["id"], "done")
        assert (await scrape(second))["headrace_takeovers_total"] == 1


def without_stderr(how: str) -> Callable[..., Child]:
    """A way to start a process whose standard error is a full disk, or closed."""

    def start(argv: tuple[str, ...], env: dict[str, str], directory: Path, name: str) -> Child:
        where = "2>/dev/full" if how == "full" else "2>&-"
        return Child(name, ("sh", "-c", f'exec "$@" {where}', "sh", *argv), env, directory)

    return start


@pytest.mark.parametrize("how", ["full", "closed"])
async def test_processes_that_can_log_nothing_work(tmp_path: Path, how: str) -> None:
    """Streams end, a lost Redis is a 503 and no 500, and no process ends."""
    start, port = without_stderr(how), free_port()
    async with running_stack(tmp_path, workers=0) as stack:
        env = stack.env() | {"HEADRACE_PORT": str(port), "HEADRACE_LOG_LEVEL": "debug"}
        python = (sys.executable, "-P", "-m")
        with (
            start((*python, "api"), env, tmp_path, "mute-api") as api,
            start((*python, "worker"), env, tmp_path, "mute-worker") as worker,
        ):
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                stack.client = client
                await asyncio.to_thread(wait_until, lambda: ready(client.base_url))
                created = await stack.create({"tokens": 20, "interval_ms": 5})
                await stack.until_status(created["id"], "done")
                stack.server.kill()
                codes = {(await client.post("/v1/streams", json={"prompt": "x"})).status_code for _ in range(3)}
                assert codes == {503}
                stack.server.start_again()
                await asyncio.to_thread(wait_until, lambda: ready(client.base_url))
                again = await stack.create({"tokens": 20, "interval_ms": 5})
                await stack.until_status(again["id"], "done")
                dropped = values((await client.get("/metrics")).text)["headrace_log_lines_dropped_total"]
                assert (dropped > 0) == (how == "full")
            assert (api.exit_code, worker.exit_code) == (None, None)
            assert (worker.terminate(10), api.terminate(10)) == (0, 0)


def ready(url: object) -> bool:
    try:
        return httpx.get(f"{str(url).rstrip('/')}/readyz").status_code == 200
    except httpx.TransportError:
        return False
