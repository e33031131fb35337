"""Headrace's own dialect: one SSE event for each event of the log, its cursor as the SSE id.

Deltas are unnamed, so ``source.onmessage`` just works; all others are named by their type, and none is
named ``error``, which EventSource uses itself.
"""

from collections.abc import Sequence
from typing import Any, Final

from shared.events import FAILED, SNAPSHOT, TERMINAL, encode_data
from shared.ids import Cursor
from shared.log import Entry
from shared.sse import encode_event

BEGINNING: Final = Cursor(0, 0)
"""In front of every log; whoever comes back with it gets a snapshot again."""

GONE_TEXT: Final = "This stream was erased, or has expired. Nothing more will come; create a new one."


class NativeDialect:
    """See :class:`api.dialects.base.Dialect`."""

    name = "native"
    last_words = TERMINAL
    restarts = True

    def entry(self, entry: Entry) -> bytes:
        return encode_event(entry.type, entry.data, entry.cursor.encode())

    def batch(self, entries: Sequence[Entry]) -> bytes:
        return b"".join(map(self.entry, entries))

    def snapshot(self, data: dict[str, Any], as_of: Cursor | None) -> bytes:
        # Also one of nothing has an id: whoever is cut off right behind it must not go on behind what it replaced.
        return encode_event(SNAPSHOT, encode_data(data), (as_of or BEGINNING).encode())

    def gone(self) -> bytes:
        data = {"code": "stream_gone", "message": GONE_TEXT, "retryable": False}
        return encode_event(FAILED, encode_data(data), None)

    def lost(self) -> bytes:
        raise AssertionError("a snapshot takes back what was said")
