"""AG-UI: a run, and coming back to it (see :mod:`api.dialects.ag_ui` and :mod:`api.schemas.ag_ui`).

The run id is the key of the run's stream: by the HMAC of an ``Idempotency-Key`` it leads to the stream's id, so a
run that is asked for twice is made once, and a client that knows its id comes back to it at any API process:

- ``POST /ag-ui`` with the ``Last-Event-ID`` of an event goes on behind that. It makes nothing. Of the body it reads
  the run id alone, because a client that comes back may hold half of the answer among its messages;
- ``GET /ag-ui/{runId}`` reads from the first event, or from behind a ``Last-Event-ID``;
- ``GET /ag-ui?runId=…&offset=-1`` is the same, as TanStack's client asks for it.

TanStack's client is known by its header ``X-Run-Id``.
"""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api.dialects import Speak
from api.dialects.ag_ui import ASKED, place_of, speak, speak_to_tanstack
from api.http.auth import context, owner_of
from api.http.bodies import BodyRoute
from api.http.problems import Form, Problem, documented
from api.schemas.ag_ui import MAX_RUN_ID, RunId, run_id_of, run_request
from api.viewing.subscribe import Returning, Wanted, bad_cursor, open_own_viewer
from shared.protocol.cursor import BadCursor, Cursor

router = APIRouter(prefix="/ag-ui", tags=["AG-UI"], route_class=BodyRoute)

FROM_THE_START: Final = "-1"


class RunError(BaseModel):
    """The event that ends a run, and the body of every error response."""

    type: Literal["RUN_ERROR"] = "RUN_ERROR"
    message: str = Field(description="what happened and what to do; made for people")
    code: str = Field(description="stable; made for programs; /docs#errors lists all")


_STREAMED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {}}, "description": "The run's events"},
    **documented(
        *(400, 401, 404, 413, 422, 429, 503), schema=RunError.model_json_schema(), media_type="application/json"
    ),
}
LastEventId = Annotated[str | None, Header(description="the id of the last event received")]


class Joining(BaseModel):
    """The query by which TanStack's client asks for a run."""

    model_config = ConfigDict(extra="forbid")

    run_id: Annotated[RunId, Field(alias="runId")]
    offset: Annotated[str, Field(max_length=100, description="-1, or the id of the last event received")] = (
        FROM_THE_START
    )


@router.post("", response_class=Response, responses=_STREAMED)
async def run(
    request: Request,
    body: dict[str, Any],
    last_event_id: LastEventId = None,
    x_run_id: Annotated[str | None, Header(description="sent by TanStack's client alone")] = None,
) -> Response:
    """Run: create a stream, and read it as AG-UI's events; with a Last-Event-ID go on with one."""
    spoken = speak if x_run_id is None else speak_to_tanstack
    if last_event_id:
        return await _resume(request, run_id_of(body), last_event_id, spoken)
    asked = run_request(body)
    has = context(request)
    try:
        made = await has.creation.create(
            asked.asked, owner_of(request), _key(asked.run_id), shows_all=True, keeps={"asked": {ASKED: asked.ids}}
        )
    except Problem as problem:
        if problem.code == "idempotency_conflict":
            raise Problem(
                422,
                "idempotency_conflict",
                "This runId was used for another request. Use a new one for a new run; to come back to a run, send "
                "the Last-Event-ID too.",
            ) from None
        raise
    return await _read(request, made.stream_id, None, spoken)


@router.get("", response_class=Response, responses=_STREAMED)
async def join(request: Request, asked: Annotated[Joining, Query()], last_event_id: LastEventId = None) -> Response:
    """Read a run, as TanStack's client asks for it."""
    offset = "" if asked.offset == FROM_THE_START else asked.offset
    return await _resume(request, asked.run_id, last_event_id or offset, speak_to_tanstack)


@router.get("/{run_id:path}", response_class=Response, responses=_STREAMED)
async def read(
    request: Request, run_id: str, asked: Annotated[Returning, Query()], last_event_id: LastEventId = None
) -> Response:
    """Read a run: from its first event, or from behind the last one received."""
    return await _resume(request, run_id, last_event_id or asked.last_event_id or "", speak)


async def _resume(request: Request, run_id: str, last_event_id: str, spoken: Speak) -> Response:
    try:
        position = place_of(last_event_id)
    except BadCursor:
        raise bad_cursor() from None
    if not 0 < len(run_id) <= MAX_RUN_ID:
        raise _no_such_run()
    stream_id = await context(request).creation.stream_id(owner_of(request), _key(run_id))
    return await _read(request, stream_id, position, spoken)


async def _read(request: Request, stream_id: str, position: Cursor | None, spoken: Speak) -> Response:
    try:
        return await open_own_viewer(request, Wanted(stream_id, position, spoken, foreign=True))
    except Problem as problem:
        raise (_no_such_run() if problem.status == 404 else problem) from None


def _key(run_id: str) -> str:
    return f"{ASKED}:{run_id}"


def _no_such_run() -> Problem:
    return Problem(
        404,
        "stream_not_found",
        "There is no such run. It may have expired or been erased; ask again with a new runId.",
    )


def run_error(problem: Problem) -> Response:
    """A problem as the event that tells it, under its status: AG-UI's client raises an error with the status, and
    with this as its ``payload``."""
    event = RunError(message=problem.detail, code=problem.code)
    return JSONResponse(event.model_dump(), problem.status, headers=problem.headers)


ERROR_FORMS: Final[dict[str, Form]] = {"/ag-ui": run_error}
