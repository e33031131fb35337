"""The ends of a viewer's response that are not the end of an answer, in the same words for all dialects. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared.protocol.events import CANCELLED, DONE, FAILED, RESTART, TERMINAL, decode_data
from shared.store.log import Entry

PARTING_TEXT: Final = "This connection ends before the answer does. The answer goes on: come back, and read on."
GONE_TEXT: Final = "This stream was erased, or has expired. Nothing more will come; create a new one."
LOST_TEXT: Final = "What was shown so far can't be joined to what the log still has. Ask again."
RESTARTED_TEXT: Final = "The answer started over, which can't be shown here without repeating text. Ask again."

Failure = dict[str, Any]
"""The data of a ``failed`` event: ``code``, ``message`` and ``retryable``."""

PARTED: Final[Failure] = {"code": "connection_ended", "message": PARTING_TEXT, "retryable": True}
GONE: Final[Failure] = {"code": "stream_gone", "message": GONE_TEXT, "retryable": False}
LOST: Final[Failure] = {"code": "text_lost", "message": LOST_TEXT, "retryable": True}
RESTARTED: Final[Failure] = {"code": "restarted", "message": RESTARTED_TEXT, "retryable": True}


class OneWayDialect:
    """A dialect without a word that takes back what was said. A ``restart`` is its end, and an error.

    A dialect of this kind gives :meth:`entry`, :meth:`done` and :meth:`failed`; each gets the id ``cursor`` of its
    event (b'': it has none).
    """

    last_words: frozenset[str] = TERMINAL | {RESTART}
    restarts = False

    def entry(self, cursor: bytes, kind: str, data: bytes) -> bytes:
        """One event of the log, ready to be sent."""
        raise NotImplementedError

    def batch(self, entries: Sequence[Entry]) -> bytes:
        """Several events, each as :meth:`entry`."""
        return b"".join(self.entry(entry.cursor.encode(), entry.type, entry.data) for entry in entries)

    def parting(self) -> bytes:
        """The connection ends, and the stream goes on."""
        return self.broken(PARTED)

    def gone(self) -> bytes:
        """The log vanished under its viewer."""
        return self.broken(GONE)

    def lost(self) -> bytes:
        """What this viewer saw can't be joined to what is there."""
        return self.broken(LOST)

    def ending(self, cursor: bytes, kind: str, raw: bytes) -> bytes:
        """One of the ``last_words``; b'' for any other event."""
        if kind == DONE:
            return self.done(cursor, decode_data(raw))
        if kind == FAILED:
            return self.failed(cursor, decode_data(raw))
        if kind == CANCELLED:
            return self.cancelled(cursor, decode_data(raw))
        return self.failed(cursor, RESTARTED) if kind == RESTART else b""

    def done(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        """The answer is whole. ``data``: that of ``done``."""
        raise NotImplementedError

    def failed(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        """The answer failed, or can't be shown any further. ``data``: as :data:`Failure`."""
        raise NotImplementedError

    def cancelled(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        """The answer was stopped. ``data``: that of ``cancelled``. An error, where the protocol has no word."""
        message = f"The answer was stopped ({data.get('reason', '')})."
        return self.failed(cursor, {"code": "cancelled", "message": message, "retryable": True})

    def broken(self, data: Failure) -> bytes:
        """This response ends for a reason that is not in the log."""
        return self.failed(b"", data)
