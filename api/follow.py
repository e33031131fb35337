"""A followed log: what the reader knows of it, shared by all of its viewers here."""

import asyncio
from collections.abc import Sequence

from api.buffers import SharedBuffer
from api.dialects.base import Dialect
from shared.events import FRESH
from shared.ids import MAX_PART, Cursor, follows
from shared.log import Entry


def just_before(cursor: Cursor) -> Cursor:
    """The largest id below this one: XREAD is exclusive."""
    return Cursor(cursor.epoch, cursor.n - 1) if cursor.n else Cursor(max(cursor.epoch - 1, 0), MAX_PART)


class Follow:
    """One log in one dialect.

    ``position`` is the last id read; ``generation`` counts how often the buffer had to be thrown away (a gap,
    or a buffer ahead of its log), after which every viewer needs a snapshot; ``terminal`` is the last
    event's id once it was read; ``gone`` says that the log vanished.
    """

    def __init__(self, stream_id: str, key: str, dialect: Dialect, text_from: Cursor) -> None:
        self.stream_id = stream_id
        self.key = key
        self.dialect = dialect
        self.buffer = SharedBuffer()
        self.position = just_before(text_from)
        self.generation = 0
        self.terminal: Cursor | None = None
        self.gone = False
        self.loaded = asyncio.Event()
        self.viewers = 0
        self._changed = asyncio.Event()

    def extend(self, entries: Sequence[Entry]) -> None:
        """Take what the log brought, in order."""
        for entry in entries:
            if not (follows(self.buffer.last, entry.cursor, entry.after) or entry.type in FRESH):
                self.reset()
            self.buffer.append(entry.cursor, self.dialect.entry(entry))
            self.position = entry.cursor
            if entry.type in self.dialect.last_words:
                self.terminal = entry.cursor
        self.notify()

    def reset(self) -> None:
        """What was read can't be joined to what is there: viewers get a snapshot."""
        self.buffer.clear()
        self.generation += 1
        self.terminal = None

    def rewind(self, last: Cursor) -> None:
        """The log ends before what was read from it (its server lost something)."""
        self.reset()
        self.position = last
        self.notify()

    def vanish(self) -> None:
        """The log is no more."""
        self.gone = True
        self.loaded.set()
        self.notify()

    def notify(self) -> None:
        """Wake all viewers that wait."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def change(self) -> asyncio.Event:
        """Set at the next change. Taken before looking, it misses none."""
        return self._changed
