"""OpenAI's Responses, read whole: as of any record, what is asked at once is read once, and what nobody takes is
bounded."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from api.dialects.base import About
from api.dialects.responses import ResponsesDialect
from api.http.auth import OWNER
from api.http.problems import Problem
from api.http.unsent import Unsent
from api.routes.responses import ResponseQuery, read
from api.streams.records import Records
from api.viewing import viewer as viewer_module
from api.viewing.followed_log import FollowedLog
from api.viewing.viewer import Viewer
from shared.protocol.cursor import Cursor
from shared.protocol.transcript import snapshot_lines
from shared.store.streams import Reading

STREAM = "s" * 24
RECORD = {
    "owner": "ann",
    "status": "done",
    "attempt": "1",
    "created_ms": "1000",
    "snapshot_id": "2000-3",
    "index": "1",
    "text_from": "2000-0",
    "text_index": "1",
    "result": '{"finish_reason":"stop"}',
}


class Streams:
    """In place of :class:`shared.store.streams.Streams`: one answer, whose reads are counted."""

    def __init__(self, text: str) -> None:
        self.count = 0
        self.text = text

    async def fields(self, stream_id: str, *names: str) -> list[str | None]:
        return [RECORD.get(name) for name in names]

    async def read(self, stream_id: str) -> Reading:
        self.count += 1
        await asyncio.sleep(0.01)
        return Reading(RECORD, snapshot_lines([{"text": self.text}]), [])


def asked_of(streams: Streams) -> Any:
    """A request to an API process with these streams."""
    parts: Any = streams
    has = SimpleNamespace(streams=streams, records=Records(parts, unsent := Unsent()), unsent=unsent)
    return SimpleNamespace(app=SimpleNamespace(state=SimpleNamespace(context=has)), scope={OWNER: "ann"})


async def test_a_response_that_many_read_at_once_is_read_once() -> None:
    request = asked_of(streams := Streams("x"))
    answers = await asyncio.gather(*(read(request, f"resp_{STREAM}", ResponseQuery()) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert streams.count <= 2


async def test_responses_that_nobody_takes_are_bounded() -> None:
    """1,000 connections that read nothing held 4 MiB each."""
    has = (request := asked_of(streams := Streams("x" * 4_000_000))).app.state.context
    with contextlib.ExitStack() as callers:
        for n in range(8):
            streams.text = str(n) * 4_000_000
            answer: Any = await read(request, f"resp_{STREAM}", ResponseQuery())
            callers.enter_context(has.records.sent("ann", b"".join(answer._parts)))
        streams.text = "9" * 4_000_000
        with pytest.raises(Problem) as refused:
            await read(request, f"resp_{STREAM}", ResponseQuery())
    assert (refused.value.status, refused.value.code) == (429, "rate_limited")


async def test_a_number_that_no_event_has_costs_no_read_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them read the whole answer anew."""
    monkeypatch.setattr(viewer_module, "SHARED_S", 0.01)
    dialect = ResponsesDialect(About(STREAM, "m", 1000, 1))
    followed = FollowedLog(STREAM, b"log", dialect, Cursor(2000, 0), 1000)
    streams: Any = Streams("x")
    hub: Any = SimpleNamespace(page=nothing)

    async def find() -> Any:
        parts: Any = (hub, streams, followed, dialect, Cursor(2000, 0), lambda: False, None, Unsent(), "ann")
        return await Viewer(*parts).find(lambda known: known.behind(99))  # type: ignore[attr-defined]

    assert await asyncio.gather(*(find() for _ in range(50))) == [None] * 50
    assert streams.count == 1


async def nothing(*_: Any, **__: Any) -> list[Any]:
    return []
