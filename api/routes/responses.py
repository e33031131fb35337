"""OpenAI's Responses (see :mod:`api.dialects.responses`): creating, reading and resuming, cancelling, deleting.

A response is a stream, and its id holds the stream's. It can be read, running or not, for as long as the stream is
kept: from its first event, or from behind any other (``starting_after``). The record keeps what OpenAI's API tells
later of a request: the fields that the response object repeats and, unless ``store`` is false, the input, with that
of the responses in front of it (``previous_response_id``). So a conversation also goes on where an earlier response
has expired. With ``store: false`` nothing is found any more when the response has ended.

A ``background`` response runs whether anybody reads or not. Any other goes on for ``HEADRACE_GRACE_S`` when its
caller has left, and is cancelled then.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.dialects.base import About, Dialect, StartingPoint
from api.dialects.responses import PREFIXES, ResponsesDialect, output_of, respond, response_id, speak
from api.http.auth import context, own_fields, owner_of
from api.http.bodies import BodyRoute
from api.http.problems import Form, Problem
from api.http.sliced_response import SlicedResponse
from api.routes.openai import JSON, openai_error, openai_errors
from api.routes.streams import erase
from api.schemas.responses import ASKED, previous_response, response_request
from api.viewing.subscribe import (
    NEEDED,
    STREAM,
    Wanted,
    bad_cursor,
    open_own_viewer,
    open_viewer,
    read_to_end,
)
from shared.protocol.cursor import BadCursor, parse_cursor
from shared.protocol.events import TERMINAL
from shared.store.streams import Reading

router = APIRouter(prefix="/v1/responses", tags=["OpenAI's API"], route_class=BodyRoute)

MAX_PAGE: Final = 100
WHOLE: Final[Mapping[str, Any]] = {JSON: {}}
OR_EVENTS: Final[Mapping[str, Any]] = {**WHOLE, "text/event-stream": {}}
PREFIX: Final = response_id("")


def _answers(*statuses: int, content: Mapping[str, Any] = WHOLE) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document tells of an operation."""
    told = {"content": dict(content), "description": "As OpenAI's API has it"}
    return {200: told, **openai_errors(401, 503, *statuses)}


class ResponseQuery(BaseModel):
    """The query of a response's address."""

    model_config = ConfigDict(extra="forbid")

    stream: bool = False
    starting_after: Annotated[
        int | None, Field(ge=0, le=2**53, description="the sequence_number of the last event received")
    ] = None
    include: list[str] = Field([], description="passed over")
    include_: list[str] = Field([], alias="include[]", description="the same")
    include_obfuscation: bool = False


class ItemsPage(BaseModel):
    """The query of the input items."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = Field(None, description="the id of the last item received")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 20
    order: Literal["asc", "desc"] = "desc"
    include: list[str] = Field([], description="passed over")
    include_: list[str] = Field([], alias="include[]", description="the same")


@router.post("", response_class=Response, responses=_answers(400, 404, 413, 429, content=OR_EVENTS))
async def create(
    request: Request, body: dict[str, Any], idempotency_key: Annotated[str | None, Header()] = None
) -> Response:
    """Create a response, as OpenAI's API has it: as a stream of events, whole, or in the background."""
    has = context(request)
    previous = previous_response(body)
    history = [] if previous is None else await _history(request, previous)
    asked = response_request(body, history, has.settings.grace_s)
    made = await has.creation.create(
        asked.asked, owner_of(request), idempotency_key, shows_all=True, keeps=asked.keeps
    )
    if asked.stream:
        return await open_own_viewer(
            request, Wanted(made.stream_id, None, speak, foreign=True, headers=made.headers)
        )
    if not asked.background and not await read_to_end(request, made.stream_id):
        raise Problem(
            503,
            "connection_ended",
            f"This connection ends before the response does. It goes on: read {PREFIX}{made.stream_id}.",
            # A create that is repeated would make, and pay, another one.
            headers={"x-should-retry": "false", STREAM: made.stream_id, **made.headers},
        )
    return await _whole(request, made.stream_id, made.headers)


@router.get("/{response}", response_class=Response, responses=_answers(400, 404, content=OR_EVENTS))
async def read(
    request: Request,
    response: str,
    asked: Annotated[ResponseQuery, Query()],
    last_event_id: Annotated[str | None, Header(description="the id of the last event received")] = None,
) -> Response:
    """The response as it is now; or its events, replayed and live: all, or those behind ``starting_after``. An
    EventSource that comes back goes on behind its last event."""
    if not asked.stream:
        if asked.starting_after is not None:
            raise _wrong("starting_after", "it stands with stream=true alone")
        stream_id, _ = await _visible(request, response)
        return await _whole(request, stream_id)
    stream_id, record = await _visible(request, response, *NEEDED)
    try:
        position = parse_cursor(last_event_id or "")
    except BadCursor:
        raise bad_cursor() from None
    find = None
    if position is None and asked.starting_after is not None:
        find = _behind(response, asked.starting_after)
    return await open_viewer(context(request), Wanted(stream_id, position, speak, foreign=True, find=find), record)


@router.post("/{response}/cancel", response_class=Response, responses=_answers(404))
async def cancel(request: Request, response: str) -> Response:
    """Stop a response; one that has ended stays as it is."""
    stream_id, _ = await _visible(request, response)
    answer = await context(request).cancellation.cancel(stream_id)
    if answer[0] == "gone":
        raise _no_such_response(response)
    return await _whole(request, stream_id)


@router.delete("/{response}", response_class=Response, responses=_answers(404))
async def delete(request: Request, response: str) -> Response:
    """Erase a response, running or not, with everything that was said."""
    stream_id, _ = await _visible(request, response)
    await erase(request, stream_id)
    return _json({"id": response, "object": "response", "deleted": True})


@router.get("/{response}/input_items", response_class=Response, responses=_answers(400, 404))
async def input_items(request: Request, response: str, asked: Annotated[ItemsPage, Query()]) -> Response:
    """The items that were sent to the model, newest first; with ``order=asc`` the oldest first."""
    stream_id, (said,) = await _visible(request, response, "input")
    items = [_with_id(stream_id, n, item) for n, item in enumerate(msgspec.json.decode(said or "[]"))]
    if asked.order == "desc":
        items.reverse()
    if asked.after is not None:
        place = next((n for n, item in enumerate(items) if item["id"] == asked.after), None)
        if place is None:
            raise _wrong("after", "there is no such item")
        items = items[place + 1 :]
    page = items[: asked.limit]
    return _json(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > len(page),
        }
    )


ERROR_FORMS: Final[dict[str, Form]] = {"/v1/responses": openai_error}


# -- finding a response -----------------------------------------------------------------------------------


async def _visible(request: Request, response: str, *names: str) -> tuple[str, list[str | None]]:
    """The stream of a response, and fields of its record. Raises :class:`Problem` (404): unknown, another key's, or
    not stored and ended."""
    stream_id = response.removeprefix(PREFIX)
    if stream_id == response:
        raise _no_such_response(response)
    try:
        status, asked, *found = await own_fields(request, stream_id, "status", "asked", *names)
    except Problem as problem:
        raise _no_such_response(response) if problem.status == 404 else problem from None
    stored = (About("", asked=asked or "").kept(ASKED) or {}).get("store") is not False
    if status in TERMINAL and not stored:
        raise _no_such_response(response)
    return stream_id, found


def _about(stream_id: str, record: Mapping[str, str]) -> About:
    return About(
        stream_id, record.get("model", ""), int(record.get("created_ms", 0)), asked=record.get("asked", "")
    )


async def _history(request: Request, previous: str) -> list[dict[str, Any]]:
    """The items in front of those of a response that goes on with this one. Raises :class:`Problem` (404, 422)."""
    said = None
    try:
        stream_id, (said, status) = await _visible(request, previous, "input", "status")
    except Problem as problem:
        if problem.status != 404:
            raise
    if said is None:
        detail = f"Previous response with id {previous[:100]!r} not found."
        field = {"field": "previous_response_id", "message": detail}
        raise Problem(404, "previous_response_not_found", detail, errors=[field])
    if status not in TERMINAL:
        raise _wrong("previous_response_id", "that response has not ended yet: wait for its end, or cancel it")
    items = await context(request).records.get(owner_of(request), stream_id, _items_said)
    if items is None:
        raise _no_such_response(previous)
    return [*msgspec.json.decode(said), *msgspec.json.decode(items)]


def _items_said(stream_id: str, reading: Reading) -> bytes:
    return msgspec.json.encode(output_of(_about(stream_id, reading.record), reading))


def _response(stream_id: str, reading: Reading) -> bytes:
    return respond(_about(stream_id, reading.record), reading)


async def _whole(request: Request, stream_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """A response of this caller's; also one that is not stored, for the caller that waited for its end."""
    records, owner = context(request).records, owner_of(request)
    told = await records.get(owner, stream_id, _response)
    if told is None:
        raise _no_such_response(response_id(stream_id))
    return SlicedResponse((told,), records.sent(owner, told), {STREAM: stream_id, **(headers or {})})


def _behind(response: str, number: int) -> Callable[[Dialect], StartingPoint | None]:
    """What finds the place behind the event of this number. It raises :class:`Problem` (400)."""

    def find(dialect: Dialect) -> StartingPoint | None:
        assert isinstance(dialect, ResponsesDialect)
        try:
            return dialect.behind(number)
        except LookupError:
            raise Problem(
                400,
                "text_lost",
                f"The events right behind {number} are no longer there one by one. Read {response} from its start "
                "(stream=true without starting_after), or whole.",
            ) from None

    return find


def _with_id(stream_id: str, n: int, item: dict[str, Any]) -> dict[str, Any]:
    """An item as it is listed: its own id, or one of its place."""
    kinds = {"message": "text", "reasoning": "reasoning", "function_call": "tool"}
    prefix = PREFIXES.get(kinds.get(item["type"], ""), "fco")  # type: ignore[call-overload]
    shown = {"id": f"{prefix}_{stream_id}_in{n}", **item}
    return shown if item["type"] == "reasoning" else {"status": "completed", **shown}


def _json(told: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(told), media_type=JSON)


def _no_such_response(response: str) -> Problem:
    return Problem(404, "stream_not_found", f"Response with id {response[:100]!r} not found.")


def _wrong(field: str, why: str) -> Problem:
    return Problem(422, "invalid_request", f"{field}: {why}.", errors=[{"field": field, "message": why}])
