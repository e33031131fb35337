"""The route that creates a stream."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Request, Response

from api.http.auth import context, owner_of
from api.http.bodies import BodyRoute
from api.http.prefix import prefix_of
from api.http.problems import documented
from api.schemas.requests import CreateStream
from api.streams.records import Created

router = APIRouter(prefix="/v1", tags=["streams"], responses=documented(401, 413, 422, 503), route_class=BodyRoute)


@router.post("/streams", status_code=202, response_model=Created, responses=documented(400, 429))
async def create(
    request: Request, asked: CreateStream, idempotency_key: Annotated[str | None, Header()] = None
) -> Response:
    """Enqueue one generation. Send an ``Idempotency-Key`` to make repeating the call harmless."""
    has = context(request)
    made = await has.creation.create(asked, owner_of(request), idempotency_key)
    found = await has.read_links.links(made.stream_id, made.created_ms, prefix_of(request))
    answer = msgspec.json.encode({"id": made.stream_id, "status": made.status, "model": made.model, **found})
    return Response(answer, 202, {"Location": found["url"], **made.headers}, "application/json")
