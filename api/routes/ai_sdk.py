"""The AI SDK's paths: what ``useChat`` asks by its default transport (see :mod:`api.dialects.ai_sdk`).

Theory of operation. ``POST /api/chat`` makes a stream and answers with it. The chat's entry names the stream before
that is made (:mod:`shared.store.chats`). So ``GET /api/chat/{id}/stream``, by which a page that was reloaded
asks for the running answer, finds the stream while the POST is still on its way. It waits for the record as long as
a create may take.

A refusal is a status and a sentence, because the SDK makes any body the error's message.

The answer continues the last message where that is the assistant's (its tools have answered). A client that resumes
builds the message from nothing, so what the message held before is kept in the record, and told again.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final, NamedTuple

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import ValidationError

from api.dialects.ai_sdk import CONTINUES, continued, replay, speak, speak_resets
from api.http.auth import context, owner_of
from api.http.bodies import BodyRoute
from api.http.problems import Problem, documented
from api.schemas.foreign import invalid
from api.schemas.ui_messages import MAX_ID, ChatRequest, UiMessage
from api.streams.creation import CREATE_TIMEOUT_S
from api.viewing.subscribe import NEEDED, Wanted, open_own_viewer, open_viewer
from shared.protocol.cursor import new_stream_id
from shared.protocol.events import CANCELLED, DONE, TERMINAL, encode_data

HEADERS: Final = {"X-Vercel-AI-UI-Message-Stream": "v1", "Cache-Control": "no-cache, no-transform"}
RESETS_FROM: Final = (7, 0, 70)
"""The version of npm's ``ai`` that knows ``reset-step``."""
ON_ITS_WAY_S: Final = CREATE_TIMEOUT_S + 0.7
"""How long a chat's stream may have no record yet."""
LOOK_S: Final = 0.05
RESUMABLE_S: Final = 30.0
"""How long an answer that has ended can be resumed by a client that does not say what it has: a client that
lost its connection shortly before the end is back within this time. (One that has everything gets it again, and its
message stays the same.)"""
ASKED: Final = NEEDED.index("asked")
MAX_KEPT: Final = 256 * 1024
"""Bytes of a message that is kept to be told again. The answer that continues a longer one can't be resumed."""

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


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return documented(*statuses, schema={"type": "string"}, media_type="text/plain")


@router.post("", response_class=Response, responses={**_STREAMED, **_refusals(400, 401, 413, 422, 429, 503)})
async def chat(request: Request, asked: ChatRequest, version: Version = None) -> Response:
    """Ask, and read the answer."""
    has, owner = context(request), owner_of(request)
    resets = _knows_reset(version)
    try:
        # A restart may happen only where it can be shown.
        wanted = asked.asked("continue" if resets else "continue_or_fail")
    except ValidationError as error:
        raise invalid(error, await request.json(), asked.place) from None
    message = asked.continued()
    keeps = {} if message is None else {"asked": {CONTINUES: _kept(message)}}
    stream_id = new_stream_id()
    before = await has.chats.give(owner, asked.id, stream_id)
    try:
        await has.creation.create(wanted, owner, None, shows_all=True, keeps=keeps, stream_id=stream_id)
    except Problem as problem:
        if problem.status < 500:  # else nobody knows whether it was made
            await has.chats.take_back(owner, asked.id, stream_id, before)
        raise
    return await open_own_viewer(request, _wanted(stream_id, resets=resets))


@router.get(
    "/{chat_id:path}/stream",
    response_class=Response,
    responses={**_STREAMED, 204: {"description": "No answer is on its way"}, **_refusals(401, 422, 503)},
)
async def resume(
    request: Request,
    chat_id: ChatId,
    seen: Annotated[
        str | None,
        Query(max_length=MAX_ID, description="metadata.stream of the last message that the page has, '' for none"),
    ] = None,
    version: Version = None,
) -> Response:
    """Read the answer that is on its way, from its beginning; where the caller says what it has ``seen``, also one
    that has ended meanwhile."""
    found = await _find(request, chat_id, seen)
    message = found and continued(found.record[ASKED] or "")
    if found is None or (message is not None and "parts" not in message):
        return Response(status_code=204)
    preamble = b"" if message is None else replay(message)
    wanted = _wanted(found.stream_id, preamble, resets=_knows_reset(version))
    return await open_viewer(context(request), wanted, found.record)


@router.post("/{chat_id:path}/stop", status_code=204, responses=_refusals(401, 404, 422, 503))
async def stop(request: Request, chat_id: ChatId) -> None:
    """Stop the answer that is on its way; its upstream connection closes within a second. One that ended stays as
    it is."""
    has = context(request)
    found = await _find(request, chat_id)
    if found is not None:
        await has.cancellation.cancel(found.stream_id)
    elif await has.chats.stream_of(owner_of(request), chat_id) is None:
        raise Problem(404, "chat_not_found", "Nothing was asked in this chat here. Send a message first.")


def _wanted(stream_id: str, preamble: bytes = b"", *, resets: bool) -> Wanted:
    spoken = speak_resets if resets else speak
    return Wanted(stream_id, None, spoken, preamble=preamble, foreign=True, headers=HEADERS)


class _Found(NamedTuple):
    """A chat's stream. ``record``: the fields :data:`NEEDED`."""

    stream_id: str
    record: Sequence[str | None]


async def _find(request: Request, chat_id: str, seen: str | None = None) -> _Found | None:
    """The chat's stream that can be resumed; None where there is none. One that is being made is waited for."""
    has, owner = context(request), owner_of(request)
    until = asyncio.get_running_loop().time() + ON_ITS_WAY_S
    while (stream_id := await has.chats.stream_of(owner, chat_id)) is not None:
        status, finished_ms, *record = await has.streams.fields(stream_id, "status", "finished_ms", *NEEDED)
        if status is not None:
            late = status in TERMINAL and _since(finished_ms) > RESUMABLE_S
            missed = status == DONE and seen is not None
            over = status == CANCELLED or stream_id == seen or (late and not missed)
            return None if over else _Found(stream_id, record)
        if asyncio.get_running_loop().time() > until:
            await has.chats.take_back(owner, chat_id, stream_id)
            return None
        await asyncio.sleep(LOOK_S)
    return None


def _kept(message: UiMessage) -> dict[str, Any]:
    """What the record keeps of a message that is continued."""
    told = message.model_dump()
    with contextlib.suppress(UnicodeEncodeError):  # half a surrogate pair, which the create refuses
        if len(encode_data(told)) <= MAX_KEPT:
            return told
    return {"id": message.id}


def _since(ms: str | None) -> float:
    """Seconds since then, by this machine's clock."""
    return time.time() - int(ms or 0) / 1000


def _knows_reset(version: str | None) -> bool:
    found = re.match(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version or "", re.ASCII)
    return found is not None and tuple(map(int, found.groups())) >= RESETS_FROM
