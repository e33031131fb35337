"""Answers in a dialect, while processes die under them. The log is short, so that much of it is trimmed away."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.protocol.sse import ServerSentEvent, SseParser
from shared.store.keys import Keys
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


def body(script: dict) -> dict:
    return {"model": MODEL, "messages": [{"role": "user", "content": json.dumps(script)}], "stream": True}


class Reader:
    """Reads chunks, and comes back behind the last one, as a client does that knows Headrace."""

    def __init__(self) -> None:
        self.events: list[ServerSentEvent] = []
        self.stream_id = ""
        self.comings = 0

    @property
    def text(self) -> str:
        deltas = [json.loads(event.data) for event in self.events if event.data.startswith("{")]
        return "".join(one["choices"][0]["delta"].get("content") or "" for one in deltas if one.get("choices"))

    @property
    def ended(self) -> bool:
        return bool(self.events) and (self.events[-1].data == "[DONE]" or '"error"' in self.events[-1].data)

    async def begin(self, client: httpx.AsyncClient, script: dict) -> None:
        async with client.stream("POST", "/v1/chat/completions", json=body(script)) as response:
            assert response.status_code == 200, await response.aread()
            self.stream_id = response.headers["x-headrace-stream"]
            await self._read(response)

    async def go_on(self, urls: list[str]) -> None:
        """Until the end, from any of these servers."""
        async with asyncio.timeout(60):
            while not self.ended:
                self.comings += 1
                url = urls[self.comings % len(urls)]
                headers = {"Last-Event-ID": next(event.id for event in reversed(self.events) if event.id)}
                try:
                    async with (
                        httpx.AsyncClient(base_url=url, timeout=60) as client,
                        client.stream(
                            "GET", f"/v1/streams/{self.stream_id}/events?dialect=openai", headers=headers
                        ) as response,
                    ):
                        assert response.status_code == 200, await response.aread()
                        await self._read(response)
                except httpx.TransportError:
                    await asyncio.sleep(0.1)

    async def _read(self, response: httpx.Response) -> None:
        parser = SseParser()
        try:
            async for data in response.aiter_bytes():
                self.events += [
                    event for event in parser.feed(data) if event.data and "connection_ended" not in event.data
                ]
        except httpx.TransportError:
            pass

    async def until(self, length: int) -> None:
        async with asyncio.timeout(60):
            while len(self.text) < length:
                await asyncio.sleep(0.01)


async def test_a_killed_worker_s_answer_goes_on_for_an_openai_client(stack: Stack) -> None:
    reader = Reader()
    reading = asyncio.create_task(reader.begin(stack.client, {**HELD, "name": "on"}))
    await reader.until(500)
    (await stack.carrier(reader.stream_id)).kill()
    stack.provider.release("on")
    await reading
    assert reader.ended
    assert reader.text == script_text(SCRIPT)
    assert len(stack.calls("on")) == 2


async def test_a_killed_api_s_reader_comes_back_to_another_one(stack: Stack) -> None:
    other = await stack.add_api()
    reader = Reader()
    reading = asyncio.create_task(reader.begin(stack.client, {**HELD, "name": "api"}))
    await reader.until(300)
    stack.apis[0].kill()
    await reading
    assert not reader.ended
    stack.provider.release("api")
    await reader.go_on([other.url])
    assert reader.text == script_text(SCRIPT)


@pytest.mark.parametrize("at", [1, 40, 290])
async def test_a_new_reader_of_a_trimmed_log_gets_all_of_it(stack: Stack, at: int) -> None:
    """Also one that begins while it is said: a snapshot, and what follows, are the whole answer."""
    first = Reader()
    reading = asyncio.create_task(first.begin(stack.client, SCRIPT))
    await first.until(at)
    late = Reader()
    url = f"/v1/streams/{first.stream_id}/events?dialect=openai"
    async with stack.client.stream("GET", url) as response:
        await late._read(response)
    await reading
    assert late.ended
    assert late.text == first.text == script_text(SCRIPT)


async def test_where_a_model_cannot_continue_the_library_is_told(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=2) as stack:
        reader = Reader()
        reading = asyncio.create_task(reader.begin(stack.client, HELD))
        await reader.until(100)
        (await stack.carrier(reader.stream_id)).kill()
        await reading
        error = json.loads(reader.events[-1].data)["error"]
        assert error["code"] == "worker_lost"
        assert script_text(SCRIPT).startswith(reader.text)


@pytest.mark.parametrize("dialect", ["openai", "plain", "responses", "ag-ui"])
async def test_who_saw_what_was_taken_back_gets_an_error_and_no_second_text(stack: Stack, dialect: str) -> None:
    """Cut off in the first attempt, and back when the second one has said everything."""
    script = {"tokens": 20, "cut_after": 8, "fail_times": 1, "numbered": True, "name": dialect}
    made = await stack.create(script, on_failure="restart")
    await stack.until_status(made["id"], "done")
    async with Redis.from_url(stack.server.url) as redis:
        entries = await redis.xrange(Keys("headrace").log(made["id"]))
    kinds = [fields[b"e"] for _, fields in entries]
    restart = kinds.index(b"restart")
    url = f"{made['events_url']}?dialect={dialect}"
    for at in range(kinds.index(b"message"), restart):
        cursor = entries[at][0].decode()
        answer = await stack.client.get(url, headers={"Last-Event-ID": cursor})
        assert "restarted" in answer.text or "text_lost" in answer.text, at
        assert "[2]" not in answer.text
    whole = await stack.client.get(url)
    assert "[2]" in whole.text
    assert "restarted" not in whole.text
    begun = await stack.client.get(url, headers={"Last-Event-ID": entries[0][0].decode()})
    assert "[2]" not in begun.text
