"""The plain dialect: the article's events, to the letter. Raw text, and a named end.

``event: message`` with the raw text as data (a line break inside becomes one ``data:`` line more; SSE has no
other, so CR and CRLF arrive as LF), at the end ``event: done`` with empty data. In batches: ``event: batch`` and
at the end ``event: final``, both ``{"content": …}``. What goes wrong is ``event: error`` with ``{"code",
"message"}``. The ids are ``<stream>/<cursor>``, so that a GET that comes back names its stream by itself.

It has no word for ``restart`` and ``snapshot``. So text that was shown is never shown again: where it would have
to be, the viewer gets its error event, and that is the end. Reasoning and tool calls have no word here either.
"""

from collections.abc import Sequence
from typing import Final, Self

from api.dialects.base import About, Told
from api.dialects.native import GONE_TEXT
from shared.protocol.cursor import Cursor, entry_cursor
from shared.protocol.events import CANCELLED, DONE, FAILED, MESSAGE, RESTART, TERMINAL, decode_data, encode_data
from shared.protocol.sse import encode_event, encode_named
from shared.store.log import Entry

RESTARTED_TEXT: Final = "The answer began anew, which can't be shown here without repeating text. Ask again."
LOST_TEXT: Final = "What was shown so far can't be joined to what the log still has. Ask again."


def speak(about: About) -> "PlainDialect":
    """See :func:`api.dialects.dialect`."""
    return PlainDialect(about.stream_id)


def speak_batches(about: About) -> "PlainBatchDialect":
    """The same for whoever asked for batches in the article's form."""
    return PlainBatchDialect(about.stream_id)


class PlainDialect:
    """See :class:`api.dialects.base.Dialect`."""

    name = "plain"
    last_words = TERMINAL | {RESTART}
    restarts = False
    stateful = False

    def __init__(self, stream_id: str) -> None:
        self._stream = stream_id.encode() + b"/"

    def entry(self, cursor: bytes, kind: str, data: bytes) -> bytes:
        if kind == MESSAGE:
            text = decode_data(data).get("text")
            return encode_named("message", text.encode(), self.id(cursor)) if text else b""
        if kind == DONE:
            return encode_event("done", b"", self.id(cursor))
        return self._bad_end(cursor, kind, data)

    def batch(self, entries: Sequence[Entry]) -> bytes:
        return b"".join(self.entry(entry.cursor.encode(), entry.type, entry.data) for entry in entries)

    def snapshot(self, told: Told) -> bytes:
        return encode_named("message", text.encode(), self._as_of(told)) if (text := _text(told)) else b""

    def at(self, cursor: Cursor | None) -> Self:
        return self

    def greeting(self) -> bytes:
        return b""

    def parting(self) -> bytes:
        return b""

    def gone(self) -> bytes:
        return self._error("stream_gone", GONE_TEXT, None)

    def lost(self) -> bytes:
        return self._error("text_lost", LOST_TEXT, None)

    def id(self, cursor: bytes | None) -> bytes | None:
        """An SSE id: the stream and the cursor."""
        return None if cursor is None else self._stream + cursor

    def _as_of(self, told: Told) -> bytes | None:
        return None if told.as_of is None else self.id(told.as_of.encode())

    def _bad_end(self, cursor: bytes, kind: str, raw: bytes) -> bytes:
        if kind == RESTART:
            return self._error("restarted", RESTARTED_TEXT, cursor)
        if kind == CANCELLED:
            reason = decode_data(raw).get("reason", "")
            return self._error("cancelled", f"The answer was stopped ({reason}).", cursor)
        if kind == FAILED:
            data = decode_data(raw)
            return self._error(data["code"], data["message"], cursor)
        return b""

    def _error(self, code: str, message: str, cursor: bytes | None) -> bytes:
        return encode_event("error", encode_data({"code": code, "message": message}), self.id(cursor))


class PlainBatchDialect(PlainDialect):
    """The same in batches."""

    name = "plain-batch"

    def entry(self, cursor: bytes, kind: str, data: bytes) -> bytes:
        return self.batch([Entry(entry_cursor(cursor), kind, data)])

    def batch(self, entries: Sequence[Entry]) -> bytes:
        said = [entry for entry in entries if entry.type == MESSAGE]
        text = "".join(decode_data(entry.data).get("text", "") for entry in said)
        last = entries[-1]
        if last.type == DONE:
            return encode_event("final", _content(text), self.id(last.cursor.encode()))
        # Not under the id of the end: a viewer that is cut off between the two would never learn of the error.
        head = encode_event("batch", _content(text), self.id(said[-1].cursor.encode())) if text else b""
        return head + self._bad_end(last.cursor.encode(), last.type, last.data)

    def snapshot(self, told: Told) -> bytes:
        return encode_event("batch", _content(text), self._as_of(told)) if (text := _text(told)) else b""


def _text(told: Told) -> str:
    return "".join(delta.get("text", "") for delta in told.deltas)


def _content(text: str) -> bytes:
    return encode_data({"content": text})
