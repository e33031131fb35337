"""Errors before the first byte: problem documents (RFC 9457) with a stable ``code`` and a sentence for people."""

import http
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from api.http.validation import faults
from shared.redis import AWAY, is_out_of_memory

log = structlog.get_logger("api")

MAX_PATH: Final = 200
"""Characters of a path that are logged."""
MAX_TOLD: Final = 1000
"""Characters of a wrong field's name, and of what is told of it."""
MEDIA_TYPE: Final = "application/problem+json"
Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]
BAD_JSON: Final = "The body is not JSON. Send a JSON object as application/json, in UTF-8."


class ProblemDocument(BaseModel):
    """The fields of every error response."""

    type: str = Field(description="urn:headrace:<code>")
    title: str
    status: int
    code: str = Field(description="stable; made for programs; /docs#errors lists all")
    detail: str = Field(description="what happened and what to do; made for people")


class Problem(Exception):
    """Ends a request with a problem document. ``extra``: more fields. ``headers``: more headers of the response."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers
        self.extra = extra

    def response(self) -> JSONResponse:
        """The response of this problem."""
        document = ProblemDocument(
            type=f"urn:headrace:{self.code}",
            title=http.HTTPStatus(self.status).phrase,
            status=self.status,
            code=self.code,
            detail=self.detail,
        )
        return JSONResponse(
            {**document.model_dump(), **self.extra}, self.status, headers=self.headers, media_type=MEDIA_TYPE
        )


def documented(
    *statuses: int, schema: Mapping[str, Any] | None = None, media_type: str = MEDIA_TYPE
) -> dict[int | str, dict[str, Any]]:
    """These statuses for the OpenAPI document, each with a problem document as its body, or with what ``schema``
    describes."""
    body = {"schema": schema or {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}
    return {
        status: {"description": http.HTTPStatus(status).phrase, "content": {media_type: body}}
        for status in statuses
    }


def no_such_stream() -> Problem:
    """An unknown stream, an expired one, and that of another owner: the three look the same."""
    return Problem(
        404,
        "stream_not_found",
        "There is no such stream. It may have expired or been erased; create a new one.",
    )


def body_too_large() -> Problem:
    """The request's body has more than ``HEADRACE_MAX_BODY_BYTES``."""
    return Problem(413, "body_too_large", "The body is larger than HEADRACE_MAX_BODY_BYTES allows. Send less.")


def unusable(code: str, errors: Sequence[Mapping[str, str]]) -> Problem:
    """The request has wrong fields. In: ``field`` and ``message`` of each. Both may repeat what the caller sent, so
    they are cut, and half a surrogate pair, which can't be sent, is replaced."""
    errors = [{name: _readable(text) for name, text in one.items()} for one in errors]
    sentence = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
    return Problem(422, code, f"The request can't be used: {sentence}.", errors=errors)


def _readable(text: str) -> str:
    cut = text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]}…"
    return cut.encode("utf-8", "replace").decode()


def redis_away() -> Problem:
    """Redis does not reply."""
    return Problem(
        503,
        "redis_unavailable",
        "Redis does not answer. Try again in a few seconds. With the same Idempotency-Key nothing starts twice.",
        headers={"Retry-After": "2"},
    )


def redis_full() -> Problem:
    """Redis refuses writes at its memory limit."""
    return Problem(
        503,
        "redis_full",
        "Redis is at its memory limit, or so near to it that the rest is kept for running streams, so nothing was "
        "started. Try again later; the operator can raise maxmemory or shorten HEADRACE_RETENTION_S.",
        headers={"Retry-After": "30"},
    )


Form = Callable[[Problem], Response]
"""How a protocol says a problem."""


def refuse(scope: Scope, problem: Problem) -> Response:
    """The response of a problem, in the form of the protocol whose path was asked; the log and the metrics tell of
    it. (The path holds no read token.)"""
    path = scope["path"][:MAX_PATH]
    log.info("request_refused", method=scope["method"], path=path, status=problem.status, code=problem.code)
    state = scope["app"].state
    state.metrics.refused(problem.code)
    forms: Mapping[str, Form] = getattr(state, "error_forms", {})
    form = next((form for prefix, form in forms.items() if path.startswith(prefix)), Problem.response)
    return form(problem)


def handlers() -> dict[int | type[Exception], Handler]:
    """The handlers that turn every error into a problem document, by the error's class."""

    async def problem(request: Request, error: Problem) -> Response:
        return refuse(request.scope, error)

    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return refuse(request.scope, _invalid(error, request.headers.get("content-type", "")))

    async def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 413:
            return refuse(request.scope, body_too_large())
        code = {400: "bad_json", 404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        detail = {
            400: BAD_JSON,
            404: "There is nothing at this address. /docs lists what there is.",
            405: "This address knows other methods. /docs lists them.",
        }.get(error.status_code, str(error.detail))
        headers = dict(error.headers) if error.headers else None
        return refuse(request.scope, Problem(error.status_code, code, detail, headers=headers))

    async def away(request: Request, error: Exception) -> Response:
        log.warning("redis_unavailable", path=request.url.path, error=type(error).__name__)
        return refuse(request.scope, redis_full() if is_out_of_memory(error) else redis_away())

    async def internal(request: Request, error: Exception) -> Response:
        # uvicorn logs the traceback.
        log.error("internal_error", path=request.url.path, error=type(error).__name__)
        detail = "Something is broken here, and it was written to the log. Trying again may help."
        return refuse(request.scope, Problem(500, "internal_error", detail))

    return {
        Problem: problem,
        RequestValidationError: invalid,
        HTTPException: http_error,
        Exception: internal,
        **dict.fromkeys((*AWAY, RedisError), away),
    }


def _invalid(error: RequestValidationError, content_type: str) -> Problem:
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return Problem(400, "bad_json", BAD_JSON)
    errors = faults(found, error.body, content_type)
    unknown = all(item["type"] == "extra_forbidden" for item in found)
    code = "unknown_field" if unknown else "invalid_request"
    return unusable(code, errors)
