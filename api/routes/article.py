"""The article's endpoints, under its own paths and event names, and now resumable (see :mod:`api.dialects.plain`).

Each event's id names the stream too, ``<stream>/<cursor>``: EventSource comes back to the very same URL, and its
``Last-Event-ID`` says which stream to continue, so that no second one is made. The first bytes of an answer
carry an id, so that a connection lost before the first token starts no second generation either. (A redirect to
the stream's own URL would break ``curl`` without ``-L``, and httpx.)
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

import structlog
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError

from api.dialects import plain
from api.http.auth import OWNER, context, owner_of
from api.http.bodies import BodyRoute
from api.http.head_requests import IS_HEAD
from api.http.problems import documented
from api.routes.streams import beat
from api.schemas.requests import CreateStream
from api.viewing.batching import BatchLimits
from api.viewing.subscribe import (
    AWAY_NOW,
    CROWDED,
    MAX_BATCH,
    SPELLINGS,
    BatchMs,
    BatchSize,
    Returning,
    Wanted,
    bad_cursor,
    batch_of,
    come_back,
    cursor_in,
    open_own_viewer,
)
from shared.protocol.cursor import BadCursor, Cursor, parse_cursor
from shared.protocol.sse import encode_event, encode_id
from shared.redis import AWAY

PING_S: Final = 5.0
PING: Final = encode_event("ping", b"", None)
PAUSE_AFTER_S: Final = 30.0
ABANDON_AFTER_S: Final = 300.0

log = structlog.get_logger("api")

router = APIRouter(tags=["the article's endpoints"], route_class=BodyRoute)

_STREAMED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {}}, "description": "The answer as it comes"},
    204: {"description": "Last-Event-ID is the last event: nothing follows"},
    **documented(400, 401, 404, 413, 422, 429, 503),
}


class AskAware(BaseModel):
    """What is asked."""

    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(max_length=200)] = ""
    batch_size: BatchSize = None
    batch_ms: BatchMs = None

    def batches(self) -> BatchLimits | None:
        """The batches that are asked for; None: none."""
        return batch_of(self.batch_size, self.batch_ms)


class Ask(AskAware):
    """What is asked, and the form in which the answer comes."""

    mode: Literal["stream", "batch"] = "stream"
    max_size: Annotated[int, Field(ge=1, le=MAX_BATCH, description="pieces that fill a batch")] = 10
    flush_interval: Annotated[float, Field(ge=0.001, le=60, description="how long a piece may wait (s)")] = 0.1


class AskByUrl(Returning, Ask):
    """The same in a URL. Unknown names are refused as in a body: a mistyped one would cost a generation."""


class Ok(BaseModel):
    """The answer to a heartbeat."""

    status: Literal["ok"] = "ok"


LastEventId = Annotated[str | None, Header(alias="last-event-id", description="the id of the last event received")]


async def _cursor_of_post(request: Request, last_event_id: LastEventId = None) -> str | None:
    """The id of the last event received: from the header, or from the URL, where some libraries put it.

    Any other field in the URL of a POST would be ignored in silence: it is refused as one that is not known.
    """
    wrong = [
        {"type": "extra_forbidden", "loc": ("query", name), "msg": "send it in the body, not in the URL"}
        for name in request.query_params
        if name not in SPELLINGS
    ]
    if wrong:
        raise RequestValidationError(wrong)
    return cursor_in(request.query_params) if last_event_id is None else last_event_id


PostedCursor = Annotated[str | None, Depends(_cursor_of_post)]


@router.get("/chat/stream", response_class=Response, responses=_STREAMED)
async def stream_by_url(
    request: Request, ask: Annotated[AskByUrl, Query()], last_event_id: LastEventId = None
) -> Response:
    """Ask, and read the answer; an EventSource that comes back goes on with the same answer."""
    return await _stream(request, ask, ask.last_event_id if last_event_id is None else last_event_id)


@router.post("/chat/stream", response_class=Response, responses=_STREAMED)
async def stream(request: Request, ask: Ask, last_event_id: PostedCursor) -> Response:
    """Ask, and read the answer."""
    return await _stream(request, ask, last_event_id)


@router.post("/stream/aware", response_class=Response, responses=_STREAMED)
async def stream_aware(request: Request, ask: AskAware, last_event_id: PostedCursor) -> Response:
    """Ask, and read the answer; the model pauses while nobody reads and no heartbeat comes."""
    asked = CreateStream(
        model=ask.model,
        prompt=ask.prompt,
        on_failure="continue_or_fail",
        flow="client",
        pause_after=PAUSE_AFTER_S,
        abandon_after=ABANDON_AFTER_S,
    )
    return await _answer(
        request,
        asked,
        last_event_id,
        lambda stream_id: Wanted(
            stream_id,
            None,
            plain.speak,
            ask.batches(),
            preamble=encode_event("stream_id", stream_id.encode(), start_id(stream_id)),
            ping=PING,
            ping_s=PING_S,
        ),
    )


@router.post("/stream/heartbeat", responses=documented(401, 404, 422, 503))
async def heartbeat(request: Request, stream_id: str) -> Ok:
    """The client's sign of life."""
    await beat(request, stream_id)
    return Ok()


async def _stream(request: Request, ask: Ask, last_event_id: str | None) -> Response:
    asked = CreateStream(model=ask.model, prompt=ask.prompt, on_failure="continue_or_fail")

    def wanted(stream_id: str) -> Wanted:
        preamble = encode_id(start_id(stream_id))
        if ask.mode == "stream":
            return Wanted(stream_id, None, plain.speak, ask.batches(), preamble)
        batch = ask.batches() or BatchLimits(ask.max_size, ask.flush_interval)
        return Wanted(stream_id, None, plain.speak_batches, batch, preamble)

    return await _answer(request, asked, last_event_id, wanted)


async def _answer(
    request: Request, asked: CreateStream, last_event_id: str | None, wanted: Callable[[str], Wanted]
) -> Response:
    """Go on with the stream that Last-Event-ID names, or make one; then read it."""
    has = context(request)
    if has.viewing.full(request.scope[OWNER]):
        return come_back(has, CROWDED)
    if last_event_id:
        stream_id, position = read_id(last_event_id)
        reading = replace(wanted(stream_id), position=position)
    elif IS_HEAD in request.scope:
        return come_back(has, "nothing is made for HEAD")
    else:
        stream_id = (await has.creation.create(asked, owner_of(request), None)).stream_id
        reading = wanted(stream_id)
    try:
        return await open_own_viewer(request, reading)
    except (*AWAY, RedisError) as error:
        log.warning("viewer_sent_back", error=type(error).__name__)
        # The id goes along: a client that comes back with it continues the stream that was made.
        return come_back(has, AWAY_NOW, b"" if last_event_id else reading.preamble)


def start_id(stream_id: str) -> bytes:
    """The SSE id in front of all events of a stream."""
    return stream_id.encode() + b"/"


def read_id(last_event_id: str) -> tuple[str, Cursor | None]:
    """The stream and the cursor that an SSE id of these endpoints names. Raises :class:`Problem` (400)."""
    stream_id, _, rest = last_event_id.partition("/")
    try:
        return stream_id, parse_cursor(rest)
    except BadCursor:
        raise bad_cursor("6JEhHeqYA2iXsNxQhUyh5B9R/1795341803123-7") from None
