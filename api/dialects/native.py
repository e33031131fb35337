"""Headrace's own dialect: one SSE event for each event of the log, its cursor as the SSE id.

Deltas are unnamed, so ``source.onmessage`` just works; all others are named by their type, and none is
named ``error``, which EventSource uses itself.
"""

from collections.abc import Sequence
from typing import Final

from api.dialects.base import About, Told
from api.dialects.endings import GONE
from shared.protocol.cursor import Cursor
from shared.protocol.events import FAILED, MESSAGE, SNAPSHOT, TERMINAL, encode_data
from shared.protocol.sse import encode_event
from shared.store.log import Entry

BEGINNING: Final = b"0-0"
"""In front of every log; a viewer that comes back with it gets a snapshot again."""


def speak(about: About) -> "NativeDialect":
    """See :func:`api.dialects.dialect`."""
    return NativeDialect()


class NativeDialect:
    """See :class:`api.dialects.base.Dialect`."""

    name = "native"
    last_words = TERMINAL
    restarts = True
    stateful = False

    def entry(self, cursor: bytes, kind: str, data: bytes) -> bytes:
        if kind == MESSAGE:  # in one step: nearly all events are these, and their data is one line
            return b"id: %b\ndata: %b\n\n" % (cursor, data)
        return encode_event(kind, data, cursor)

    def batch(self, entries: Sequence[Entry]) -> bytes:
        return b"".join(self.entry(entry.cursor.encode(), entry.type, entry.data) for entry in entries)

    def snapshot(self, told: Told) -> bytes:
        # An empty one has an id too: a viewer that is cut off right behind it must not come back with its older
        # cursor, whose text this snapshot took back.
        as_of = BEGINNING if told.as_of is None else told.as_of.encode()
        return encode_event(SNAPSHOT, encode_data(told.as_data()), as_of)

    def at(self, cursor: Cursor | None) -> "NativeDialect":
        return self

    def greeting(self) -> bytes:
        return b""

    def parting(self) -> bytes:
        return b""

    def gone(self) -> bytes:
        return encode_event(FAILED, encode_data(GONE), None)

    def lost(self) -> bytes:
        raise AssertionError("a snapshot takes back what was said")
