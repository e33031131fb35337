"""What a provider sent waits until it is read: nothing is lost by waiting, it is bounded, and it is no silence."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shared.protocol.events import Delta
from tests.support.bytes_server import CLOSE, bytes_server
from tests.support.open_answer import FINISH, HEAD, Wire, opened, said
from tests.support.provider_calls import ask, at, calm_client
from tests.support.scripted_provider import ScriptedProvider, script_text
from worker.providers.base import Batch
from worker.providers.decoder import TAKE_BYTES
from worker.providers.http import connection as connection_module
from worker.providers.http.connection import DirectConnection
from worker.providers.stream import ProviderStream


class Turns:
    """Hears an answer, but pulls only when it is told to. ``told``: how often a hint came."""

    def __init__(self, stream: ProviderStream) -> None:
        self.heard: list[Delta] = []
        self.told = 0
        self.last: Batch | None = None
        self._stream = stream
        stream.listen(self.ready)

    @property
    def text(self) -> str:
        return "".join(delta.get("text", "") for delta in self.heard)

    @property
    def error(self) -> str:
        """Why it ended; '' for a whole answer."""
        assert self.last is not None
        error = self.last.error
        return "" if error is None else error.code

    def read(self) -> None:
        batch = self._stream.read()
        self.heard += batch.deltas
        self.last = batch if batch.ended else None

    def ready(self) -> None:
        self.told += 1

    async def until_told(self) -> None:
        async with asyncio.timeout(60):
            while not self.told:
                await asyncio.sleep(0.005)

    async def to_end(self, every_s: float = 0.005) -> None:
        async with asyncio.timeout(60):
            while self.last is None:
                self.read()
                await asyncio.sleep(every_s)


@asynccontextmanager
async def turns(base_url: str, script: dict[str, Any], **settings: Any) -> AsyncIterator[Turns]:
    async with calm_client(**settings) as client, client.answer(at(base_url), ask(script)) as stream:
        yield Turns(stream)


async def test_reads_wait_and_are_heard_in_one_turn(upstream: ScriptedProvider) -> None:
    script = {"tokens": 20, "interval_ms": 5}
    async with turns(upstream.base_url, script) as listening:
        await listening.until_told()
        await asyncio.sleep(0.5)
        assert listening.heard == []
        assert listening.told <= 4, "once to begin with, twice for all that lies unread, once at the end"
        listening.read()
        assert listening.text == script_text(script)
        await listening.to_end()
        assert listening.error == ""


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([HEAD, said("a"), said("b"), FINISH, CLOSE], ""),
        ([HEAD, said("a"), said("b"), CLOSE], "upstream_cut"),
        ([HEAD, said("a"), said("b"), b"data: {nonsense\n\n"], "provider_garbage"),
    ],
)
async def test_a_fault_stands_behind_all_that_came_before_it(pieces: list[bytes], error: str) -> None:
    async with bytes_server(lambda n: pieces) as server, turns(server.url(), {}) as listening:
        await listening.until_told()
        await asyncio.sleep(0.1)
        assert listening.last is None
        listening.read()
        assert listening.text == "ab"
        await listening.to_end()
        assert listening.error == error


async def test_unread_bytes_are_no_silence(upstream: ScriptedProvider) -> None:
    async with turns(upstream.base_url, {"tokens": 3, "hang_after": 3}, idle_timeout_s=0.2) as listening:
        await listening.until_told()
        await asyncio.sleep(0.6)
        listening.read()
        await asyncio.sleep(0.1)
        listening.read()
        assert listening.last is None
        await listening.to_end()
        assert (listening.error, listening.text) == ("upstream_silent", script_text({"tokens": 3}))


async def test_comments_alone_are_a_silence_however_late_they_are_read(upstream: ScriptedProvider) -> None:
    script = {"hang_after": 1, "keepalive_ms": 20}
    limits = {"idle_timeout_s": 0.2, "liveness_timeout_s": 0.4}
    async with turns(upstream.base_url, script, **limits) as listening:
        await listening.to_end()
        assert listening.error == "upstream_silent"


async def test_time_in_which_the_provider_was_held_does_not_count() -> None:
    upstream, stream = await opened(wire := Wire())
    listening = Turns(stream)
    upstream.data_received(said("a"))
    listening.read()
    event = said("x" * 100_000)
    upstream.data_received(event[:60_000])
    assert not wire.reads
    await asyncio.sleep(0.5)
    listening.read()
    assert wire.reads
    upstream.data_received(event[60_000:])
    for _ in range(len(event) // TAKE_BYTES + 2):
        listening.read()
    assert listening.text == "a" + "x" * 100_000
    assert listening.last is None
    stream.close()


async def test_packed_events_may_be_many_and_are_read_in_some_turns() -> None:
    upstream, stream = await opened(Wire(), "gzip")
    listening = Turns(stream)
    words = [f"w{n}" for n in range(40_000)]
    upstream.data_received(gzip.compress(b"".join(map(said, words))))
    for _ in range(len(words) * len(said("w10000")) // TAKE_BYTES + 2):
        listening.read()
    assert listening.last is None
    assert listening.text == "".join(words)
    stream.close()


async def test_what_lies_unread_when_the_provider_closes_is_read_before_the_end() -> None:
    upstream, stream = await opened(Wire())
    listening = Turns(stream)
    upstream.data_received(said("a" * 2 * TAKE_BYTES))
    listening.read()  # the rest of this event waits in the decoder
    late = said("b" * 1000) + FINISH
    upstream.data_received(late[:500])
    upstream.data_received(late[500:])
    upstream.connection_lost(None)
    for _ in range(8):
        if listening.last is None:
            listening.read()
    assert (listening.error, listening.text) == ("", "a" * 2 * TAKE_BYTES + "b" * 1000)
    stream.close()


async def test_an_end_mark_is_an_end_though_the_body_has_none() -> None:
    pieces = [HEAD, said("a"), FINISH, b"data: [DONE]\n\n", *[b": still here\n\n"] * 2000]
    async with bytes_server(lambda n: pieces) as server, turns(server.url(), {}) as listening:
        await listening.to_end()
        assert listening.error == ""


async def test_unread_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MAX_UNREAD_BYTES", 10_000)
    taken = 0
    real = DirectConnection.data_received

    def received(self: DirectConnection, data: bytes) -> None:
        nonlocal taken
        taken += len(data)
        real(self, data)

    monkeypatch.setattr(DirectConnection, "data_received", received)
    pieces: list[bytes] = [HEAD, *[said("x" * 1000) * 500] * 10, FINISH, CLOSE]
    async with (
        bytes_server(lambda n: pieces) as server,
        turns(server.url(), {}, max_answer_bytes=1 << 30) as listening,
    ):
        await listening.until_told()
        await asyncio.sleep(0.5)
        assert taken < 1_000_000
        await listening.to_end(0)
        assert listening.error == ""
    assert listening.text == "x" * 5_000_000
