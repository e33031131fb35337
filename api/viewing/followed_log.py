"""The logs that have a viewer here: what the hub knows of each, shared by all of its viewers.

Theory of operation. A followed log belongs to one creation of its stream. An ``Idempotency-Key`` makes an erased
stream again under the same id and in the same key of Redis, so the creation's time, which the record tells, is part
of what is followed. A followed log learns in one of three ways that its stream is gone: its log is
empty; its log holds another creation (a ``queued`` event behind what was read, or a record of another time); a
viewer comes for a later creation. Its viewers are then told that the stream is gone, and nobody joins it any more.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

from api.dialects.base import Dialect
from api.http.sink import frame
from api.viewing.shared_buffer import SLICE_BYTES, SharedBuffer
from api.viewing.snapshots import Recent
from shared.protocol.cursor import MAX_PART, Cursor, entry_cursor, follows
from shared.protocol.events import FRESH, MESSAGE, QUEUED, RESTART, STARTED
from shared.store.keys import Keys
from shared.store.log import DATA, TYPE, Entry, RawEntry, read_entry

Key = tuple[str, str, Cursor | None]
"""Stream and dialect; and the id from which the text counts, where the dialect can't take back what it said."""


def just_before(cursor: Cursor) -> Cursor:
    """The largest id below this one: XREAD is exclusive."""
    return Cursor(cursor.epoch, cursor.n - 1) if cursor.n else Cursor(max(cursor.epoch - 1, 0), MAX_PART)


class Waiter(Protocol):
    """A viewer that waits for something to do."""

    def push(self, framed: bytes, start: int, behind: int, last: bytes) -> bool:
        """Take the events between two sequence numbers, the last of them with this id, as a framed chunk.

        Out: False if it can't: then it has to be woken."""
        ...

    def wake(self) -> None:
        """Look around."""
        ...


class Resync(NamedTuple):
    """Everything said up to an id, ready to be sent, for all viewers of a log.

    ``as_of``: that id, b'' where nothing was said; ``tail``: the entries behind it that were read with it, or some
    of them; ``dialect``: stands there. It is asked for twins only (:meth:`api.dialects.base.Dialect.at`)."""

    head: bytes
    as_of: bytes
    tail: list[Entry]
    dialect: Dialect


class FollowedLog:
    """One log of one creation (``created_ms``, as the record tells it) in one dialect.

    ``position`` is the last id read, as Redis tells it; ``generation`` counts how often the buffer had to be thrown
    away (a gap, or a buffer ahead of its log), after which every viewer needs a ``snapshot`` (ready to be sent,
    with what was read; None: the stream is gone); ``terminal`` is the last event's id once it was read; ``gone``
    says that the log vanished; ``changes`` counts all that happens.
    """

    def __init__(self, stream_id: str, key: bytes, dialect: Dialect, text_from: Cursor, created_ms: int) -> None:
        """``dialect`` stands in front of ``text_from``."""
        self.stream_id = stream_id
        self.found_by: Key = (stream_id, dialect.name, None)
        self.created_ms = created_ms
        self.key = key
        self.dialect = dialect
        """Stands behind the last event that was read, unless it is ``adrift``."""
        self.adrift = False
        """The dialect is stateful, and where it stood is not known: nothing is put into the buffer, and viewers
        read pages, until one that has read everything hands over its own (:meth:`take_over`)."""
        self.buffer = SharedBuffer()
        self._text_from = text_from
        self.position = just_before(text_from).encode()
        self.generation = 0
        self.terminal: Cursor | None = None
        self.gone = False
        self.loaded = asyncio.Event()
        self.viewers = 0
        self.changes = 0
        self.snapshot: Recent[Resync | None] = Recent()
        self._waiting: dict[Waiter, None] = {}
        self._asked = ""

    def shared(self, asked: str) -> str:
        """The same text, as the one object that all viewers hold: what a record keeps of its request may be half a
        megabyte, and each viewer's dialect knows it."""
        if self._asked != asked:
            self._asked = asked
        return self._asked

    def extend(self, entries: Sequence[RawEntry]) -> None:
        """Take what the log brought, one entry or more, in order."""
        if self.adrift or self.terminal is not None:
            self._pass(entries)
            return
        buffer, dialect = self.buffer, self.dialect
        start, generation = buffer.end, self.generation
        said: list[bytes] = []
        for entry in entries:
            position, fields = entry
            kind = fields[TYPE].decode()
            if position != buffer.next_id:
                if kind == QUEUED and buffer.last is not None:
                    self.vanish()
                    return
                self._join(entry)
                if self.adrift:
                    self._pass(entries)
                    return
            if kind == MESSAGE:
                said.append(data := dialect.entry(position, kind, fields[DATA]))
                buffer.append(data, piece=True)
                continue
            if kind == RESTART and self._is_beginning(position):
                kind = STARTED
            said.append(data := dialect.entry(position, kind, fields[DATA]))
            buffer.append(data)
            if kind in dialect.last_words:
                self.terminal = buffer.last
                self._pass(entries)  # behind a restart the log goes on, and this dialect can't say it
                return
        self.position = position
        chunk = b"".join(said)
        whole = len(chunk) <= SLICE_BYTES and start >= buffer.base
        if whole and self.generation == generation:
            self._push(chunk, start, start + len(said))
        else:
            self.notify()

    def _join(self, raw: RawEntry) -> None:
        """Start over at an entry whose id does not count on from the last one's."""
        entry = read_entry(raw)
        if self.dialect.stateful and self.buffer.last is None and entry.cursor != self._text_from:
            self.adrift = self.buffer.next_id == b""
        if not (follows(self.buffer.last, entry.cursor, entry.after) or entry.type in FRESH):
            self.reset()
        if not self.adrift:
            self.buffer.begin(entry.cursor, entry.after)

    def _is_beginning(self, position: bytes) -> bool:
        """Whether this restart is where the viewers of this log begin. Viewers that saw more have another one."""
        return not self.dialect.restarts and position == self._text_from.encode()

    def _pass(self, entries: Sequence[RawEntry]) -> None:
        """Only note how far the log reaches."""
        self.position = entries[-1][0]
        self.notify()

    def take_over(self, dialect: Dialect, last: bytes) -> bool:
        """Go on from where a viewer's dialect stands, behind the event of this id. Out: whether it is the last one,
        and the log was adrift."""
        if not self.adrift or last != self.position:
            return False
        self.dialect = dialect
        self.adrift = False
        self.buffer.begin_behind(entry_cursor(last))
        return True

    def _push(self, chunk: bytes, start: int, behind: int) -> None:
        """Send what just came to the viewers that wait for it, and wake those that can't take it so."""
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
        self.adrift = self.dialect.stateful
        self.snapshot.forget()
        self.generation += 1
        self.terminal = None

    def rewind(self, last: Cursor) -> None:
        """The log ends before what was read from it (its server lost something)."""
        self.reset()
        self.position = last.encode()
        self.notify()

    def vanish(self) -> None:
        """The log is gone."""
        self.gone = True
        self.loaded.set()
        self.notify()

    def notify(self) -> None:
        """Wake all viewers that wait."""
        self.changes += 1
        waiting, self._waiting = self._waiting, {}
        for one in waiting:
            one.wake()

    def wait(self, waiting: Waiter) -> None:
        """Push to this viewer, or wake it, at the next change."""
        self._waiting[waiting] = None

    def leave(self, waiting: Waiter) -> None:
        """This viewer waits no more."""
        self._waiting.pop(waiting, None)


class FollowedLogs:
    """All of them, by stream and dialect. Each is made for its first viewer, and kept a moment after its last left.
    So a viewer that reconnects, or a storm of them, finds the same buffer."""

    def __init__(
        self,
        keys: Keys,
        linger_s: float,
        made: Callable[[FollowedLog], None],
        forgotten: Callable[[FollowedLog], None],
    ) -> None:
        """``made`` and ``forgotten`` are told of each followed log that comes and goes."""
        self._keys = keys
        self._linger_s = linger_s
        self._made = made
        self._forgotten = forgotten
        self._logs: dict[Key, FollowedLog] = {}
        self._by_stream: dict[str, list[FollowedLog]] = {}
        self._lingering: dict[FollowedLog, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._logs)

    def __iter__(self) -> Iterator[FollowedLog]:
        return iter(self._logs.values())

    def of(self, stream_ids: Iterable[str]) -> list[FollowedLog]:
        """All followed logs of these streams, one for each dialect."""
        known = self._by_stream
        return [followed for one in stream_ids for followed in known.get(one, ()) if not followed.gone]

    @contextmanager
    def viewed(self, stream_id: str, dialect: Dialect, text_from: Cursor, created_ms: int) -> Iterator[FollowedLog]:
        """Follow a log as long as the block lasts, and ``linger_s`` beyond. Where a later creation of its stream is
        followed already, the log is gone from the beginning."""
        for sibling in (siblings := self._by_stream.get(stream_id, ())):
            if sibling.created_ms < created_ms:
                sibling.vanish()
        # A one-way dialect ends at a restart, so viewers that begin there have a followed log of their own.
        key = (stream_id, dialect.name, None if dialect.restarts else text_from)
        followed = self._logs.get(key)
        if followed is None or followed.gone or followed.created_ms != created_ms:
            followed = FollowedLog(stream_id, self._keys.log(stream_id).encode(), dialect, text_from, created_ms)
            followed.found_by = key
            if any(sibling.created_ms > created_ms and not sibling.gone for sibling in siblings):
                followed.vanish()
                yield followed
                return
            self._logs[key] = followed
            self._by_stream.setdefault(stream_id, []).append(followed)
            self._made(followed)
        handle = self._lingering.pop(followed, None)
        if handle is not None:
            handle.cancel()
        followed.viewers += 1
        try:
            yield followed
        finally:
            followed.viewers -= 1
            if not followed.viewers:
                loop = asyncio.get_running_loop()
                self._lingering[followed] = loop.call_later(self._linger_s, self._forget, followed)

    def close(self) -> None:
        """Forget no more (the process ends)."""
        for handle in self._lingering.values():
            handle.cancel()

    def _forget(self, followed: FollowedLog) -> None:
        self._lingering.pop(followed, None)
        if followed.viewers:
            return
        if self._logs.get(followed.found_by) is followed:
            del self._logs[followed.found_by]
        siblings = self._by_stream.get(followed.stream_id, [])
        if followed in siblings:
            siblings.remove(followed)
        if not siblings:
            self._by_stream.pop(followed.stream_id, None)
        self._forgotten(followed)
