"""The SSE wire format, both ways: an encoder and an incremental parser. Pure, no I/O.

Source: WHATWG HTML, section 9.2 "Server-sent events" (parsing and interpreting an event stream).

The encoder writes LF line ends and never an empty event: comments and ``retry:`` are sent as bare lines, without
the blank line that would dispatch, because lax parsers turn such a blank line into an empty event. The parser takes
CRLF, CR and LF in any mixture, split anywhere, even inside a UTF-8 character. It holds at most ``max_bytes`` of an
unfinished line and event; past that it raises an error instead of growing.

The parser of a provider's answer is *liberal*. The standard ignores a line that is no field, but gateways write
their errors into such lines (a bare JSON object, or ``error: {...}``), and some send a whole JSON document in place
of a stream. Such lines become events of their own. An event past the bound is skipped and reported as skipped, so
that one image does not cost the text around it.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

_FIELDS: Final = frozenset({b"data", b"event", b"id", b"retry", b""})

MAX_EVENT_BYTES = 1024 * 1024
"""No event with text is near 1 MiB (an image may be larger). An endless line must not fill the worker's memory."""

LOOSE: Final = "\nloose"
OMITTED: Final = "\nomitted"
"""Types of events that only a liberal parser gives: JSON outside of any field, and an event past the bound, without
its data. (No peer can send these types: a type has no line break.)"""

MOST_SKIPPED: Final = 16
"""A liberal parser skips at most this many times an event's bound: enough for an image, not for an endless line."""

COMMENT = b":\n"
"""Keeps proxies from closing an idle connection: one comment line, and no blank line behind it."""


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One dispatched event: its type (``message`` unless named), data, and the last id seen so far."""

    event: str
    data: str
    id: str


class SseError(ValueError):
    """The peer sent an event that is larger than the bound."""


def encode_event(event: str, data: bytes, cursor: bytes | None) -> bytes:
    """One event, ready to be sent.

    In: its type (``message`` stays unnamed, so that ``EventSource.onmessage`` just works), its data (UTF-8;
    LF, CR and CRLF inside become several ``data:`` lines) and its id, or None for an event without one.
    """
    return _encode(b"" if event == "message" else b"event: " + event.encode() + b"\n", data, cursor)


def encode_named(event: str, data: bytes, cursor: bytes | None) -> bytes:
    """As :func:`encode_event`, but the type is always named, ``message`` too."""
    return _encode(b"event: " + event.encode() + b"\n", data, cursor)


def encode_id(cursor: bytes) -> bytes:
    """An id without an event: a client that reconnects before any event came sends it as its Last-Event-ID."""
    return b"id: " + cursor + b"\n\n"


def _encode(name: bytes, data: bytes, cursor: bytes | None) -> bytes:
    head = name if cursor is None else b"id: " + cursor + b"\n" + name
    if b"\n" in data or b"\r" in data:
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        return head + b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
    return head + b"data: " + data + b"\n\n"


def encode_retry(retry_ms: int) -> bytes:
    """The reconnection time, as a line of its own (it belongs to no event)."""
    return b"retry: %d\n" % retry_ms


def encode_comment(text: str) -> bytes:
    """A comment of one line; line breaks in ``text`` become spaces."""
    return b": " + " ".join(text.splitlines()).encode() + b"\n"


class SseParser:
    """Bytes in, events out; reads may have any size.

    ``retry_ms``: the last reconnection time that the peer sent, or None. ``last_id``: the last id, or ''.
    ``skipping``: an event past the bound is being skipped.
    """

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES, *, liberal: bool = False) -> None:
        """``liberal``: parse as a provider's answer is read. Otherwise parse by the standard, and an event past the
        bound is an error (as it is for a liberal parser past MOST_SKIPPED)."""
        self.retry_ms: int | None = None
        self._max_bytes = max_bytes
        self._liberal = liberal
        self._loose: list[bytes] = []
        self.skipping = self._skipped_line = False
        self._skipped_bytes = 0
        self._line = bytearray()
        self._after_cr = False
        self._started = False
        self._between = False
        """Whether the next byte begins an event that is not the first one (which may have a byte order mark)."""
        self._event = ""
        self._data: list[str] = []
        self._data_bytes = 0
        self.last_id = ""

    def bare(self, chunk: bytes) -> list[bytes] | None:
        """The data of each event, if a read holds only whole events of one ``data`` line each, as nearly all reads
        of a provider do: then the read is taken. None for any other read, which must be fed.

        This costs a sixth of the instructions of feeding it, and half of the time of a regular expression.
        """
        if not self._between or len(chunk) > self._max_bytes or b"\r" in chunk:
            return None
        if not (chunk.startswith(b"data: ") and chunk.endswith(b"\n\n")):
            return None
        pieces = chunk[6:-2].split(b"\n\ndata: ")
        # There are no line ends but those between the pieces, so no piece holds another field or line.
        return pieces if chunk.count(b"\n") == 2 * len(pieces) else None

    def messages(self, bare: Iterable[bytes]) -> list[ServerSentEvent]:
        """The events for the data that :meth:`bare` returned."""
        return [ServerSentEvent("message", data.decode("utf-8", "replace"), self.last_id) for data in bare]

    def feed(self, chunk: bytes) -> Iterable[ServerSentEvent]:
        """Take one read. Out: the events that it completes; consume them before the next read. Raises
        :class:`SseError` past the bound, after the events before it."""
        if bare := self.bare(chunk):
            return self.messages(bare)
        self._between = False
        return self._feed(chunk)

    def _feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if chunk.endswith(b"\r"):
            self._after_cr = True
        # bytes.splitlines breaks at LF, CR and CRLF only, which is the standard's own set.
        for piece in chunk.splitlines(keepends=True):
            body = piece.rstrip(b"\r\n")
            if self._data_bytes + len(self._line) + len(body) > self._max_bytes:
                if not self._liberal:
                    raise SseError(f"an event of more than {self._max_bytes} bytes")
                self.skipping = True
                self._forget()
            if self.skipping:
                self._skipped_bytes += len(body)
                if self._skipped_bytes > MOST_SKIPPED * self._max_bytes:
                    raise SseError(f"events of more than {self._skipped_bytes} bytes")
                self._skipped_line = self._skipped_line or bool(body)
                if len(body) == len(piece):
                    continue
                if not self._skipped_line:
                    yield self._omitted()
                self._skipped_line = False
                continue
            self._line += body
            if len(body) < len(piece):
                line, self._line = bytes(self._line), bytearray()
                event = self._take_line(line)
                if event is not None:
                    yield event
        self._between = self._started and not (
            self._line or self._data or self._event or self._after_cr or self._loose or self.skipping
        )

    def finish(self) -> ServerSentEvent | None:
        """The peer closed. Out: the last event, if its data had come and only the blank line was missing.

        A browser drops such an event. Here it counts: some AI providers forget the last blank line.
        """
        if self.skipping:
            return self._omitted()
        if self._line:
            line, self._line = bytes(self._line), bytearray()
            self._take_line(line)
        return self._dispatch()

    def _forget(self) -> None:
        self._line = bytearray()
        self._event, self._data, self._data_bytes, self._loose = "", [], 0, []

    def _omitted(self) -> ServerSentEvent:
        self.skipping = self._skipped_line = False
        return ServerSentEvent(OMITTED, "", self.last_id)

    def _take_line(self, raw: bytes) -> ServerSentEvent | None:
        if not self._started:
            self._started = True
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if not raw:
            return self._dispatch()
        name, _, value = raw.partition(b":")
        if self._liberal and name not in _FIELDS:
            self._take_loose(raw, name, value)
            return None
        loose = self._dispatch() if self._loose and name else None
        self._take_field(name, value.removeprefix(b" ").decode("utf-8", "replace"), len(value))
        return loose

    def _take_loose(self, raw: bytes, name: bytes, value: bytes) -> None:
        if name == b"error":
            self._event = "error"
            self._take_field(b"data", value.strip().decode("utf-8", "replace"), len(value))
        elif self._loose or raw.lstrip()[:1] in (b"{", b"["):
            self._loose.append(raw)
            self._data_bytes += len(raw) + 1

    def _take_field(self, name: bytes, value: str, size: int) -> None:
        if name == b"data":
            self._data.append(value)
            self._data_bytes += size + 1
        elif name == b"event":
            self._event = value
        elif name == b"id":
            if "\0" not in value:
                self.last_id = value
        elif name == b"retry" and value.isascii() and value.isdigit() and len(value) < 10:
            self.retry_ms = int(value)

    def _dispatch(self) -> ServerSentEvent | None:
        event, data = self._event, self._data
        if self._loose and not data:
            event, data = LOOSE, [b"\n".join(self._loose).decode("utf-8", "replace")]
        self._forget()
        if not data:
            return None
        return ServerSentEvent(event or "message", "\n".join(data), self.last_id)
