"""The AI SDK's paths: what ``useChat`` asks by its default transport (see :mod:`api.dialects.ai_sdk`).

Theory of operation. ``POST /api/chat`` makes a stream and answers with it. The chat knows its stream from before
it is made (:mod:`shared.store.chats`). So ``GET /api/chat/{id}/stream``, by which a page that was loaded anew asks
for the running answer, finds it also while the POST is on its way: it waits for the record as long as a create may
take.

The SDK takes every clean end of a response for the answer's. So a response that ends before the answer, because
this process stops or is full, ends with an ``error`` chunk. A refusal is a status and a sentence: the SDK makes the
body the error's message, whatever it is.

The answer continues the last message where that is the assistant's (its tools have answered). A client that resumes
builds the message from nothing, so what the message held before is kept in the record, and told again.
"""

import asyncio
import re
import time
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from api.dialects.ai_sdk import AiSdkDialect, error, replay
from api.http.auth import context, owner_of
from api.http.bodies import BodyRoute
from api.http.problems import Problem, documented
from api.schemas.ui_messages import MAX_ID, ChatRequest, UiMessage
from api.streams.creation import CREATE_TIMEOUT_S
from api.viewing.subscribe import CROWDED, NEEDED, Wanted, come_back, open_viewer
from shared.protocol.cursor import new_stream_id
from shared.protocol.events import CANCELLED, TERMINAL, encode_data

HEADERS: Final = {"X-Vercel-AI-UI-Message-Stream": "v1", "Cache-Control": "no-cache, no-transform"}
RESETS_FROM: Final = (7, 0, 70)
"""The version of npm's ``ai`` that knows ``reset-step``."""
ON_ITS_WAY_S: Final = CREATE_TIMEOUT_S + 0.7
"""How long a chat's stream may have no record yet."""
LOOK_S: Final = 0.05
RESUMABLE_S: Final = 30.0
"""How long an answer that has ended can be resumed: a client that lost its connection in front of the end is back
within this time. (To one that had everything it is told again, and its message stays the same.)"""
MAX_KEPT: Final = 64 * 1024
"""Bytes of a message that is kept to be told again. An answer that continues a longer one can't be resumed: of that
nothing is kept, b''."""
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
        places = [{**one, "loc": ("body", *asked.place(one["loc"]))} for one in invalid.errors()]
        raise RequestValidationError(places, body=await request.json()) from None
    continued = asked.continued()
    kept = {} if continued is None else {"ui_message": _kept(continued)}
    stream_id = new_stream_id()
    before = await has.chats.give(owner, asked.id, stream_id)
    try:
        await has.creation.create(wanted, owner, None, shows_all=True, stream_id=stream_id, more=kept)
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
    found = await _find(request, chat_id)
    if found is None:
        return Response(status_code=204)
    stream_id, kept, record = found
    message_id, preamble = stream_id, b""
    if kept is not None:
        if not kept:
            return Response(status_code=204)
        message = msgspec.json.decode(kept)
        message_id, preamble = message["id"], replay(message["id"], message["metadata"], message["parts"])
    return await _answer(request, stream_id, record, message_id, preamble, resets=_knows_reset(version))


@router.post("/{chat_id:path}/stop", status_code=204, responses=documented(401, 404, 422, 503))
async def stop(request: Request, chat_id: ChatId) -> None:
    """Stop the answer that is on its way; its upstream connection closes within a second. One that ended stays as
    it is."""
    has = context(request)
    found = await _find(request, chat_id)
    if found is not None:
        await has.cancellation.cancel(found.stream_id, encode_data({"by": "client", "reason": "requested"}))
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


class _Found(NamedTuple):
    """A chat's stream. ``kept``: the message that it continues (JSON); ``record``: the fields :data:`NEEDED`."""

    stream_id: str
    kept: str | None
    record: list[str | None]


async def _find(request: Request, chat_id: str) -> _Found | None:
    """The chat's stream that can be resumed; None where there is none. One that is being made is waited for."""
    has, owner = context(request), owner_of(request)
    until = asyncio.get_running_loop().time() + ON_ITS_WAY_S
    while (stream_id := await has.chats.stream_of(owner, chat_id)) is not None:
        fields = await has.streams.fields(stream_id, "status", "finished_ms", "ui_message", *NEEDED)
        status, finished_ms, kept, *record = fields
        if status is not None:
            over = status == CANCELLED or (status in TERMINAL and _since(finished_ms) > RESUMABLE_S)
            return None if over else _Found(stream_id, kept, record)
        if asyncio.get_running_loop().time() > until:
            await has.chats.take_back(owner, chat_id, stream_id)
            return None
        await asyncio.sleep(LOOK_S)
    return None


def _kept(message: UiMessage) -> bytes:
    try:
        told = encode_data(message.model_dump())
    except UnicodeEncodeError:
        return b""  # half a surrogate pair, which the create refuses
    return told if len(told) <= MAX_KEPT else b""


def _since(ms: str | None) -> float:
    """Seconds since then, by this machine's clock."""
    return time.time() - int(ms or 0) / 1000


def _knows_reset(version: str | None) -> bool:
    found = re.match(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version or "", re.ASCII)
    return found is not None and tuple(map(int, found.groups())) >= RESETS_FROM
