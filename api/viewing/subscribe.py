"""Opening a viewer's response: from a cursor to an SSE response, in any dialect.

Trouble that passes (Redis away, too many viewers) is a 200 that ends with ``retry:`` and a comment, because
EventSource gives up forever on any other status. A client of another protocol gets a 503 (``Wanted.foreign``).
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, NamedTuple

import structlog
from fastapi import Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from redis.exceptions import RedisError

from api.context import Context
from api.dialects import Speak
from api.dialects.base import About, Dialect, StartingPoint
from api.dialects.native import NativeDialect
from api.http.auth import context, own_fields
from api.http.connections import CONNECTION
from api.http.problems import Problem
from api.http.sink import Sink
from api.http.sse_response import SseResponse
from api.viewing.batching import BatchLimits
from api.viewing.followed_log import FollowedLog
from api.viewing.viewer import RETRY_MS, BatchedViewer, Find, State, Viewer
from shared.protocol.cursor import Cursor, parse_cursor
from shared.protocol.sse import COMMENT, encode_comment, encode_retry
from shared.redis import AWAY

STREAM: Final = "X-Headrace-Stream"
"""The header that names the stream of a response."""
NEEDED: Final = ("text_from", "pause_after_ms", "owner", "created_ms", "model", "text_index", "asked")
"""Fields of a stream's record."""
FULL: Final = "too many viewers of this stream"
OFTEN: Final = "opened too often"
CROWDED: Final = "too many viewers here"
AWAY_NOW: Final = "Redis is away"
LOOK_S: Final = 0.5
"""Between two looks at a connection to which nothing is written."""
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
"""Names of a cursor in a URL. Those of libraries come first: on a reconnect a library adds its own to a URL that
may still hold the page's older one."""

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
    speak: Speak
    batch: BatchLimits | None = None
    preamble: bytes = b""
    """Sent before everything else."""
    ping: bytes = COMMENT
    """What keeps proxies awake."""
    ping_s: float | None = None
    """How often; None: as it is configured."""
    foreign: bool = False
    """The client speaks another protocol. Trouble in front of the first byte is told by a status, because such a
    client tries again by that and not by ``retry:``. The response names its stream (:data:`STREAM`). Where nothing
    follows it is an empty 200 and no 204, because such a client wants a body.
    """
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the response, beside those of every SSE response."""
    find: Find | None = None
    """What finds the place instead of ``position``."""


class _Stream(NamedTuple):
    """A stream as viewers need it: the fields :data:`NEEDED` of its record."""

    about: About
    text_from: Cursor
    owner: str
    pause_after_ms: str | None

    @classmethod
    def of(cls, stream_id: str, record: Sequence[str | None]) -> "_Stream":
        text_from, pause_after_ms, owner, created_ms, model, text_index, asked = record
        first = parse_cursor(text_from or "")
        assert first is not None
        about = About(stream_id, model or "", int(created_ms or 0), int(text_index or 0), asked or "")
        return cls(about, first, owner or "", pause_after_ms)

    def follow(self, has: Context, dialect: Dialect) -> AbstractContextManager[FollowedLog]:
        """Its log in this dialect, which stands in front of everything."""
        return has.hub.follow(self.about.stream_id, dialect, self.text_from, self.about.created_ms)

    async def viewer(
        self, has: Context, followed: FollowedLog, dialect: Dialect, sink: Sink, batch: BatchLimits | None = None
    ) -> Viewer:
        """A viewer of this log, which was read once by then. Raises TimeoutError (one of AWAY)."""
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            await followed.loaded.wait()
        stopping = has.viewing.is_stopping
        parts = (has.hub, has.streams, followed, dialect, self.text_from, stopping, sink, has.unsent, self.owner)
        return Viewer(*parts) if batch is None else BatchedViewer(*parts, batch)


async def open_own_viewer(request: Request, wanted: Wanted) -> Response:
    """As :func:`open_viewer`, of a stream that belongs to the caller. Raises :class:`Problem` (404), too."""
    return await open_viewer(context(request), wanted, await own_fields(request, wanted.stream_id, *NEEDED))


async def open_viewer(has: Context, wanted: Wanted, record: Sequence[str | None]) -> Response:
    """The response that a viewer reads; 204 where it has seen everything.

    ``record``: the fields :data:`NEEDED` of the stream's record. Raises :class:`Problem` where the viewer is
    ``foreign`` or is placed by ``find``, one of AWAY, or a RedisError.
    """
    stream = _Stream.of(wanted.stream_id, record)
    owner = stream.owner
    if has.viewing.full(owner):
        return _sent_back(has, wanted, CROWDED, wanted.preamble)
    if wait_s := has.opens.admit(wanted.stream_id, owner):
        return _sent_back(has, wanted, OFTEN, b"" if wanted.position else wanted.preamble, wait_s)
    sink = Sink()
    headers = {STREAM: wanted.stream_id, **wanted.headers} if wanted.foreign else wanted.headers

    def follow() -> AbstractContextManager[FollowedLog]:
        return stream.follow(has, wanted.speak(stream.about))

    with follow() as followed:
        about = stream.about._replace(asked=followed.shared(stream.about.asked))
        viewer = await stream.viewer(has, followed, wanted.speak(about), sink, wanted.batch)
        place = StartingPoint(wanted.position, 0) if wanted.find is None else await viewer.find(wanted.find)
        if place is None:
            raise Problem(
                400, "bad_cursor", "No event of this stream has that number yet. Name one that you received."
            )
        if not await viewer.open(place.cursor):
            return Response(b"", 200, headers, "text/event-stream") if wanted.foreign else Response(status_code=204)

    # One generator for everything: each that stands in between costs every chunk of every viewer a hop.
    async def chunks() -> AsyncGenerator[bytes, None]:
        seen = place.seen
        try:
            async with has.viewer_quota.taken(wanted.stream_id) as seated:
                if not seated:
                    yield _farewell(FULL) + viewer.parting()
                    return
                if has.viewing.full(owner):  # it was not, before others came
                    yield _farewell(CROWDED) + viewer.parting()
                    return
                with has.viewing.counted(owner), follow() as followed:
                    viewer.attach(followed)
                    async with has.presence.shown(wanted.stream_id, stream.pause_after_ms):
                        yield encode_retry(RETRY_MS) + wanted.preamble
                        async for chunk in viewer.stream():
                            if seen:
                                chunk, seen = _without(chunk, seen)
                            yield chunk
        except (*AWAY, RedisError):
            yield _farewell(AWAY_NOW) + viewer.parting()

    response = SseResponse(chunks(), sink, has.watch, wanted.ping_s or has.settings.keepalive_s, wanted.ping)
    response.headers.update(headers)
    return response


def _without(chunk: bytes, count: int) -> tuple[bytes, int]:
    """Whole events, without the first ``count`` ones. Out: also how many are still to be left out."""
    events = chunk.split(b"\n\n", count)
    return events[-1], count + 1 - len(events)


async def read_to_end(request: Request, stream_id: str) -> bool:
    """Wait until a stream of the caller's has ended, as a viewer to whom nothing is sent. Out: False where that
    can't be awaited here: the caller has left, this process stops, or Redis is away.

    Raises :class:`Problem` (404, 503), or what reading the record raises (one of AWAY, or a RedisError).
    """
    has = context(request)
    stream = _Stream.of(stream_id, await own_fields(request, stream_id, *NEEDED))
    if has.viewing.full(stream.owner):
        raise _crowded(CROWDED)
    left = asyncio.create_task(_has_left(request))
    try:
        with has.viewing.counted(stream.owner), stream.follow(has, NativeDialect()) as followed:
            async with has.presence.shown(stream_id, stream.pause_after_ms):
                viewer = await stream.viewer(has, followed, NativeDialect(), Sink())
                await viewer.open(None)
                reading = asyncio.create_task(_drain(viewer))
                await asyncio.wait((left, reading), return_when=asyncio.FIRST_COMPLETED)
                reading.cancel()
                return viewer.state is State.ENDED
    except (*AWAY, RedisError):
        return False
    finally:
        left.cancel()


async def _drain(viewer: Viewer) -> None:
    async for _ in viewer.stream():
        pass


async def _has_left(request: Request) -> None:
    """Wait until the caller closes the connection, or its sending side. Most have left then; one that has not can
    ask again with its Idempotency-Key."""
    lost = asyncio.ensure_future(request.receive())  # nothing else comes behind a body that was read
    try:
        while not lost.done():
            connection = request.scope[CONNECTION]()
            if connection is None or connection.half_closed:
                return
            await asyncio.wait((lost,), timeout=LOOK_S)
    finally:
        lost.cancel()


def _sent_back(has: Context, wanted: Wanted, why: str, preamble: bytes, wait_s: float = 0) -> Response:
    if wanted.foreign:
        raise _crowded(why, wait_s)
    return come_back(has, why, preamble, wait_s)


def _crowded(why: str, wait_s: float = 0) -> Problem:
    return Problem(
        503,
        "viewers_full",
        f"This can't be read here now: {why}. Try again in a moment; the stream goes on.",
        headers={"Retry-After": str(2 + int(wait_s))},
    )


def come_back(has: Context, why: str, preamble: bytes = b"", wait_s: float = 0) -> Response:
    """A 200 that ends with a request to come back, after ``wait_s`` or the usual time."""

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
