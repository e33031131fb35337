"""The route that creates a stream."""

import json
import re
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Header, Request, Response

from api.answers import Created
from api.direct import Way
from api.doors import owner_of, services
from api.problems import documented
from api.requests import CreateStream

router = APIRouter(prefix="/v1", tags=["streams"], responses=documented(401, 413, 422, 503))


@router.post("/streams", status_code=202, response_model=Created, responses=documented(400, 429))
async def create(
    request: Request, asked: CreateStream, idempotency_key: Annotated[str | None, Header()] = None
) -> Response:
    """Enqueue one generation. Send an ``Idempotency-Key`` to make repeating the call harmless."""
    has = services(request)
    stream_id, status, model, met = await has.creation.create(asked, owner_of(request), idempotency_key)
    found = await has.tokens.links(stream_id)
    headers = {"Location": found["url"]}
    if met:
        headers["Idempotency-Replayed"] = "true"
    answer = msgspec.json.encode({"id": stream_id, "status": status, "model": model, **found})
    return Response(answer, 202, headers, "application/json")


async def _create_directly(request: Request) -> Response | None:
    """See :class:`api.direct.Way`. The body is read as FastAPI reads it."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return None
    try:
        asked = CreateStream.model_validate(json.loads(await request.body()))
    except (ValueError, RecursionError):
        return None
    return await create(request, asked, request.headers.get("idempotency-key"))


WAY: Final = Way("POST", re.compile("/v1/streams"), _create_directly)
