"""The events route: reading a stream as SSE, by key or by read token.

EventSource gives up forever on any status but 200. So 4xx is only for permanent errors. Temporary ones are told in
a 200 (see :mod:`api.viewing.subscribe`).
"""

from typing import Annotated

import structlog
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field
from redis.exceptions import RedisError

from api.dialects import NATIVE, dialect, unasked
from api.dialects.base import About
from api.http.auth import OWNER, context, own_fields
from api.http.problems import Problem, documented
from api.viewing.subscribe import (
    AWAY_NOW,
    CROWDED,
    NEEDED,
    BatchMs,
    BatchSize,
    Returning,
    Wanted,
    bad_cursor,
    batch_of,
    come_back,
    open_viewer,
)
from shared.protocol.cursor import BadCursor, parse_cursor
from shared.redis import AWAY

log = structlog.get_logger("api")

router = APIRouter(prefix="/v1", tags=["reading"])


class EventsQuery(Returning):
    """The query of the events route."""

    token: str | None = Field(None, description="read token, in place of a key: as events_url has it")
    dialect: str = Field(NATIVE, max_length=50, description="how the events are spoken: native, openai, ...")
    batch_size: BatchSize = None
    batch_ms: BatchMs = None


@router.get(
    "/streams/{stream_id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The events, replayed and live"},
        204: {"description": "The cursor is at the terminal event: nothing follows"},
        **documented(400, 401, 404, 413, 422),
    },
)
async def events(
    request: Request,
    stream_id: str,
    asked: Annotated[EventsQuery, Query()],
    last_event_id: Annotated[str | None, Header(description="the id of the last event received")] = None,
) -> Response:
    """Read the answer as SSE, from behind the last event received; the header beats the query."""
    has = context(request)
    speak = dialect(asked.dialect)
    if speak is None:
        raise Problem(
            400,
            "unknown_dialect",
            f"There is no dialect {asked.dialect!r}. Leave it out for Headrace's own events.",
        )
    batches = batch_of(asked.batch_size, asked.batch_ms)
    if batches and speak(About("")).stateful:
        raise Problem(
            422,
            "invalid_request",
            f"The dialect {asked.dialect!r} knows no batches. Leave out batch_size and batch_ms.",
        )
    try:
        position = parse_cursor((asked.last_event_id if last_event_id is None else last_event_id) or "")
    except BadCursor:
        raise bad_cursor() from None
    try:
        if has.viewing.full(None):
            return come_back(has, CROWDED)
        if request.scope[OWNER] is None:
            record = await has.read_links.fields(stream_id, asked.token or "", position, *NEEDED)
            speak = unasked(speak)
        else:
            record = await own_fields(request, stream_id, *NEEDED)
        wanted = Wanted(stream_id, position, speak, batches)
        return await open_viewer(has, wanted, record)
    except (*AWAY, RedisError) as error:
        log.warning("viewer_sent_back", error=type(error).__name__)
        return come_back(has, AWAY_NOW)
