"""Responses, while connections are cut and processes die under them. The log is short, and mostly trimmed away."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio

from shared.protocol.sse import SseParser
from tests.support.responses import MODEL, events_of, read_response
from tests.support.script import script_reasoning, script_text
from tests.support.stack import Stack, running_stack

SCRIPT: Final = {"tokens": 300, "interval_ms": 5, "seed": 4, "reasoning_tokens": 5}
HELD: Final = {**SCRIPT, "hang_after": 150}
"""In its middle until the test lets it go on: however slow the machine is, what dies dies before the end."""
LAST: Final = ("response.completed", "response.incomplete", "response.failed")
WITHIN_S: Final = 60.0


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path, workers=2, LOCAL_CONTINUES="prefill", HEADRACE_LOG_CAP="1000") as made:
        yield made


class Reader:
    """Reads a response, and comes back behind the last event, as a client does by ``starting_after``."""

    def __init__(self, cut_after: int = 10**9) -> None:
        """``cut_after``: events, behind which it cuts its connection."""
        self.events: list[dict[str, Any]] = []
        self.broken: list[dict[str, Any]] = []
        """Errors of connections: the response goes on."""
        self.comings = 0
        self._cut_after = cut_after

    @property
    def text(self) -> str:
        return "".join(one["delta"] for one in self.events if one["type"] == "response.output_text.delta")

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1]["type"] in LAST

    @property
    def response_id(self) -> str:
        return str(self.events[0]["response"]["id"])

    async def begin(self, client: httpx.AsyncClient, script: dict, **more: Any) -> None:
        body = {"model": MODEL, "input": json.dumps(script), "stream": True, **more}
        async with client.stream("POST", "/v1/responses", json=body, timeout=60) as response:
            await self._read(response)

    async def go_on(self, *urls: str) -> None:
        """Until the end, from any of these servers."""
        async with asyncio.timeout(WITHIN_S):
            for url in itertools.cycle(urls):
                if self.ended:
                    return
                self.comings += 1
                number = self.events[-1]["sequence_number"]
                path = f"/v1/responses/{self.response_id}?stream=true&starting_after={number}"
                try:
                    async with (
                        httpx.AsyncClient(base_url=url, timeout=60) as client,
                        client.stream("GET", path) as response,
                    ):
                        await self._read(response)
                except httpx.TransportError:
                    await asyncio.sleep(0.1)

    async def _read(self, response: httpx.Response) -> None:
        assert response.status_code == 200, await response.aread()
        parser, got = SseParser(), 0
        try:
            async for data in response.aiter_bytes():
                for event in parser.feed(data):
                    told = json.loads(event.data)
                    if told["type"] == "error":
                        self.broken.append(told)
                        return
                    self.events.append(told)
                    got += 1
                    if got == self._cut_after:
                        return
        except httpx.TransportError:
            pass

    async def until(self, length: int) -> None:
        async with asyncio.timeout(60):
            while len(self.text) < length:
                await asyncio.sleep(0.01)

    def is_whole(self, script: dict = SCRIPT) -> None:
        assert [one["sequence_number"] for one in self.events] == list(range(len(self.events)))
        assert self.events[-1]["type"] == "response.completed"
        assert self.text == script_text(script)
        reasoning, message = self.events[-1]["response"]["output"]
        assert reasoning["summary"][0]["text"] == "".join(script_reasoning(script))
        assert message["content"][0]["text"] == self.text


async def test_a_response_that_is_cut_behind_every_event_is_whole(stack: Stack) -> None:
    reader = Reader(cut_after=1)
    await reader.begin(stack.client, SCRIPT)
    assert len(reader.events) == 1
    await reader.go_on(stack.apis[0].url)
    reader.is_whole()
    assert reader.comings > 20
    assert await read_response(stack.client, reader.response_id) == reader.events[-1]["response"]


async def test_a_killed_worker_s_response_goes_on(stack: Stack) -> None:
    reader = Reader()
    reading = asyncio.create_task(reader.begin(stack.client, {**HELD, "name": "on"}))
    await reader.until(500)
    (await stack.carrier(reader.response_id.removeprefix("resp_"))).kill()
    stack.provider.release("on")
    await reading
    reader.is_whole()
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
    await reader.go_on(other.url)
    reader.is_whole()


async def test_a_stopping_api_tells_its_reader_and_the_number_holds(stack: Stack) -> None:
    other = await stack.add_api()
    reader = Reader()
    reading = asyncio.create_task(reader.begin(stack.client, {**HELD, "name": "stop"}, background=True))
    await reader.until(300)
    await asyncio.to_thread(stack.apis[0].terminate)
    await reading
    assert not reader.ended
    (broken,) = reader.broken
    assert broken["code"] == "connection_ended"
    assert broken["sequence_number"] == reader.events[-1]["sequence_number"]
    stack.provider.release("stop")
    await reader.go_on(other.url)
    reader.is_whole()


async def test_a_page_that_was_reloaded_knows_the_id_alone(stack: Stack) -> None:
    first = Reader(cut_after=40)
    await first.begin(stack.client, SCRIPT)
    again = Reader()
    async with stack.client.stream("GET", f"/v1/responses/{first.response_id}?stream=true") as response:
        await again._read(response)
    again.is_whole()
    assert again.events[:40] == first.events


async def test_where_a_model_cannot_continue_the_response_has_failed(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=2) as stack:
        reader = Reader()
        reading = asyncio.create_task(reader.begin(stack.client, HELD))
        await reader.until(100)
        (await stack.carrier(reader.response_id.removeprefix("resp_"))).kill()
        await reading
        last = reader.events[-1]
        assert last["type"] == "response.failed"
        assert last["response"]["error"]["type"] == "worker_lost"
        assert script_text(SCRIPT).startswith(reader.text)
        assert last["response"]["output"][1]["content"][0]["text"] == reader.text


@pytest.mark.parametrize("linger", ["0", "30"])
async def test_a_trimmed_response_has_the_same_numbers(tmp_path: Path, linger: str) -> None:
    """Whoever reads it all gets the whole answer, numbered as for those who saw each piece; whoever wants to go on
    where the pieces are gone is told so."""
    settings = {"HEADRACE_LOG_CAP": "50", "HEADRACE_FLUSH_MS": "1", "HEADRACE_LINGER_S": linger}
    script = {**SCRIPT, "tokens": 600, "interval_ms": 8}
    async with running_stack(tmp_path, **settings) as stack:
        first = Reader()
        await first.begin(stack.client, script)
        first.is_whole(script)
        other = await stack.add_api()
        async with httpx.AsyncClient(base_url=other.url, timeout=60) as client:
            path = f"/v1/responses/{first.response_id}?stream=true"
            again = Reader()
            async with client.stream("GET", path) as response:
                await again._read(response)
            again.is_whole(script)
            assert len(again.events) == len(first.events)
            assert again.events[-1] == first.events[-1]
            told = await client.get(f"{path}&starting_after=12")
            assert (told.status_code, told.json()["error"]["code"]) == (400, "text_lost")
            for behind in (0, 1, len(first.events) - 3, len(first.events) - 9):
                rest = events_of((await client.get(f"{path}&starting_after={behind}")).content)
                assert [one["sequence_number"] for one in rest] == list(range(behind + 1, len(first.events)))
                assert rest[-1] == first.events[-1]
                if behind > 1:
                    assert rest == first.events[behind + 1 :]
