"""A followed log: what the reader knows of it, shared by all of its viewers here."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from api.buffers import SharedBuffer
from api.dialects.base import Dialect
from api.sink import frame
from shared.events import FRESH, MESSAGE
from shared.ids import MAX_PART, Cursor, follows
from shared.log import Entry


def just_before(cursor: Cursor) -> Cursor:
    """The largest id below this one: XREAD is exclusive."""
    return Cursor(cursor.epoch, cursor.n - 1) if cursor.n else Cursor(max(cursor.epoch - 1, 0), MAX_PART)


class Waiting(Protocol):
    """A viewer that waits for something to do."""

    def push(self, framed: bytes, start: int, behind: int, last: Cursor) -> bool:
        """Take the events between two sequence numbers, the last of them with this id, as a framed chunk.

        Out: False if it can't, or did not take all: then it has to be woken."""
        ...

    def wake(self) -> None:
        """Look around."""
        ...


class Follow:
    """One log in one dialect.

    ``position`` is the last id read; ``generation`` counts how often the buffer had to be thrown away (a gap,
    or a buffer ahead of its log), after which every viewer needs a snapshot; ``terminal`` is the last
    event's id once it was read; ``gone`` says that the log vanished; ``changes`` counts whatever happens.
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
        self.changes = 0
        self._waiting: dict[Waiting, None] = {}

    def extend(self, entries: Sequence[Entry]) -> None:
        """Take what the log brought, in order."""
        start, generation = self.buffer.end, self.generation
        for entry in entries:
            if not (follows(self.buffer.last, entry.cursor, entry.after) or entry.type in FRESH):
                self.reset()
            data = self.dialect.entry(entry)
            self.buffer.append(entry.cursor, data, after=entry.after, piece=entry.type == MESSAGE)
            self.position = entry.cursor
            if entry.type in self.dialect.last_words:
                self.terminal = entry.cursor
        if self.terminal is None and self.generation == generation and start >= self.buffer.base:
            self._push(start)
        else:
            self.notify()

    def _push(self, start: int) -> None:
        """Send what just came to those who wait for it; wake those who can't take it so."""
        self.changes += 1
        if not self._waiting:
            return
        chunk, behind = self.buffer.slice(start)
        framed, last = frame(chunk), self.buffer.cursor_before(behind)
        for waiting in [one for one in self._waiting if not one.push(framed, start, behind, last)]:
            del self._waiting[waiting]
            waiting.wake()

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
        self.changes += 1
        waiting, self._waiting = self._waiting, {}
        for one in waiting:
            one.wake()

    def wait(self, waiting: Waiting) -> None:
        """Push to this viewer, or wake it, at the next change."""
        self._waiting[waiting] = None

    def leave(self, waiting: Waiting) -> None:
        """This viewer waits no more."""
        self._waiting.pop(waiting, None)
