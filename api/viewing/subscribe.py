"""Opening a viewer's response: from a cursor to an SSE response, in any dialect.

Trouble that passes (Redis away, too many viewers) is a 200 that ends with ``retry:`` and a comment, for EventSource
gives up for ever on any other status.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import structlog
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from redis.exceptions import RedisError

from api.context import Context
from api.dialects.base import Dialect
from api.http.problems import Problem
from api.http.sink import Sink
from api.http.sse_response import SseResponse
from api.viewing.batching import BatchLimits
from api.viewing.viewer import RETRY_MS, BatchedViewer, Viewer
from shared.protocol.cursor import Cursor, parse_cursor
from shared.protocol.sse import COMMENT, encode_comment, encode_retry
from shared.redis import AWAY

NEEDED: Final = ("text_from", "pause_after_ms", "owner", "created_ms")
"""Fields of a stream's record."""
FULL: Final = "too many viewers of this stream"
OFTEN: Final = "opened too often"
CROWDED: Final = "too many viewers here"
AWAY_NOW: Final = "Redis is away"
LOAD_TIMEOUT_S: Final = 5.0
"""A log that was not read once within this time tells that Redis is away."""
MAX_BATCH: Final = 1000
MAX_BATCH_MS: Final = 60_000
"""A proxy closes what says nothing for a minute."""
BatchSize = Annotated[
    int | None, Field(ge=1, le=MAX_BATCH, description="gather so many pieces of the answer into one event")
]
BatchMs = Annotated[
    int | None,
    Field(ge=1, le=MAX_BATCH_MS, description="gather for so long (with batch_size: whichever is first)"),
]

SPELLINGS: Final = ("lastEventId", "lastEventID", "last_event_id")
"""Names of a cursor in a URL. Those of libraries come first: on a reconnect they add theirs to a URL that may
still hold the page's own, older one."""

log = structlog.get_logger("api")


class Returning(BaseModel):
    """The query of an address that is read as SSE. A name that is not known is refused: a mistyped cursor would
    bring the whole answer again at each reconnect."""

    model_config = ConfigDict(extra="forbid")

    last_event_id: str | None = Field(
        None, description="for those who can't set headers; also as lastEventId and lastEventID"
    )

    @model_validator(mode="before")
    @classmethod
    def _under_one_name(cls, sent: dict[str, Any]) -> dict[str, Any]:
        named = {name: value for name, value in sent.items() if name not in SPELLINGS}
        cursor = cursor_in(sent)
        return named if cursor is None else {**named, "last_event_id": cursor}


def cursor_in(query: Mapping[str, Any]) -> str | None:
    """The cursor that a query holds under one of its names; None for none."""
    return next((query[name] for name in SPELLINGS if name in query), None)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a viewer wants: a stream, from behind ``position`` (None: from the start), spoken in a dialect."""

    stream_id: str
    position: Cursor | None
    dialect: Dialect
    batch: BatchLimits | None = None
    preamble: bytes = b""
    """Sent before everything else."""
    ping: bytes = COMMENT
    """What keeps proxies awake."""
    ping_s: float | None = None
    """How often; None: as it is configured."""


async def open_viewer(has: Context, wanted: Wanted, record: Sequence[str | None]) -> Response:
    """The response that a viewer reads; 204 where it has seen everything.

    ``record``: the fields :data:`NEEDED` of the stream's record. Raises one of AWAY, or a RedisError.
    """
    text_from, pause_after_ms, owner, created_ms = record
    owner = owner or ""
    if has.viewing.full(owner):
        return come_back(has, CROWDED, wanted.preamble)
    first = parse_cursor(text_from or "")
    assert first is not None
    if wait_s := has.opens.admit(wanted.stream_id, owner):
        return come_back(has, OFTEN, b"" if wanted.position else wanted.preamble, wait_s)
    sink = Sink()
    followed_as = (wanted.stream_id, wanted.dialect, first, int(created_ms or 0))
    with has.hub.follow(*followed_as) as followed:
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            await followed.loaded.wait()
        parts = (has.hub, has.streams, followed, first, has.viewing.is_stopping, sink, has.unsent, owner)
        viewer = Viewer(*parts) if wanted.batch is None else BatchedViewer(*parts, wanted.batch)
        if not await viewer.open(wanted.position):
            return Response(status_code=204)

    # One generator for everything: each that stands in between costs every chunk of every viewer a hop.
    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            async with has.seats.taken(wanted.stream_id) as seated:
                if not seated:
                    yield _farewell(FULL)
                    return
                if has.viewing.full(owner):  # it was not, before others came
                    yield _farewell(CROWDED)
                    return
                with has.viewing.counted(owner), has.hub.follow(*followed_as) as followed:
                    viewer.attach(followed)
                    async with has.presence.shown(wanted.stream_id, pause_after_ms):
                        yield encode_retry(RETRY_MS) + wanted.preamble
                        async for chunk in viewer.stream():
                            yield chunk
        except (*AWAY, RedisError):
            yield _farewell(AWAY_NOW)

    return SseResponse(chunks(), sink, has.watch, wanted.ping_s or has.settings.keepalive_s, wanted.ping)


def come_back(has: Context, why: str, preamble: bytes = b"", wait_s: float = 0) -> Response:
    """A 200 that ends, for trouble that passes, perhaps after so long."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield _farewell(why, wait_s) + preamble

    return SseResponse(chunks(), Sink(), has.watch, has.settings.keepalive_s)


def _farewell(why: str, wait_s: float = 0) -> bytes:
    return encode_retry(2 * RETRY_MS + int(wait_s * 1000)) + encode_comment(f"{why}; come back soon")


def batch_of(size: int | None, age_ms: float | None) -> BatchLimits | None:
    """The batches that a viewer asked for, by size or age or both; None: none."""
    if size is None and age_ms is None:
        return None
    return BatchLimits(size or MAX_BATCH, (MAX_BATCH_MS if age_ms is None else age_ms) / 1000)


def bad_cursor(example: str = "1795341803123-7") -> Problem:
    """A Last-Event-ID that can't be one; ``example``: what one looks like there."""
    return Problem(
        400,
        "bad_cursor",
        f"Last-Event-ID must be the id of an event that you received, like {example}, or be left out.",
    )
