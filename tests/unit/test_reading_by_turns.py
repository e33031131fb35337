"""What a provider sent waits until it is read: nothing is lost by waiting, it is bounded, and it is no silence."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.bytes_server import CLOSE, bytes_server
from tests.support.provider_calls import ask, at, calm_client, text_of, tls
from tests.support.scripted_provider import ScriptedProvider, script_text
from worker.providers import upstream as upstream_module
from worker.providers.answer import Answer
from worker.providers.base import ProviderError, ProviderEvent
from worker.providers.openai_stream import OpenAIReader
from worker.providers.upstream import Upstream
from worker.providers.upstreams import Lent, Upstreams

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
FINISH = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'


def said(text: str) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text.encode()


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


class Wire(asyncio.Transport):
    """A socket without a peer, whose bytes come from a test."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        return None

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def abort(self) -> None:
        self.reads = False


async def opened(wire: Wire, *headers: str) -> tuple[Upstream, Answer]:
    """An answer whose head has come; it may keep silent for 0.2 s."""
    upstream = Upstream()
    upstream.connection_made(wire)
    asking = asyncio.create_task(upstream.ask(b""))
    await asyncio.sleep(0)
    head = "".join(f"{line}\r\n" for line in ("HTTP/1.1 200 OK", *headers, ""))
    upstream.data_received(head.encode())
    lent = Lent(Upstreams(1.0, tls()), ("http", "x", 1), upstream)
    return upstream, Answer(at("http://x"), OpenAIReader(), lent, await asking, 5.0, 0.2)


class Turns:
    """Hears an answer, but reads it only when it is told to. ``told``: how often something was there for it."""

    def __init__(self, answer: Answer) -> None:
        self.heard: list[ProviderEvent] = []
        self.told = 0
        self.pauses = False
        self._answer = answer
        self.end = asyncio.create_task(answer.tell(self.hear, self.ready))

    def read(self) -> None:
        self._answer.read()

    def hear(self, event: ProviderEvent) -> bool:
        self.heard.append(event)
        return self.pauses

    def ready(self) -> None:
        self.told += 1

    async def until_told(self) -> None:
        async with asyncio.timeout(5):
            while not self.told:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def turns(base_url: str, script: dict[str, Any], **settings: Any) -> AsyncIterator[Turns]:
    async with calm_client(**settings) as client, client.answer(at(base_url), ask(script)) as answer:
        listening = Turns(answer)
        try:
            yield listening
        finally:
            listening.end.cancel()
            await asyncio.wait([listening.end])


async def test_reads_wait_and_are_heard_in_one_turn(scripted: ScriptedProvider) -> None:
    script = {"tokens": 20, "interval_ms": 5}
    async with turns(scripted.base_url, script) as listening:
        await listening.until_told()
        await asyncio.sleep(0.5)
        assert listening.heard == []
        assert listening.told <= 3, "once for what came with the head, twice for all behind it"
        listening.read()
        assert text_of(listening.heard) == script_text(script)
        async with asyncio.timeout(5):
            while not listening.end.done():
                listening.read()
                await asyncio.sleep(0.01)
        assert await listening.end


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([HEAD, said("a"), said("b"), FINISH, CLOSE], ""),
        ([HEAD, said("a"), said("b"), CLOSE], "upstream_cut"),
        ([HEAD, said("a"), said("b"), b"data: nonsense\n\n"], "provider_garbage"),
    ],
)
async def test_a_fault_stands_behind_all_that_came_before_it(pieces: list[bytes], error: str) -> None:
    async with bytes_server(lambda n: pieces) as server, turns(server.url(), {}) as listening:
        await listening.until_told()
        await asyncio.sleep(0.1)
        assert not listening.end.done()
        listening.read()
        assert text_of(listening.heard) == "ab"
        async with asyncio.timeout(5):
            if error:
                with pytest.raises(ProviderError) as caught:
                    await listening.end
                assert caught.value.code == error
            else:
                assert await listening.end


async def test_what_waits_is_no_silence(scripted: ScriptedProvider) -> None:
    async with turns(scripted.base_url, {"tokens": 3, "hang_after": 3}, idle_timeout_s=0.2) as listening:
        await listening.until_told()
        await asyncio.sleep(0.6)
        listening.read()
        await asyncio.sleep(0.1)
        assert not listening.end.done()
        with pytest.raises(ProviderError) as caught:
            async with asyncio.timeout(5):
                await listening.end
    assert (caught.value.code, text_of(listening.heard)) == ("upstream_silent", script_text({"tokens": 3}))


async def test_nothing_but_comments_is_a_silence_however_late_it_is_read(scripted: ScriptedProvider) -> None:
    script = {"hang_after": 1, "keepalive_ms": 20}
    async with turns(scripted.base_url, script, idle_timeout_s=0.2) as listening:
        async with asyncio.timeout(5):
            while not listening.end.done():
                listening.read()
                await asyncio.sleep(0.005)
        with pytest.raises(ProviderError) as caught:
            await listening.end
    assert caught.value.code == "upstream_silent"


async def test_who_is_held_back_by_a_pause_is_not_silent() -> None:
    upstream, answer = await opened(wire := Wire())
    listening = Turns(answer)
    listening.pauses = True
    await asyncio.sleep(0)
    upstream.data_received(said("a"))
    listening.read()
    assert await listening.end is False
    listening.end = asyncio.create_task(answer.tell(listening.hear, listening.ready))
    await asyncio.sleep(0.5)
    assert not wire.reads
    listening.read()
    await asyncio.sleep(0)
    assert wire.reads
    upstream.data_received(said("b"))
    listening.read()
    assert (await listening.end, text_of(listening.heard)) == (False, "ab")
    answer.close()


async def test_who_is_held_back_in_the_middle_of_an_event_is_not_silent() -> None:
    upstream, answer = await opened(wire := Wire())
    listening = Turns(answer)
    await asyncio.sleep(0)
    upstream.data_received(said("a"))
    listening.read()
    event = said("x" * 100_000)
    upstream.data_received(event[:60_000])
    assert not wire.reads
    await asyncio.sleep(0.5)
    listening.read()
    await asyncio.sleep(0)
    assert wire.reads
    assert not listening.end.done()
    upstream.data_received(event[60_000:])
    listening.read()
    assert text_of(listening.heard) == "a" + "x" * 100_000
    listening.end.cancel()
    answer.close()


async def test_packed_events_may_be_many_and_are_read_together() -> None:
    upstream, answer = await opened(Wire(), "Content-Encoding: gzip")
    listening = Turns(answer)
    await asyncio.sleep(0)
    words = [f"w{n}" for n in range(40_000)]
    upstream.data_received(gzip.compress(b"".join(map(said, words))))
    listening.read()
    assert not listening.end.done()
    assert text_of(listening.heard) == "".join(words)
    listening.end.cancel()
    answer.close()


async def test_an_end_mark_is_an_end_though_the_body_has_none() -> None:
    pieces = [HEAD, said("a"), FINISH, b"data: [DONE]\n\n", *[b": still here\n\n"] * 2000]
    async with bytes_server(lambda n: pieces) as server, turns(server.url(), {}) as listening:
        async with asyncio.timeout(5):
            while not listening.end.done():
                listening.read()
                await asyncio.sleep(0.005)
        assert await listening.end


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "MAX_UNREAD_BYTES", 10_000)
    taken = 0
    real = Upstream.data_received

    def received(self: Upstream, data: bytes) -> None:
        nonlocal taken
        taken += len(data)
        real(self, data)

    monkeypatch.setattr(Upstream, "data_received", received)
    pieces: list[bytes] = [HEAD, *[said("x" * 1000) * 500] * 10, FINISH, CLOSE]
    async with bytes_server(lambda n: pieces) as server, turns(server.url(), {}) as listening:
        await listening.until_told()
        await asyncio.sleep(0.5)
        assert taken < 1_000_000
        async with asyncio.timeout(20):
            while not listening.end.done():
                listening.read()
                await asyncio.sleep(0)
        assert await listening.end
    assert text_of(listening.heard) == "x" * 5_000_000
