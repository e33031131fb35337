"""The AI SDK's paths: what ``useChat`` asks by its default transport (see :mod:`api.dialects.ai_sdk`).

Theory of operation. ``POST /api/chat`` makes a stream and answers with it. The chat knows its stream from before
it is made (:mod:`shared.store.chats`). So ``GET /api/chat/{id}/stream``, by which a page that was loaded anew asks
for the running answer, finds it also while the POST is on its way: it waits for the record as long as a create may
take.

The SDK takes every clean end of a response for the answer's. So a response that ends before the answer, because
this process stops or is full, ends with an ``error`` chunk. A refusal is a status and a sentence: the SDK makes the
body the error's message, whatever it is.

The answer continues the last message where that is the assistant's (its tools have answered). A client that resumes
builds the message from nothing, so what the message held before is kept in the request, and told again.
"""

import asyncio
import re
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from api.dialects.ai_sdk import AiSdkDialect, error, replay
from api.http.auth import context, owner_of
from api.http.bodies import BodyRoute
from api.http.problems import Problem, documented
from api.schemas.ui_messages import MAX_ID, ChatRequest
from api.streams.creation import CREATE_TIMEOUT_S
from api.viewing.subscribe import CROWDED, NEEDED, Wanted, come_back, open_viewer
from shared.protocol.cursor import new_stream_id
from shared.protocol.events import TERMINAL, encode_data

HEADERS: Final = {"X-Vercel-AI-UI-Message-Stream": "v1", "Cache-Control": "no-cache, no-transform"}
RESETS_FROM: Final = (7, 0, 70)
"""The version of npm's ``ai`` that knows ``reset-step``."""
ON_ITS_WAY_S: Final = CREATE_TIMEOUT_S + 0.7
"""How long a chat's stream may have no record yet."""
LOOK_S: Final = 0.05
CONTINUES: Final = "ui_message"
"""In the request: the message that the answer continues."""
COME_BACK_TEXT: Final = "The connection ended before the answer did, which goes on. Resume it."
CROWDED_TEXT: Final = "This server has as many readers as it may have now. Try again in a few seconds."

router = APIRouter(prefix="/api/chat", tags=["the AI SDK's endpoints"], route_class=BodyRoute)

_STREAMED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {}}, "description": "The answer as a UI message stream, version 1"}
}
ChatId = Annotated[str, Path(max_length=MAX_ID, description="the chat's id")]
Version = Annotated[
    str | None,
    Header(alias="x-ai-sdk-version", description="the caller's version of npm's ai, where it tells it"),
]


def _as_text(problem: Problem) -> Response:
    headers = {**(problem.headers or {}), "X-Headrace-Error": problem.code}
    return Response(problem.detail, problem.status, headers, "text/plain")


ERROR_FORMS: Final = {"/api/chat": _as_text}


@router.post("", response_class=Response, responses={**_STREAMED, **documented(400, 401, 413, 422, 429, 503)})
async def chat(request: Request, asked: ChatRequest, version: Version = None) -> Response:
    """Ask, and read the answer."""
    has, owner = context(request), owner_of(request)
    if has.viewing.full(owner):
        return come_back(has, CROWDED, error(CROWDED_TEXT))
    resets = _knows_reset(version)
    try:
        # Only where a restart can be shown it may happen.
        wanted = asked.asked("continue" if resets else "continue_or_fail")
    except ValidationError as invalid:
        raise RequestValidationError(
            [{**one, "loc": ("body", *asked.place(one["loc"]))} for one in invalid.errors()]
        ) from None
    continued = asked.continued()
    beside = {} if continued is None else {CONTINUES: continued.model_dump()}
    stream_id = new_stream_id()
    before = await has.chats.give(owner, asked.id, stream_id)
    try:
        await has.creation.create(wanted, owner, None, shows_all=True, stream_id=stream_id, beside=beside)
    except Problem as problem:
        if problem.status < 500:  # else nobody knows whether it was made
            await has.chats.take_back(owner, asked.id, stream_id, before)
        raise
    record = await has.streams.fields(stream_id, *NEEDED)
    message_id = stream_id if continued is None else continued.id
    return await _answer(request, stream_id, record, message_id, resets=resets)


@router.get(
    "/{chat_id:path}/stream",
    response_class=Response,
    responses={**_STREAMED, 204: {"description": "No answer is on its way"}, **documented(401, 422, 503)},
)
async def resume(request: Request, chat_id: ChatId, version: Version = None) -> Response:
    """Read the answer that is on its way, from its beginning."""
    found = await _running(request, chat_id)
    if found is None:
        return Response(status_code=204)
    stream_id, (body, *record) = found
    continued = msgspec.json.decode(body or "{}").get(CONTINUES)
    message_id, preamble = stream_id, b""
    if continued is not None:
        message_id = continued["id"]
        preamble = replay(message_id, continued["metadata"], continued["parts"])
    return await _answer(request, stream_id, record, message_id, preamble, resets=_knows_reset(version))


@router.post("/{chat_id:path}/stop", status_code=204, responses=documented(401, 404, 422, 503))
async def stop(request: Request, chat_id: ChatId) -> None:
    """Stop the answer that is on its way; its upstream connection closes within a second. One that ended stays as
    it is."""
    has = context(request)
    found = await _running(request, chat_id)
    if found is not None:
        await has.cancellation.cancel(found[0], encode_data({"by": "client", "reason": "requested"}))
    elif await has.chats.stream_of(owner_of(request), chat_id) is None:
        raise Problem(404, "chat_not_found", "Nothing was asked in this chat here. Send a message first.")


async def _answer(
    request: Request,
    stream_id: str,
    record: list[str | None],
    message_id: str,
    preamble: bytes = b"",
    *,
    resets: bool,
) -> Response:
    wanted = Wanted(
        stream_id,
        None,
        lambda about: AiSdkDialect(about, message_id, resets=resets),
        preamble=preamble,
        farewell=error(COME_BACK_TEXT),
    )
    response = await open_viewer(context(request), wanted, record)
    response.headers.update({**HEADERS, "X-Headrace-Stream": stream_id})
    return response


async def _running(request: Request, chat_id: str) -> tuple[str, list[str | None]] | None:
    """The chat's stream that has not ended, with its request and the fields :data:`NEEDED`; None where there is
    none. One that is being made is waited for."""
    has, owner = context(request), owner_of(request)
    until = asyncio.get_running_loop().time() + ON_ITS_WAY_S
    while (stream_id := await has.chats.stream_of(owner, chat_id)) is not None:
        status, *record = await has.streams.fields(stream_id, "status", "request", *NEEDED)
        if status is not None:
            return None if status in TERMINAL else (stream_id, record)
        if asyncio.get_running_loop().time() > until:
            await has.chats.take_back(owner, chat_id, stream_id)
            return None
        await asyncio.sleep(LOOK_S)
    return None


def _knows_reset(version: str | None) -> bool:
    found = re.match(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version or "", re.ASCII)
    return found is not None and tuple(map(int, found.groups())) >= RESETS_FROM
