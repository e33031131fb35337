"""The events route: reading a stream as SSE, by key or by read token.

EventSource gives up for ever on any status but 200. So 4xx here is for what stays so; trouble that passes (Redis
away, too many viewers) is a 200 that ends with ``retry:`` and a comment.
"""

from collections.abc import AsyncIterator
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Header, Query, Request, Response
from redis.exceptions import RedisError

from api.doors import OWNER, own_fields, services
from api.problems import Problem, documented
from api.responses import SseResponse
from api.services import Services
from api.viewer import RETRY_MS, Viewer
from shared.connections import AWAY
from shared.ids import BadCursor, Cursor, parse_cursor
from shared.sse import encode_comment, encode_retry

FULL: Final = "too many viewers of this stream"

log = structlog.get_logger("api")

router = APIRouter(prefix="/v1", tags=["reading"])


@router.get(
    "/streams/{stream_id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The events, replayed and live"},
        204: {"description": "The cursor is at the terminal event: nothing follows"},
        **documented(400, 401, 404, 413),
    },
)
async def events(
    request: Request,
    stream_id: str,
    last_event_id: Annotated[str | None, Header(description="the id of the last event received")] = None,
    cursor: Annotated[
        str | None, Query(alias="last_event_id", description="for those who can't set headers")
    ] = None,
    token: Annotated[str | None, Query(description="read token, in place of a key: as events_url has it")] = None,
) -> Response:
    """Read the answer as SSE, from behind the last event received; the header beats the query."""
    has = services(request)
    given = last_event_id if last_event_id is not None else cursor
    try:
        position = parse_cursor(given or "")
    except BadCursor:
        raise Problem(
            400,
            "bad_cursor",
            "Last-Event-ID must be the id of an event that you received, like 1795341803123-7, or be left out.",
        ) from None
    by_token = request.scope[OWNER] is None
    try:
        if by_token:
            await has.tokens.check(stream_id, token, returning=position is not None)
        if has.viewing.full:
            return _come_back(has, "too many viewers here")
        (raw,) = await own_fields(request, stream_id, "text_from", anyones=by_token)
        return await _open(has, stream_id, raw or "", position)
    except (*AWAY, RedisError) as error:
        log.warning("viewer_sent_back", error=type(error).__name__)
        return _come_back(has, "Redis is away")


async def _open(has: Services, stream_id: str, raw: str, position: Cursor | None) -> Response:
    text_from = parse_cursor(raw)
    assert text_from is not None
    with has.viewing.follow(stream_id, text_from) as follow:
        await has.viewing.loaded(follow)
        viewer = Viewer(has.reader, has.streams, follow, text_from, has.viewing.is_stopping)
        if not await viewer.open(position):
            return Response(status_code=204)

    async def chunks() -> AsyncIterator[bytes]:
        with has.viewing.follow(stream_id, text_from) as follow:
            viewer.attach(follow)
            async for chunk in viewer.stream():
                yield chunk

    return SseResponse(_seated(has, stream_id, has.viewing.counted(chunks())), has.watch, has.settings.keepalive_s)


async def _seated(has: Services, stream_id: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, for one who found a seat."""
    try:
        async with has.seats.taken(stream_id) as seated:
            if seated:
                async for chunk in chunks:
                    yield chunk
            else:
                yield _farewell(FULL)
    except (*AWAY, RedisError):
        yield _farewell("Redis is away")


def _come_back(has: Services, why: str) -> Response:
    """A 200 that ends, for trouble that passes."""

    async def chunks() -> AsyncIterator[bytes]:
        yield _farewell(why)

    return SseResponse(chunks(), has.watch, has.settings.keepalive_s)


def _farewell(why: str) -> bytes:
    return encode_retry(2 * RETRY_MS) + encode_comment(f"{why}; come back soon")
