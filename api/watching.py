"""The events route: reading a stream as SSE, by key or by read token.

EventSource gives up for ever on any status but 200. So 4xx here is for what stays so; trouble that passes is told
in a 200 (see :mod:`api.opening`).
"""

from typing import Any, Final

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from redis.exceptions import RedisError

from api.dialects.native import NativeDialect
from api.direct import Way
from api.doors import EVENTS, OWNER, own_fields, services
from api.opening import AWAY_NOW, MAX_BATCH, MAX_BATCH_MS, Wanted, bad_cursor, batch_of, come_back, open_viewer
from api.problems import documented
from shared.ids import BadCursor, parse_cursor
from shared.redis import AWAY

log = structlog.get_logger("api")

router = APIRouter(prefix="/v1", tags=["reading"])


class Asked(BaseModel):
    """The query of the events route."""

    last_event_id: str | None = Field(None, description="for those who can't set headers")
    token: str | None = Field(None, description="read token, in place of a key: as events_url has it")
    batch_size: int | None = Field(
        None, ge=1, le=MAX_BATCH, description="gather so many pieces of the answer into one event"
    )
    batch_ms: int | None = Field(
        None, ge=1, le=MAX_BATCH_MS, description="gather for so long (with batch_size: whichever is first)"
    )


def _asked(request: Request) -> Asked:
    """Read the query. FastAPI's own way to a function's parameters takes an eighth of the time in which a viewer is
    opened, and thousands come back at once. Raises ``RequestValidationError``."""
    try:
        return Asked.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise RequestValidationError(
            [{**found, "loc": ("query", *found["loc"])} for found in error.errors()]
        ) from None


def _parameters() -> list[dict[str, Any]]:
    """The query and the header, for the document."""
    query = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in Asked.model_json_schema()["properties"].items()
    ]
    cursor = {"type": "string", "description": "the id of the last event received"}
    return [*query, {"name": "Last-Event-ID", "in": "header", "required": False, "schema": cursor}]


@router.get(
    "/streams/{stream_id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The events, replayed and live"},
        204: {"description": "The cursor is at the terminal event: nothing follows"},
        **documented(400, 401, 404, 413, 422),
    },
    openapi_extra={"parameters": _parameters()},
)
async def events(request: Request, stream_id: str) -> Response:
    """Read the answer as SSE, from behind the last event received; the header beats the query."""
    has = services(request)
    asked = _asked(request)
    header = request.headers.get("last-event-id")
    try:
        position = parse_cursor((asked.last_event_id if header is None else header) or "")
    except BadCursor:
        raise bad_cursor() from None
    by_token = request.scope[OWNER] is None
    try:
        if by_token:
            await has.tokens.check(stream_id, asked.token, returning=position is not None)
        if has.viewing.full:
            return come_back(has, "too many viewers here")
        text_from, pause = await own_fields(request, stream_id, "text_from", "pause_after_ms", anyones=by_token)
        wanted = Wanted(stream_id, position, NativeDialect(), batch_of(asked.batch_size, asked.batch_ms))
        return await open_viewer(has, wanted, text_from or "", pause)
    except (*AWAY, RedisError) as error:
        log.warning("viewer_sent_back", error=type(error).__name__)
        return come_back(has, AWAY_NOW)


WAY: Final = Way("GET", EVENTS, events)
