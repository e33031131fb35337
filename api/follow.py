"""A followed log: what the reader knows of it, shared by all of its viewers here."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from api.buffers import SLICE_BYTES, SharedBuffer
from api.dialects.base import Dialect
from api.sink import frame
from shared.events import FRESH, MESSAGE
from shared.ids import MAX_PART, Cursor, follows
from shared.log import DATA, TYPE, RawEntry, read_entry


def just_before(cursor: Cursor) -> Cursor:
    """The largest id below this one: XREAD is exclusive."""
    return Cursor(cursor.epoch, cursor.n - 1) if cursor.n else Cursor(max(cursor.epoch - 1, 0), MAX_PART)


class Waiting(Protocol):
    """A viewer that waits for something to do."""

    def push(self, framed: bytes, start: int, behind: int, last: bytes) -> bool:
        """Take the events between two sequence numbers, the last of them with this id, as a framed chunk.

        Out: False if it can't: then it has to be woken."""
        ...

    def wake(self) -> None:
        """Look around."""
        ...


class Follow:
    """One log in one dialect.

    ``position`` is the last id read, as Redis tells it; ``generation`` counts how often the buffer had to be thrown
    away (a gap, or a buffer ahead of its log), after which every viewer needs a snapshot; ``terminal`` is the last
    event's id once it was read; ``gone`` says that the log vanished; ``changes`` counts whatever happens.
    """

    def __init__(self, stream_id: str, key: bytes, dialect: Dialect, text_from: Cursor) -> None:
        self.stream_id = stream_id
        self.key = key
        self.dialect = dialect
        self.buffer = SharedBuffer()
        self.position = just_before(text_from).encode()
        self.generation = 0
        self.terminal: Cursor | None = None
        self.gone = False
        self.loaded = asyncio.Event()
        self.viewers = 0
        self.changes = 0
        self._waiting: dict[Waiting, None] = {}

    def extend(self, entries: Sequence[RawEntry]) -> None:
        """Take what the log brought, one entry or more, in order."""
        buffer, dialect = self.buffer, self.dialect
        start, generation = buffer.end, self.generation
        said: list[bytes] = []
        for entry in entries:
            position, fields = entry
            if position != buffer.next_id:
                self._join(entry)
            kind = fields[TYPE].decode()
            data = dialect.entry(position, kind, fields[DATA])
            said.append(data)
            self.position = position
            if kind == MESSAGE:
                buffer.append(data, piece=True)
                continue
            buffer.append(data)
            if kind in dialect.last_words:
                self.terminal = buffer.last
        chunk = b"".join(said)
        whole = len(chunk) <= SLICE_BYTES and start >= buffer.base
        if whole and self.terminal is None and self.generation == generation:
            self._push(chunk, start, start + len(said))
        else:
            self.notify()

    def _join(self, raw: RawEntry) -> None:
        """Begin anew at an entry whose id does not count on from the last one's."""
        entry = read_entry(raw)
        if not (follows(self.buffer.last, entry.cursor, entry.after) or entry.type in FRESH):
            self.reset()
        self.buffer.begin(entry.cursor, entry.after)

    def _push(self, chunk: bytes, start: int, behind: int) -> None:
        """Send what just came to those who wait for it; wake those who can't take it so."""
        self.changes += 1
        if not self._waiting:
            return
        framed, last = frame(chunk), self.position
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
        self.position = last.encode()
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
