"""OpenAI's chat completions and its list of models (see :mod:`api.dialects.openai`).

A caller reads the answer from the response of its own request. A client that knows Headrace resumes: the response
names the stream (``X-Headrace-Stream``), the chunks carry ids, and ``GET /v1/streams/{id}/events?dialect=openai``
goes on behind one of them. When nobody reads any more the generation goes on for ``HEADRACE_GRACE_S``, and is
cancelled then (:func:`api.schemas.foreign.while_read`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from api.dialects.openai import completion_id, error, finish_reason, speak, speak_with_usage, usage
from api.http.auth import context, owner_of
from api.http.bodies import BodyRoute
from api.http.problems import Form, Problem, documented, redis_away
from api.http.sliced_response import SlicedResponse
from api.schemas.openai import completion_request
from api.viewing.subscribe import STREAM, Wanted, open_own_viewer, read_to_end

router = APIRouter(prefix="/v1", tags=["OpenAI's API"], route_class=BodyRoute)

JSON: Final = "application/json"


class OpenAIError(BaseModel):
    """What an error response holds, in OpenAI's form."""

    error: dict[str, str | None] = Field(description="message, type, param, code")


class Model(BaseModel):
    """A model that can be asked for, as OpenAI lists it."""

    id: str = Field(description="provider/name")
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str
    provider: str


class Models(BaseModel):
    """The configured models, as OpenAI lists them. A provider without a list takes any name: ``<provider>/*``."""

    object: Literal["list"] = "list"
    data: list[Model]
    default: str
    models: list[Model] = Field(description="the same as data")


def openai_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses for the OpenAPI document, each with OpenAI's error as its body."""
    return documented(*statuses, schema=OpenAIError.model_json_schema(), media_type=JSON)


@router.post(
    "/chat/completions",
    response_class=Response,
    responses={
        200: {"content": {"application/json": {}, "text/event-stream": {}}, "description": "Whole, or as it comes"},
        **openai_errors(400, 401, 404, 409, 413, 429, 502, 503),
    },
)
async def complete(
    request: Request, body: dict[str, Any], idempotency_key: Annotated[str | None, Header()] = None
) -> Response:
    """Create a chat completion, as OpenAI's API has it: as a stream of chunks, or whole."""
    has = context(request)
    asked = completion_request(body, has.settings.grace_s)
    made = await has.creation.create(asked.asked, owner_of(request), idempotency_key, shows_all=True)
    if asked.stream:
        spoken = speak_with_usage if asked.usage else speak
        return await open_own_viewer(
            request, Wanted(made.stream_id, None, spoken, foreign=True, headers=made.headers)
        )
    headers = {STREAM: made.stream_id, **made.headers}
    if not await read_to_end(request, made.stream_id):
        raise Problem(
            503,
            "connection_ended",
            "The answer is not whole yet, and this connection ends. With the same Idempotency-Key you get it.",
            headers={"Retry-After": "2", **headers},
        )
    found = await has.records.get(owner_of(request), made.stream_id)
    if found is None:
        raise redis_away()
    answer = completion(msgspec.json.decode(found), made.created_ms, headers)
    answer = has.records.admit(owner_of(request), answer)
    return SlicedResponse((answer,), has.records.sent(owner_of(request), answer), headers)


def completion(record: Mapping[str, Any], created_ms: int, headers: Mapping[str, str]) -> bytes:
    """The whole answer of a record, as JSON. Raises :class:`Problem` where it failed or was stopped."""
    if record["status"] == "failed":
        data = record["error"]
        raise Problem(502 if data["retryable"] else 400, data["code"], data["message"], headers=dict(headers))
    if record["status"] == "cancelled":
        raise Problem(409, "cancelled", "The answer was stopped before its end. Ask again.", headers=dict(headers))
    content = record["text"] or (None if record.get("tool_calls") else "")
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if record.get("reasoning"):
        message["reasoning_content"] = record["reasoning"]
    if record.get("tool_calls"):
        message["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"] or "", "arguments": call["arguments"]},
            }
            for call in record["tool_calls"]
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(record)}
    answer = {
        "id": completion_id(record["id"]),
        "object": "chat.completion",
        "created": created_ms // 1000,
        "model": record["model"],
        "choices": [choice],
        "usage": usage(record),
    }
    return msgspec.json.encode(answer)


@router.get("/models", response_model=Models, responses=documented(401))
async def models(request: Request) -> Models:
    """The models that can be asked for, as OpenAI lists them, and the default one."""
    has = context(request)
    found = [
        Model(id=f"{provider.name}/{name}", owned_by=provider.name, provider=provider.name)
        for provider in has.providers.values()
        if provider.missing is None
        for name in provider.models or ("*",)
    ]
    return Models(data=found, default=has.settings.default_model, models=found)


UNKNOWN: Final = frozenset({"unknown_model", "unknown_provider", "provider_not_configured"})
"""Codes of a model that is not there."""
TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def openai_error(problem: Problem) -> Response:
    """A problem as OpenAI's API says it: its libraries choose an exception by the status, and show the message."""
    return JSONResponse({"error": _error_of(problem)}, _status_of(problem), headers=problem.headers)


def both(problem: Problem) -> Response:
    """A problem document with OpenAI's error in it: for a path that callers of both kinds ask."""
    more = {**problem.extra, "error": _error_of(problem)}
    return Problem(problem.status, problem.code, problem.detail, headers=problem.headers, **more).response()


def _status_of(problem: Problem) -> int:
    if problem.code in UNKNOWN:
        return 404
    return 400 if problem.status == 422 else problem.status


def _error_of(problem: Problem) -> dict[str, str | None]:
    status = _status_of(problem)
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    fields = problem.extra.get("errors") or [{}]
    return error(problem.code, problem.detail, kind, fields[0].get("field"))


ERROR_FORMS: Final[dict[str, Form]] = {"/v1/chat/completions": openai_error, "/v1/models": both}
