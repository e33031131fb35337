"""AG-UI runs, while processes die under their clients. The log is short, so that much of it is trimmed away."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.protocol.sse import SseParser
from shared.store.keys import Keys
from tests.support.ag_ui import AgUi
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack

MODEL = "local/scripted"
SCRIPT = {"tokens": 300, "interval_ms": 10, "seed": 4}
HELD = {**SCRIPT, "hang_after": 150}
"""In its middle until the test lets it go on: however slow the machine is, what dies dies before the end."""


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path, workers=2, LOCAL_CONTINUES="prefill", HEADRACE_LOG_CAP="50") as made:
        yield made


def start(ag_ui: AgUi, stack: Stack, what: str, script: dict[str, Any], *urls: str) -> asyncio.Task[dict[str, Any]]:
    """A client that runs, and comes back to these addresses in turn."""
    bases = [url.rstrip("/") for url in urls or (str(stack.client.base_url),)]
    given = {"urls": bases, "model": MODEL, "prompt": json.dumps(script)}
    return asyncio.create_task(ag_ui.run("ag_ui_live.mjs", what, given))


def text_of(told: dict[str, Any]) -> str:
    """What a client holds of the answer."""
    message = told["messages"][-1]
    parts = message.get("parts", [{"type": "text", "content": message.get("content")}])
    return "".join(part["content"] for part in parts if part["type"] == "text")


@pytest.mark.parametrize("client", ["agent", "tanstack"])
async def test_a_killed_worker_s_answer_goes_on(ag_ui: AgUi, stack: Stack, client: str) -> None:
    reading = start(ag_ui, stack, client, {**HELD, "name": "on"})
    await stack.until_sent("on", 150)
    await kill_the_worker(stack)
    stack.provider.release("on")
    told = await reading
    assert (told["errors"], text_of(told)) == ([], script_text(SCRIPT))
    assert len(stack.calls("on")) == 2


async def kill_the_worker(stack: Stack) -> None:
    """That of the only stream, when a part of the answer is in its log."""
    async with Redis.from_url(stack.server.url) as redis:
        (key,) = [key async for key in redis.scan_iter(Keys("headrace").stream("*").meta)]
    stream_id = key.decode().partition("{")[2].partition("}")[0]
    await stack.until_said(stream_id, 20)
    (await stack.carrier(stream_id)).kill()


@pytest.mark.parametrize("client", ["fetch", "tanstack"])
async def test_a_killed_api_s_client_comes_back_to_another_one(ag_ui: AgUi, stack: Stack, client: str) -> None:
    other = await stack.add_api()
    reading = start(ag_ui, stack, client, {**HELD, "name": "api"}, str(stack.client.base_url), other.url)
    await stack.until_sent("api", 150)
    stack.apis[0].kill()
    stack.provider.release("api")
    told = await reading
    assert (told["errors"], text_of(told)) == ([], script_text(SCRIPT))
    assert told["calls"] > 1
    assert len(stack.calls("api")) == 1


@pytest.mark.parametrize("client", ["fetch", "tanstack"])
async def test_a_stopped_api_s_client_comes_back_to_another_one(ag_ui: AgUi, stack: Stack, client: str) -> None:
    other = await stack.add_api()
    reading = start(ag_ui, stack, client, {**HELD, "name": "stop"}, str(stack.client.base_url), other.url)
    await stack.until_sent("stop", 150)
    await asyncio.to_thread(stack.apis[0].terminate)
    stack.provider.release("stop")
    told = await reading
    assert (told["errors"], text_of(told)) == ([], script_text(SCRIPT))
    assert told["calls"] > 1


async def test_a_stopped_api_tells_a_client_that_does_not_come_back(ag_ui: AgUi, stack: Stack) -> None:
    reading = start(ag_ui, stack, "agent", {**HELD, "name": "told"})
    await stack.until_sent("told", 150)
    await asyncio.to_thread(stack.apis[0].terminate)
    told = await reading
    assert [code for code, _ in told["errors"]] == ["connection_ended"]


@pytest.mark.parametrize("at", [1, 40, 290])
async def test_a_new_reader_of_a_trimmed_log_gets_all_of_it(stack: Stack, at: int) -> None:
    body = {
        "threadId": "thread",
        "runId": "late",
        "messages": [{"id": "1", "role": "user", "content": json.dumps({**SCRIPT, "name": "late"})}],
        "forwardedProps": {"model": MODEL},
    }
    first = asyncio.create_task(stack.client.post("/ag-ui", json=body, timeout=60))
    await stack.until_sent("late", at)
    answers = await asyncio.gather(first, stack.client.get("/ag-ui/late", timeout=60))
    texts = []
    for answer in answers:
        events = [json.loads(event.data) for event in SseParser().feed(answer.content) if event.data]
        assert [event["type"] for event in (events[0], events[-1])] == ["RUN_STARTED", "RUN_FINISHED"]
        texts.append("".join(event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"))
    assert texts == [script_text(SCRIPT)] * 2


async def test_a_place_that_was_trimmed_away_is_told_and_the_run_can_be_read_again(stack: Stack) -> None:
    slow = {**SCRIPT, "interval_ms": 20}  # a slow machine writes several tokens in one entry
    body = {
        "threadId": "thread",
        "runId": "trimmed",
        "messages": [{"id": "1", "role": "user", "content": json.dumps(slow)}],
        "forwardedProps": {"model": MODEL},
    }
    first = await stack.client.post("/ag-ui", json=body, timeout=60)
    seen = [event for event in SseParser().feed(first.content) if event.data]
    other = await stack.add_api()  # which has never seen what is gone
    async with httpx.AsyncClient(base_url=other.url, timeout=60) as client:
        lost = await client.get("/ag-ui/trimmed", headers={"Last-Event-ID": seen[3].id})
        told = [json.loads(event.data) for event in SseParser().feed(lost.content) if event.data]
        assert [event.get("code") for event in told] == ["text_lost"]
        whole = await client.get("/ag-ui/trimmed")
    told = [json.loads(event.data) for event in SseParser().feed(whole.content) if event.data]
    said = "".join(event["delta"] for event in told if event["type"] == "TEXT_MESSAGE_CONTENT")
    assert (said, told[-1]["type"]) == (script_text(SCRIPT), "RUN_FINISHED")


@pytest.mark.parametrize("client", ["agent", "tanstack"])
async def test_where_a_model_cannot_continue_the_client_is_told(ag_ui: AgUi, tmp_path: Path, client: str) -> None:
    async with running_stack(tmp_path, workers=2) as stack:
        reading = start(ag_ui, stack, client, {**HELD, "name": "fails"})
        await stack.until_sent("fails", 150)
        await kill_the_worker(stack)
        told = await reading
        assert len(told["errors"]) == 1
        assert script_text(SCRIPT).startswith(text_of(told))
        assert text_of(told)
