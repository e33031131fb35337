"""The ``/v1`` routes of an existing stream. :mod:`api.routes.creating` creates one, and :mod:`api.routes.watching`
has its events."""

import contextlib
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError

from api.http.auth import context, own_fields, owner_of
from api.http.bodies import BodyRoute
from api.http.prefix import prefix_of
from api.http.problems import documented, no_such_stream
from api.http.sliced_response import SlicedResponse
from api.schemas.requests import Cancel
from api.streams.records import Created, Links
from shared.redis import AWAY

router = APIRouter(prefix="/v1", tags=["streams"], responses=documented(401, 413, 422, 503), route_class=BodyRoute)


@router.get("/streams/{stream_id}", responses=documented(404, 429))
async def read(request: Request, stream_id: str) -> Response:
    """The record: status, everything said so far, usage, timings, and the last event's id."""
    has = context(request)
    (created_ms,) = await own_fields(request, stream_id, "created_ms")
    links = msgspec.json.encode(await has.read_links.links(stream_id, int(created_ms or 0), prefix_of(request)))
    owner = owner_of(request)
    record = await has.records.get(owner, stream_id)  # await nothing behind this: unsent bytes count from sent() on
    if record is None:
        raise no_such_stream()
    return SlicedResponse((memoryview(record)[:-1], b"," + links[1:]), has.records.sent(owner, record))


@router.post("/streams/{stream_id}/token", response_model=Links, responses=documented(404))
async def renew(request: Request, stream_id: str) -> dict[str, Any]:
    """Links with a new read token; a viewer goes on behind its last event with either."""
    has = context(request)
    (created_ms,) = await own_fields(request, stream_id, "created_ms")
    found = await has.read_links.links(stream_id, int(created_ms or 0), prefix_of(request))
    return {"id": stream_id, **found, "expires_in_s": has.read_links.expires_in_s()}


@router.post("/streams/{stream_id}/cancel", response_model=Created, responses=documented(400, 404))
async def cancel(request: Request, stream_id: str, asked: Cancel | None = None) -> dict[str, str]:
    """Stop a stream; its upstream connection closes within a second. One that ended stays as it is."""
    has = context(request)
    model, created_ms = await own_fields(request, stream_id, "model", "created_ms")
    answer = await has.cancellation.cancel(stream_id, (asked or Cancel()).reason)
    if answer[0] == "gone":
        raise no_such_stream()
    status = "cancelled" if answer[0] == "cancelled" else answer[1]
    found = await has.read_links.links(stream_id, int(created_ms or 0), prefix_of(request))
    return {"id": stream_id, "status": status, "model": model or "", **found}


@router.delete("/streams/{stream_id}", status_code=204, responses=documented(404))
async def erase(request: Request, stream_id: str) -> None:
    """Erase a stream, running or not, with everything that was said."""
    has = context(request)
    await own_fields(request, stream_id)
    if not await has.cancellation.erase(stream_id, owner_of(request)):
        raise no_such_stream()
    with contextlib.suppress(*AWAY, RedisError):
        await has.admission.forget(owner_of(request), stream_id)


@router.post("/streams/{stream_id}/heartbeat", status_code=204, responses=documented(404))
async def heartbeat(request: Request, stream_id: str) -> None:
    """A viewer's sign of life."""
    await beat(request, stream_id)


async def beat(request: Request, stream_id: str) -> None:
    """Note a sign of life, where the stream wants to know. Raises :class:`Problem` (404)."""
    (pause,) = await own_fields(request, stream_id, "pause_after_ms")
    await context(request).presence.beat(stream_id, pause)
