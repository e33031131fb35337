"""The ``/v1`` routes."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header, Query, Request, Response
from redis.exceptions import RedisError

from api.answers import Created, Model, Models, describe, links
from api.problems import Problem, ProblemDocument, no_such_stream
from api.requests import Cancel, CreateStream
from api.responses import SseResponse
from api.services import Services
from api.viewer import RETRY_MS, Viewer
from shared.connections import AWAY
from shared.events import encode_data
from shared.ids import BadCursor, Cursor, is_stream_id, parse_cursor
from shared.sse import encode_comment, encode_retry
from shared.streams import new_nonce

log = structlog.get_logger("api")

router = APIRouter(
    prefix="/v1",
    responses={
        status: {"model": ProblemDocument, "content": {"application/problem+json": {}}}
        for status in (400, 404, 413, 422, 503)
    },
)


def services(request: Request) -> Services:
    """What the composition root made."""
    found: Services = request.app.state.services
    return found


@router.post("/streams", status_code=202, response_model=Created)
async def create(
    request: Request,
    response: Response,
    asked: CreateStream,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> dict[str, str]:
    """Enqueue one generation. Send an ``Idempotency-Key`` to make repeating the call harmless."""
    stream_id, status, model, met = await services(request).creation.create(asked, "", idempotency_key)
    response.headers["Location"] = links(stream_id)["url"]
    if met:
        response.headers["Idempotency-Replayed"] = "true"
    return {"id": stream_id, "status": status, "model": model, **links(stream_id)}


@router.get("/streams/{stream_id}")
async def read(request: Request, stream_id: str) -> dict[str, Any]:
    """The record: status, everything said so far, usage, timings, and the last event's id."""
    has = services(request)
    if is_stream_id(stream_id):
        record = await has.streams.record(stream_id)
        reading = await has.streams.read(stream_id)
        if record and reading is not None:
            return describe(stream_id, record, reading)
    raise no_such_stream()


@router.get(
    "/streams/{stream_id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "The events, replayed and live"},
        204: {"description": "The cursor is at the terminal event: nothing follows"},
    },
)
async def events(
    request: Request,
    stream_id: str,
    last_event_id: Annotated[str | None, Header(description="the id of the last event received")] = None,
    cursor: Annotated[
        str | None, Query(alias="last_event_id", description="for those who can't set headers")
    ] = None,
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
    if not is_stream_id(stream_id):
        raise no_such_stream()
    if has.viewing.full:
        return _come_back(has, "too many viewers here")
    try:
        return await _open(has, stream_id, position)
    except (*AWAY, RedisError) as error:
        log.warning("viewer_sent_back", error=type(error).__name__)
        return _come_back(has, "Redis is away")


async def _open(has: Services, stream_id: str, position: Cursor | None) -> Response:
    status, raw = await has.streams.fields(stream_id, "status", "text_from")
    if status is None or raw is None:
        raise no_such_stream()
    text_from = parse_cursor(raw)
    assert text_from is not None
    async with has.viewing.follow(stream_id, text_from) as follow:
        await has.viewing.loaded(follow)
        viewer = Viewer(has.reader, has.streams, follow, text_from, has.viewing.is_stopping)
        if not await viewer.open(position):
            return Response(status_code=204)

    async def chunks() -> AsyncIterator[bytes]:
        async with has.viewing.follow(stream_id, text_from) as follow:
            viewer.attach(follow)
            async for chunk in viewer.stream():
                yield chunk

    return SseResponse(has.viewing.counted(chunks()), has.watch, has.settings.keepalive_s)


def _come_back(has: Services, why: str) -> Response:
    """EventSource gives up for ever on any status but 200, so temporary trouble is a 200 that ends."""

    async def chunks() -> AsyncIterator[bytes]:
        yield encode_retry(2 * RETRY_MS) + encode_comment(f"{why}; come back soon")

    return SseResponse(chunks(), has.watch, has.settings.keepalive_s)


@router.post("/streams/{stream_id}/cancel", response_model=Created)
async def cancel(request: Request, stream_id: str, asked: Cancel | None = None) -> dict[str, str]:
    """Stop a stream; its upstream connection closes within a second. One that ended stays as it is."""
    has = services(request)
    model = (await has.streams.fields(stream_id, "model"))[0] if is_stream_id(stream_id) else None
    if model is None:
        raise no_such_stream()
    data = encode_data({"by": "client", "reason": (asked or Cancel()).reason})
    answer = await has.cancellation.cancel(stream_id, data, new_nonce())
    if answer[0] == "gone":
        raise no_such_stream()
    status = "cancelled" if answer[0] == "cancelled" else answer[1]
    return {"id": stream_id, "status": status, "model": model, **links(stream_id)}


@router.delete("/streams/{stream_id}", status_code=204)
async def erase(request: Request, stream_id: str) -> None:
    """Erase a stream, running or not, with everything that was said."""
    has = services(request)
    if not is_stream_id(stream_id) or not await has.cancellation.erase(stream_id):
        raise no_such_stream()


@router.post("/streams/{stream_id}/heartbeat", status_code=204)
async def heartbeat(request: Request, stream_id: str) -> None:
    """A viewer's sign of life."""
    has = services(request)
    if not is_stream_id(stream_id) or (await has.streams.fields(stream_id, "status"))[0] is None:
        raise no_such_stream()
    await has.streams.heartbeat(stream_id)


@router.get("/models", response_model=Models)
async def models(request: Request) -> Models:
    """The models that can be asked for."""
    has = services(request)
    found = [
        Model(id=f"{provider.name}/{name}", provider=provider.name)
        for provider in has.providers.values()
        if provider.missing is None
        for name in provider.models or ("*",)
    ]
    return Models(default=has.settings.default_model, models=found)
