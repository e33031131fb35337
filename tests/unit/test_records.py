"""Records on their way to callers: few are read at a time, and few bytes wait for callers that take nothing."""

import asyncio
import contextlib
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from api.http import sliced_response
from api.http.connections import CONNECTION
from api.http.problems import Problem
from api.http.sliced_response import SlicedResponse
from api.http.unsent import READ_AT_ONCE, Unsent
from api.streams import records as module
from api.streams.records import Records
from tests.support.served import GET, WITHIN_S, served

MIB = 1024 * 1024


class Reads:
    """In place of :func:`read_record`: records of a size, each of which is another one where ``grows``."""

    def __init__(self, size: int, *, grows: bool = True) -> None:
        self.size = size
        self.grows = grows
        self.count = self.at_once = self.most_at_once = 0

    async def __call__(self, streams: Any, stream_id: str, tell: Any) -> bytes | None:
        self.count += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        number = self.count if self.grows else 0
        await asyncio.sleep(0.01)
        self.at_once -= 1
        return b"%08d" % number + bytes(self.size - 8)


def records(monkeypatch: pytest.MonkeyPatch, reads: Reads) -> Records:
    monkeypatch.setattr(module, "read_record", reads)
    nothing: Any = None
    return Records(nothing, Unsent())


async def test_a_key_whose_records_nobody_takes_is_refused_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = Reads(4 * MIB)
    has = records(monkeypatch, reads)
    with contextlib.ExitStack() as callers:
        for _ in range(8):
            record = await has.get("mob", "a")
            assert record is not None
            callers.enter_context(has.sent("mob", record))
        with pytest.raises(Problem) as refused:
            await has.get("mob", "a")
        assert (refused.value.status, refused.value.code) == (429, "rate_limited")
        assert "32 MiB" in refused.value.detail
        assert await has.get("ann", "b")
    assert await has.get("mob", "a")


async def test_records_that_come_together_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(4 * MIB)
    has = records(monkeypatch, reads)
    held = contextlib.ExitStack()

    async def ask(stream_id: str) -> None:
        if (record := await has.get("mob", stream_id)) is not None:
            held.enter_context(has.sent("mob", record))

    with held:
        told = await asyncio.gather(*(ask(f"{n}") for n in range(30)), return_exceptions=True)
    assert sum(isinstance(one, Problem) for one in told) == 22
    assert reads.most_at_once == READ_AT_ONCE


async def test_callers_to_whom_the_same_is_sent_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    has = records(monkeypatch, Reads(4 * MIB, grows=False))
    with contextlib.ExitStack() as callers:
        first = await has.get("mob", "a")
        assert first is not None
        callers.enter_context(has.sent("mob", first))
        for _ in range(20):
            record = await has.get("mob", "a")
            assert record is first
            callers.enter_context(has.sent("mob", first))


async def test_one_record_of_any_size_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(40 * MIB)
    has = records(monkeypatch, reads)
    record = await has.get("mob", "a")
    assert record
    with has.sent("mob", record), pytest.raises(Problem):
        await has.get("mob", "a")
    assert reads.count == 1, "a key that is refused anyway costs no read"


async def test_a_body_is_sent_no_faster_than_it_is_taken_and_cut_off_where_nobody_takes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sliced_response, "TAKE_S", 0.3)
    large = bytes(16 * MIB)
    held = [0]
    sent = [0]
    cut_off: list[bool] = []

    @contextlib.contextmanager
    def holding() -> Any:
        held[0] += 1
        yield
        held[0] -= 1

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Any) -> None:
            await send(message)
            sent[0] += len(message.get("body", b""))

        await SlicedResponse((large, b"end"), holding())(scope, receive, counted)
        cut_off.append(scope[CONNECTION]().transport.is_closing())

    async with served(app) as port, asyncio.timeout(4 * WITHIN_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(GET)
        await reader.readuntil(b"200 OK")
        while not held[0] or sent[0] < 1:
            await asyncio.sleep(0.01)
        while held[0]:
            await asyncio.sleep(0.01)
        assert sent[0] < len(large)
        assert cut_off == [True]
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: %d" % (len(large) + 3) in head
        assert await reader.readexactly(len(large) + 3) == large + b"end"
        writer.close()
