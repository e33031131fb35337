"""The AI SDK's dialect: its UI message stream, version 1, as ``useChat`` reads it. Pure.

Each SSE event is one *chunk*, a line of JSON, and the last one is ``[DONE]``. In front stand ``start`` and
``start-step``, then text, reasoning and tool calls with their ids, and at the end ``tool-input-available`` of
each call, ``message-metadata``, ``finish-step`` and ``finish``. Source: ``uiMessageChunkSchema`` of npm's ``ai``
5.0.277, 6.0.326 and 7.0.173, and its documentation, "Stream Protocols".

What a provider sent that has no word there (signatures of reasoning, citations) is a data part,
``{"type": "data-provider", "data": {"provider", "type", "data"}}``. The SDK keeps it in the message and sends it
with the next one, where :mod:`api.schemas.ui_messages` reads it.

``ai`` 7.0.70 and later know ``reset-step``, which takes back what was said since ``start-step``. Older ones throw
at a chunk that they don't know. For them a ``restart`` is the end, and an ``error``.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

import msgspec

from api.dialects.base import About
from api.dialects.parts import Part, PartsDialect
from shared.protocol.events import TERMINAL, encode_data
from shared.protocol.sse import encode_event

BAD_INPUT_TEXT: Final = "The model's arguments for this tool are no JSON."
_DONE: Final = b"[DONE]"
_FINISH_REASONS: Final = {"tool_calls": "tool-calls", "content_filter": "content-filter"}
"""Where the SDK has other words than ours."""
CONTINUES: Final = "ui_message"
"""The name (:meth:`About.kept`) of the message that the answer continues, as the SDK sent it; of a long one its
``id`` alone is kept."""


def speak(about: About) -> "AiSdkDialect":
    """See :func:`api.dialects.dialect`."""
    return AiSdkDialect(about, _message_id(about))


def speak_resets(about: About) -> "AiSdkDialect":
    """The same for a client that knows ``reset-step``."""
    return AiSdkDialect(about, _message_id(about), resets=True)


def continued(asked: str) -> Mapping[str, Any] | None:
    """The message that an answer continues, of what its record keeps; None where the answer begins one."""
    return About("", asked=asked).kept(CONTINUES)


def _message_id(about: About) -> str:
    message = about.kept(CONTINUES)
    return about.stream_id if message is None else str(message["id"])


def chunk(kind: str, cursor: bytes = b"", /, **fields: Any) -> bytes:
    """One chunk as an SSE event, with this id (b'': without one)."""
    return _event(cursor, encode_data({"type": kind, **fields}))


def replay(message: Mapping[str, Any]) -> bytes:
    """What a message holds already, for a client that resumes it: the SDK then builds it from nothing.

    In: the message as the SDK sent it (``id``, ``metadata``, ``parts``). A tool call comes without
    ``tool-input-available``, because the client would run the tool again at that.
    """
    metadata = message.get("metadata")
    about = {} if metadata is None else {"messageMetadata": metadata}
    said = [chunk("start", messageId=message["id"], **about)]
    for number, part in enumerate(message["parts"]):
        said += _again(f"again-{number}", part)
    return b"".join(said)


def _again(own_id: str, part: Mapping[str, Any]) -> Iterator[bytes]:
    kind = str(part.get("type"))
    if kind == "step-start":
        yield chunk("start-step")
    elif kind in ("text", "reasoning"):
        about = {"providerMetadata": part["providerMetadata"]} if part.get("providerMetadata") else {}
        own_id = str(part.get("id") or own_id)
        yield chunk(f"{kind}-start", id=own_id, **about)
        yield chunk(f"{kind}-delta", id=own_id, delta=str(part.get("text") or ""))
        yield chunk(f"{kind}-end", id=own_id)
    elif kind in ("file", "source-url", "source-document") or kind.startswith("data-"):
        yield _event(b"", encode_data(dict(part)))
    elif kind == "dynamic-tool" or kind.startswith("tool-"):
        yield from _call_again(kind, part)


def _call_again(kind: str, part: Mapping[str, Any]) -> Iterator[bytes]:
    call_id = str(part.get("toolCallId"))
    dynamic = {"dynamic": True} if kind == "dynamic-tool" else {}
    name = str(part.get("toolName")) if dynamic else kind.removeprefix("tool-")
    call = {"toolCallId": call_id, "toolName": name, **dynamic}
    if part.get("state") == "output-error":
        asked = part.get("input", part.get("rawInput"))
        yield chunk("tool-input-error", **call, input=asked, errorText=str(part.get("errorText")))
        return
    yield chunk("tool-input-start", **call)
    if part.get("input") is not None:
        arguments = msgspec.json.encode(part["input"]).decode()
        yield chunk("tool-input-delta", toolCallId=call_id, inputTextDelta=arguments)
    match part.get("state"):
        case "output-available":
            yield chunk("tool-output-available", toolCallId=call_id, output=part.get("output"), **dynamic)
        case "output-denied":
            yield chunk("tool-output-denied", toolCallId=call_id)


def _event(cursor: bytes, data: bytes) -> bytes:
    return encode_event("message", data, cursor or None)


class AiSdkDialect(PartsDialect):
    """See :class:`api.dialects.base.Dialect`."""

    def __init__(self, about: About, message_id: str, *, resets: bool = False) -> None:
        """``message_id``: of the message that the client builds; ``resets``: the client knows ``reset-step``."""
        super().__init__(about)
        self.name = "ai-sdk-resets" if resets else "ai-sdk"
        self.resets = resets
        if resets:
            self.last_words = TERMINAL
        self._message_id = message_id

    def fresh(self) -> Self:
        return type(self)(self.about, self._message_id, resets=self.resets)

    def begin(self, cursor: bytes) -> bytes:
        return chunk("start", messageId=self._message_id) + chunk("start-step", cursor)

    def reset(self) -> bytes:
        return chunk("reset-step")

    def open(self, part: Part) -> bytes:
        if part.kind == "tool":
            return chunk("tool-input-start", toolCallId=part.call_id, toolName=part.name)
        return chunk(f"{part.kind}-start", id=self.part_id(part))

    def front(self, part: Part) -> bytes:
        if part.kind == "tool":
            told = {"type": "tool-input-delta", "toolCallId": part.call_id, "inputTextDelta": ""}
        else:
            told = {"type": f"{part.kind}-delta", "id": self.part_id(part), "delta": ""}
        return b"data: " + encode_data(told)[: -len('"}')]

    def close(self, part: Part) -> bytes:
        return chunk(f"{part.kind}-end", id=self.part_id(part))

    def provider(self, cursor: bytes, raw: bytes) -> bytes:
        name = msgspec.json.encode(self.about.provider)
        return _event(cursor, b'{"type":"data-provider","data":{"provider":%b,%b}' % (name, raw[1:]))

    def done(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        reason = str(data.get("finish_reason") or "other")
        told = {"usage": data.get("usage"), "cost": data.get("cost")}
        metadata = {"model": self.about.model, **told, "stream": self.about.stream_id}
        said = [self._close_open(), *map(self._call_ends, self.calls)]
        said += [
            chunk("message-metadata", messageMetadata=metadata),
            chunk("finish-step"),
            chunk("finish", finishReason=_FINISH_REASONS.get(reason, reason)),
            _event(cursor, _DONE),
        ]
        return b"".join(said)

    def failed(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        return chunk("error", errorText=data["message"]) + _event(cursor, _DONE)

    def cancelled(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        return self._close_open() + chunk("abort") + _event(cursor, _DONE)

    def _close_open(self) -> bytes:
        return b"" if self._open is None else self.close(self._open)

    def _call_ends(self, part: Part) -> bytes:
        """The whole arguments of a call; what is no JSON is an error of the call, as the SDK has it."""
        call = {"toolCallId": part.call_id, "toolName": part.name}
        arguments = part.arguments()
        if arguments is None:
            return chunk("tool-input-error", **call, input=part.text(), errorText=BAD_INPUT_TEXT)
        return chunk("tool-input-available", **call, input=msgspec.Raw(arguments))
