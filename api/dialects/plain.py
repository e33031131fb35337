"""The plain dialect: the article's events, to the letter. Raw text, and a named end.

``event: message`` with the raw text as data (a line break inside becomes one ``data:`` line more; SSE has no
other, so CR and CRLF arrive as LF), at the end ``event: done`` with empty data. In batches: ``event: batch`` and
at the end ``event: final``, both ``{"content": …}``. What goes wrong is ``event: error`` with ``{"code",
"message"}``. The ids are ``<stream>/<cursor>``, so that a GET that comes back names its stream by itself.

It has no word for ``restart`` and ``snapshot``. So text that was shown is never shown again: where it would have
to be, the viewer gets its error event, and that is the end. Reasoning and tool calls have no word here either.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from api.dialects.base import About, Told
from api.dialects.endings import OneWayDialect
from shared.protocol.cursor import Cursor, entry_cursor
from shared.protocol.events import DONE, MESSAGE, decode_data, encode_data
from shared.protocol.sse import encode_event, encode_named
from shared.store.log import Entry


def speak(about: About) -> "PlainDialect":
    """See :func:`api.dialects.dialect`."""
    return PlainDialect(about.stream_id)


def speak_batches(about: About) -> "PlainBatchDialect":
    """The same for a caller that asked for batches in the article's form."""
    return PlainBatchDialect(about.stream_id)


class PlainDialect(OneWayDialect):
    """See :class:`api.dialects.base.Dialect`."""

    name = "plain"
    stateful = False

    def __init__(self, stream_id: str) -> None:
        self._stream = stream_id.encode() + b"/"

    def entry(self, cursor: bytes, kind: str, data: bytes) -> bytes:
        if kind != MESSAGE:
            return self.ending(cursor, kind, data)
        text = decode_data(data).get("text")
        return encode_named("message", text.encode(), self.id(cursor)) if text else b""

    def snapshot(self, told: Told) -> bytes:
        return encode_named("message", text.encode(), self._as_of(told)) if (text := _text(told)) else b""

    def at(self, cursor: Cursor | None) -> Self:
        return self

    def greeting(self) -> bytes:
        return b""

    def parting(self) -> bytes:
        return b""

    def done(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        return encode_event("done", b"", self.id(cursor))

    def failed(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        told = {"code": data["code"], "message": data["message"]}
        return encode_event("error", encode_data(told), self.id(cursor))

    def id(self, cursor: bytes) -> bytes | None:
        """An SSE id: the stream and the cursor; None for b''."""
        return self._stream + cursor if cursor else None

    def _as_of(self, told: Told) -> bytes | None:
        return None if told.as_of is None else self.id(told.as_of.encode())


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
        return head + self.ending(last.cursor.encode(), last.type, last.data)

    def snapshot(self, told: Told) -> bytes:
        return encode_event("batch", _content(text), self._as_of(told)) if (text := _text(told)) else b""


def _text(told: Told) -> str:
    return "".join(delta.get("text", "") for delta in told.deltas)


def _content(text: str) -> bytes:
    return encode_data({"content": text})
