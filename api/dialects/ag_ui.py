"""AG-UI 1.0: an answer as the events of a run. Pure, no I/O.

Source: the packages ``@ag-ui/core`` and ``@ag-ui/client`` 1.0.0 (schemas, verifier, reducer), and for TanStack's
extras ``@tanstack/ai`` 0.58.

One stream is one run, and one assistant message: all its text and its tool calls have one message id, the stream's.
Each part of reasoning is a message of its own in front of it. Tool calls end with the answer, because a provider
may send pieces of several calls in turns.

The SSE id of an entry stands on the last event that it leads to. A client that is cut off among these events gets
all of them again. So starts and ends may come twice, and content stands in the last event alone. ``RUN_STARTED``
has the id :data:`BEGINNING`, because there is no entry yet to come back to.

A client that comes back begins a new run, and its verifier refuses a delta without its start. So a resume begins
with ``RUN_STARTED`` and the starts of all that is open. These events carry the id that the client came back with. A
client for which all connections are one run (TanStack's) knows them as seen by that id, and drops them.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from api.dialects.base import About
from api.dialects.native import BEGINNING
from api.dialects.parts import WANTED_BACK, Part, PartsDialect
from shared.protocol.cursor import BadCursor, Cursor, entry_cursor, parse_cursor
from shared.protocol.events import decode_data, encode_data
from shared.protocol.sse import encode_event

PROTOCOL: Final = "1.0"
ASKED: Final = "ag-ui"
"""In :attr:`About.asked`: a run's ``threadId`` and ``runId``, and the ``parentRunId`` and ``protocolVersion`` that
its client told."""


def speak(about: About) -> "AgUiDialect":
    """See :func:`api.dialects.dialect`."""
    return AgUiDialect(about)


def speak_to_tanstack(about: About) -> "TanStackDialect":
    """The same for TanStack's client."""
    return TanStackDialect(about)


class AgUiDialect(PartsDialect):
    """See :class:`api.dialects.base.Dialect`."""

    name = "ag-ui"

    def __init__(self, about: About) -> None:
        super().__init__(about)
        unnamed = {"threadId": about.stream_id, "runId": about.stream_id}
        self._run: dict[str, str] = about.kept(ASKED) or unnamed

    # -- parts ----------------------------------------------------------------------------------------

    def open(self, part: Part) -> bytes:
        return self._start(part, b"")

    def front(self, part: Part) -> bytes:
        match part.kind:
            case "text":
                told = {"type": "TEXT_MESSAGE_CONTENT", "messageId": self.about.stream_id, "delta": ""}
            case "reasoning":
                message_id = self.part_id(part)
                told = {"type": "REASONING_MESSAGE_CONTENT", "messageId": message_id, "delta": ""}
            case "tool":
                told = {"type": "TOOL_CALL_ARGS", "toolCallId": self._call_id(part), "delta": ""}
        return b"data: " + encode_data(told)[: -len('"}')]

    def close(self, part: Part) -> bytes:
        if part.kind == "text":
            return _event(b"", "TEXT_MESSAGE_END", messageId=self.about.stream_id)
        if part.kind == "tool":
            return _event(b"", "TOOL_CALL_END", toolCallId=self._call_id(part))
        message_id = self.part_id(part)
        return _event(b"", "REASONING_MESSAGE_END", messageId=message_id) + _event(
            b"", "REASONING_END", messageId=message_id
        )

    def _start(self, part: Part, cursor: bytes) -> bytes:
        message_id = self.about.stream_id
        if part.kind == "text":
            return _event(cursor, "TEXT_MESSAGE_START", messageId=message_id, role="assistant")
        if part.kind == "tool":
            return _event(
                cursor,
                "TOOL_CALL_START",
                toolCallId=self._call_id(part),
                toolCallName=part.name,
                parentMessageId=message_id,
            )
        message_id = self.part_id(part)
        return _event(cursor, "REASONING_START", messageId=message_id) + _event(
            cursor, "REASONING_MESSAGE_START", messageId=message_id, role="reasoning"
        )

    def _call_id(self, part: Part) -> str:
        """The provider's id of a call. Clients look for a call in all messages of a thread. So where the provider
        gave none, the id names the stream."""
        return self.part_id(part) if part.has_made_id else part.call_id

    # -- the run --------------------------------------------------------------------------------------

    def begin(self, cursor: bytes) -> bytes:
        return self._started(BEGINNING)

    def again(self) -> bytes:
        place = self.place.encode()
        return self._started(place) + b"".join(self._start(part, place) for part in self.unclosed)

    def done(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        return self._closed() + self._wanted_back() + self._finished(cursor, data)

    def failed(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        return _event(cursor, "RUN_ERROR", message=data["message"], code=data["code"])

    def cancelled(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        if "protocolVersion" not in self._run:  # clients before 1.0 have no such word, and some fail on it
            return super().cancelled(cursor, data)
        return self._closed() + self._finished(cursor, data, outcome={"type": "cancelled"})

    def _started(self, cursor: bytes) -> bytes:
        return _event(cursor, "RUN_STARTED", **{**self._run, "protocolVersion": PROTOCOL})

    def _finished(self, cursor: bytes, data: Mapping[str, Any], **more: Any) -> bytes:
        """Without an outcome it is a success, for clients of all versions."""
        ids = {name: self._run[name] for name in ("threadId", "runId")}
        if usage := self._usage(data):
            more["usage"] = [usage]
        if metadata := self.metadata(data):
            more["metadata"] = metadata
        return _event(cursor, "RUN_FINISHED", **ids, **more)

    def metadata(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What ``RUN_FINISHED`` tells beside the protocol's own fields."""
        return {"finishReason": data["finish_reason"]} if data.get("finish_reason") else {}

    def _usage(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        told = data.get("usage")
        if not told:
            return None
        provider, _, model = self.about.model.partition("/")
        taken, given = told.get("input_tokens"), told.get("output_tokens")
        counts = {
            "inputTokens": taken,
            "outputTokens": given,
            "totalTokens": None if taken is None or given is None else taken + given,
            "reasoningTokens": told.get("reasoning_tokens"),
            "cachedInputTokens": told.get("cached_tokens"),
        }
        return {"provider": provider, "model": model} | {
            name: count for name, count in counts.items() if count is not None
        }

    def _closed(self) -> bytes:
        return b"".join(self.close(part) for part in self.unclosed)

    def _wanted_back(self) -> bytes:
        """What the next request must bring back to the provider, in the one field that clients keep for that. It
        belongs to the last reasoning message; without one, to the assistant's message."""
        parts = [part for _, raw in self.provided if (part := decode_data(raw)).get("type") in WANTED_BACK]
        if not parts or not self.parts:
            return b""
        reasoning = [part for part in self.parts if part.kind == "reasoning"]
        entity = self.part_id(reasoning[-1]) if reasoning else self.about.stream_id
        kept = encode_data({"provider": self.about.provider, "parts": parts}).decode()
        return _event(b"", "REASONING_ENCRYPTED_VALUE", subtype="message", entityId=entity, encryptedValue=kept)


class TanStackDialect(AgUiDialect):
    """For TanStack's client, which comes back by itself behind the last event that it got, unless the run ended by
    an event or the connection is refused. It runs its tools at an event of its own (``tool-input-available``), and
    asks again with their results where the finish reason says so."""

    name = "ag-ui-tanstack"

    def begin(self, cursor: bytes) -> bytes:
        """The message begins with the run. This client would make up an id for it where reasoning or a tool call
        comes first."""
        message_id = self.about.stream_id
        opened = _event(BEGINNING + b".1", "TEXT_MESSAGE_START", messageId=message_id, role="assistant")
        return super().begin(cursor) + opened + _event(BEGINNING + b".2", "TEXT_MESSAGE_END", messageId=message_id)

    def parting(self) -> bytes:
        return b""

    def done(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        asks = [self._asks(cursor, place, part) for place, part in enumerate(self.calls)]
        return self._closed() + self._wanted_back() + b"".join(asks) + self._finished(cursor, data)

    def metadata(self, data: Mapping[str, Any]) -> dict[str, Any]:
        reason = data.get("finish_reason")
        return {"tanstack": {"finishReason": reason, "model": self.about.model}} if reason else {}

    def _asks(self, cursor: bytes, number: int, part: Part) -> bytes:
        arguments = part.arguments()
        asked = part.text() if arguments is None else msgspec.Raw(arguments)  # no JSON: the tool gets it as it is
        value = {"toolCallId": self._call_id(part), "toolName": part.name, "input": asked}
        # Each has an id of its own, which leads to the entry in front. So no tool runs twice for a client that is
        # cut off among these events.
        done = entry_cursor(cursor)
        before = b"%b.%d" % (Cursor(done.epoch, done.n - 1).encode(), number)
        return _event(before, "CUSTOM", name="tool-input-available", value=value)


def place_of(last_event_id: str) -> Cursor | None:
    """The cursor to which an SSE id of these dialects leads. Raises :class:`BadCursor`."""
    cursor, dot, number = last_event_id.partition(".")
    if dot and not (number.isascii() and number.isdigit()):
        raise BadCursor(last_event_id)
    return parse_cursor(cursor)


def _event(cursor: bytes, kind: str, **fields: Any) -> bytes:
    return encode_event("message", encode_data({"type": kind, **fields}), cursor or None)
