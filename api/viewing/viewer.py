"""A viewer: one open SSE response. It holds a cursor, not a queue.

Theory of operation. While its socket is full nothing is read for it, so a slow viewer costs no memory and slows
nobody. What a cursor leads to, each explicit:

- this very id is in the log → everything behind it, then live;
- trimmed away, never there, or ahead of the log → ``snapshot`` as of an id, then everything behind that;
- a gap met on the way, or a buffer that had to be thrown away → the same;
- at the terminal event → nothing: the route answers 204, which tells EventSource to stop.

A new viewer without a cursor starts at the opening from which the text counts (``text_from``). From then on a
viewer is in one of four states (:data:`NEXT`). *Live*: it is served from the shared buffer; what comes while it
waits is written to its socket by the hub itself (:meth:`Viewer.push`). *Paging*: it fell behind the buffer, and
reads pages of the log. *Resync*: what it got can't be joined to what is there; it gets a snapshot, or the last
event of a dialect that can't take back what it said. *Ended*: nothing more comes.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Final

import structlog
from redis.exceptions import RedisError

from api.dialects.base import Dialect, StartingPoint, Told
from api.dialects.native import BEGINNING
from api.http.sink import Sink
from api.http.unsent import Unsent
from api.viewing.batching import Batching, BatchLimits, gather
from api.viewing.followed_log import FollowedLog, Resync
from api.viewing.hub import Hub
from api.viewing.shared_buffer import SLICE_BYTES
from api.viewing.snapshots import SHARED_S
from shared.protocol.cursor import Cursor, entry_cursor, follows
from shared.protocol.events import FRESH, MESSAGE, RESTART, STARTED, decode_data, decode_many
from shared.protocol.sse import encode_comment, encode_retry
from shared.protocol.transcript import without
from shared.redis import AWAY
from shared.store.log import Entry
from shared.store.streams import LARGE_SNAPSHOT, Reading, Streams

RETRY_MS: Final = 1000
"""A viewer that loses its connection is back after a second."""
STOP_RETRY_MS: Final = (500, 3000)
"""When this process stops, its viewers come back spread over this time: a deploy is no reconnect storm."""
AWAY_S: Final = 0.5
PAGE: Final = 500
"""Entries of one page at most."""
FIRST_PAGE: Final = 64
"""Entries of 1 KiB fill a write with that; the pages then grow or shrink with what they bring."""
OVERHEAD: Final = 64
"""Bytes around an event's data, about: its id, its name and the line ends."""

LARGE: Final = 4 * SLICE_BYTES
"""A larger write is a snapshot, or an event as large."""
UNREAD: Final = "answers of this key wait for viewers to take them; come back soon"
_BEGINNING: Final = entry_cursor(BEGINNING)

log = structlog.get_logger("api.viewer")


Find = Callable[[Dialect], StartingPoint | None]
"""Finds a starting point. In: a dialect that has read its whole log. Out: None where the log is too short."""


class State(Enum):
    """Where a viewer stands."""

    LIVE = "live"
    PAGING = "paging"
    RESYNC = "resync"
    ENDED = "ended"


NEXT: Final[Mapping[State, frozenset[State]]] = {
    State.LIVE: frozenset({State.PAGING, State.RESYNC, State.ENDED}),
    State.PAGING: frozenset({State.LIVE, State.RESYNC, State.ENDED}),
    State.RESYNC: frozenset({State.PAGING, State.ENDED}),
    State.ENDED: frozenset(),
}
"""What may follow what."""


class Viewer:
    """One viewer of one followed log."""

    def __init__(
        self,
        hub: Hub,
        streams: Streams,
        followed: FollowedLog,
        dialect: Dialect,
        text_from: Cursor,
        stopping: Callable[[], bool],
        sink: Sink,
        unsent: Unsent,
        owner: str,
    ) -> None:
        """``dialect``: one of the followed log's name, in front of ``text_from``."""
        self._hub = hub
        self._unsent = unsent
        self._owner = owner
        self._streams = streams
        self._followed = followed
        self._dialect = dialect
        self._own: Dialect | None = None
        """Stands behind the last event that this viewer got; None where that has to be found out."""
        self._greeting = b""
        """What the dialect has still to say to a viewer that begins or comes back."""
        self._greeted = False
        """Whether that was told once: it is not said again."""
        self._text_from = text_from
        self._stopping = stopping
        self._sink = sink
        self._woken: asyncio.Future[None] | None = None
        self._generation = followed.generation
        self.state = State.PAGING
        self._sequence = -1
        """Of the next event in the shared buffer, for a viewer that is live."""
        self._last: bytes | None = None
        """The id of the last event that this viewer got; None: it begins at ``text_from``."""
        self._page_size = FIRST_PAGE
        self._steps: Mapping[State, Callable[[], Awaitable[bytes]]] = {
            State.LIVE: self._from_buffer,
            State.PAGING: self._page,
            State.RESYNC: self._resync,
        }

    def _to(self, state: State) -> None:
        if state is not self.state:
            assert state in NEXT[self.state], f"{self.state} -> {state}"
            self.state = state

    async def find(self, find: Find) -> StartingPoint | None:
        """The starting point that ``find`` tells. Raises what that raises, one of AWAY, or a RedisError."""
        found = None if self._followed.adrift else find(self._followed.dialect)
        if found is None:  # or the hub is a moment behind what another process has shown
            found = await self._find_in_snapshot(find)
        if found is None:  # or the shared snapshot is older than this viewer: wait for the next
            await asyncio.sleep(SHARED_S)
            found = await self._find_in_snapshot(find)
        return found

    async def _find_in_snapshot(self, find: Find) -> StartingPoint | None:
        known = await self._followed.snapshot.get(self._read_snapshot)
        return find(known.dialect) if known else StartingPoint(None, 0)  # the viewer hears that it is gone

    async def open(self, cursor: Cursor | None) -> bool:
        """Find where this viewer stands. Out: False if it has seen everything to the end (204).

        Raises one of AWAY, or a RedisError, while Redis can't be asked.
        """
        if cursor == _BEGINNING and not self._dialect.restarts:
            cursor = None
        in_front = cursor is not None and self._in_front(cursor) and await self._restarted()
        wanted = self._text_from if cursor is None else cursor
        self._last = None if cursor is None else cursor.encode()
        buffer = self._followed.buffer
        found = None if in_front else buffer.at(wanted) if cursor is None else buffer.behind(cursor)
        if found is not None:
            self._greeting = await self._greet()
            self._live_at(found)
            return cursor is None or cursor != self._followed.terminal
        entries = await self._hub.page(self._followed.stream_id, wanted.encode(), after=False, count=1)
        if not entries or entries[0].cursor != wanted:
            self._to(State.RESYNC)
            return True
        self._greeting = await self._greet()
        if self._own is None:
            self._to(State.RESYNC)
        return cursor is None or entries[0].type not in self._dialect.last_words

    def _in_front(self, cursor: Cursor) -> bool:
        """Whether this event stands in front of where the text begins, for a dialect that can't take text back."""
        return not self._dialect.restarts and cursor < self._text_from

    async def _restarted(self) -> bool:
        """Whether the text started over behind something that was said (or that can't be told any more)."""
        opening = self._text_from
        entries = await self._hub.page(self._followed.stream_id, opening.encode(), after=False, count=1)
        return not entries or entries[0].cursor != opening or entries[0].type == RESTART

    async def _greet(self) -> bytes:
        """Find out where the dialect stands. Out: what it says to a viewer that begins or comes back there; b''
        for one that was greeted, or where that can't be told."""
        self._own = await self._stand()
        if self._greeted or self._own is None:
            return b""
        self._greeted = True
        return self._own.greeting()

    async def _stand(self) -> Dialect | None:
        """The dialect as it stands behind the last event that this viewer got; None where that can't be told."""
        last = None if self._last is None else entry_cursor(self._last)
        if last is None or not self._dialect.stateful:
            return self._dialect.at(last)
        found = None if self._followed.adrift else self._followed.dialect.at(last)
        if found is None:
            known = await self._followed.snapshot.get(self._read_snapshot)
            found = known and known.dialect.at(last)
        return found

    def attach(self, followed: FollowedLog) -> None:
        """Read from this followed log from now on: the one that :meth:`open` saw may have been let go since."""
        if followed is not self._followed:
            self._followed = followed
            self._generation = followed.generation
            if self.state is State.LIVE:
                self._to(State.PAGING)

    async def stream(self) -> AsyncIterator[bytes]:
        """Everything from there on, in writes ready to be sent, until the terminal event or the stop."""
        if self._greeting:
            yield self._greeting
            self._greeting = b""
        while self.state is not State.ENDED:
            if self._stopping():
                yield encode_retry(random.randint(*STOP_RETRY_MS)) + self.parting()  # noqa: S311
                return
            changes, before = self._followed.changes, self._position
            try:
                chunk = await self._step()
            except (*AWAY, RedisError) as error:
                log.warning("viewer_waits", stream=self._followed.stream_id, error=type(error).__name__)
                await asyncio.sleep(AWAY_S)
                continue
            if len(chunk) > LARGE:
                admitted = self._unsent.admit(self._owner, chunk)
                if admitted is None:
                    yield encode_retry(2 * RETRY_MS) + encode_comment(UNREAD) + self.parting()
                    return
                with self._unsent.held(self._owner, admitted):
                    chunk = b""
                    yield admitted
            elif chunk:
                yield chunk
            elif self._position == before:
                await self._wait(changes)

    def parting(self) -> bytes:
        """The last bytes of a connection that ends before its stream does, by the dialect as it stands behind what
        this viewer got: a number in them must not be ahead of that."""
        followed, own = self._followed, self._own
        if own is None and not followed.adrift and self._last is not None:
            has_all = self.state is State.LIVE and self._sequence == followed.buffer.end
            own = followed.dialect if has_all else followed.dialect.at(entry_cursor(self._last))
        return (own or self._dialect).parting()

    async def _step(self) -> bytes:
        """What is due now. No bytes, and the same position as before: wait for a change."""
        followed = self._followed
        if followed.gone:
            self._to(State.ENDED)
            return followed.dialect.gone()
        if self._generation != followed.generation:
            self._generation = followed.generation
            self._to(State.RESYNC)
        elif self.state is State.LIVE and self._sequence < followed.buffer.base:
            self._to(State.PAGING)
        return await self._steps[self.state]()

    @property
    def _position(self) -> tuple[State, int, bytes | None]:
        return self.state, self._sequence, self._last

    # -- waiting ------------------------------------------------------------------------------------

    async def _wait(self, changes: int) -> None:
        """Wait for a change, unless one came since ``changes`` were counted. No time-out, which would cost a timer
        for every token of every viewer: the hub checks all logs every few seconds, and a stop of the process wakes
        all viewers."""
        followed = self._followed
        if followed.changes != changes:
            return
        self._woken = asyncio.get_running_loop().create_future()
        followed.wait(self)
        try:
            await self._woken
        finally:
            followed.leave(self)

    def push(self, framed: bytes, start: int, behind: int, last: bytes) -> bool:
        """See :class:`api.viewing.followed_log.Waiter`."""
        if self._sequence != start or self.state is not State.LIVE or not self._sink.write(framed):
            return False
        self._sequence, self._last = behind, last
        return True

    def wake(self) -> None:
        """See :class:`api.viewing.followed_log.Waiter`."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    # -- live ---------------------------------------------------------------------------------------

    def _live_at(self, sequence: int) -> None:
        self._sequence = sequence
        self._own = None
        self._to(State.LIVE)

    async def _from_buffer(self) -> bytes:
        """What the shared buffer holds from this viewer's sequence number on."""
        followed = self._followed
        chunk, behind = followed.buffer.slice(self._sequence)
        if behind != self._sequence:
            self._sequence = behind
            self._last = followed.buffer.cursor_before(behind).encode()
        if behind == followed.buffer.end and followed.terminal is not None:
            self._to(State.ENDED)
        return chunk

    # -- paging -------------------------------------------------------------------------------------

    def _place(self) -> int | None:
        """The sequence number behind what this viewer got; None where that is not in the shared buffer."""
        if self._last is None or self._in_front(last := entry_cursor(self._last)):
            return None
        return self._followed.buffer.behind(last)

    async def _page(self) -> bytes:
        """One page of the log: from behind the last event that this viewer got, or from the text's opening."""
        place = self._place()
        if place is not None:
            self._live_at(place)
            return b""
        entries = await self._read_page(self._page_size)
        if entries or self._last is None or self._own is None:
            return self._encode(entries)
        if self._followed.take_over(self._own, self._last):
            self._own = None
        return b""

    async def _read_page(self, count: int) -> list[Entry]:
        """The next entries of the log; none, and a resync, where they can't be joined to what this viewer got."""
        if self._own is None:
            self._own = await self._stand()
        first = self._last or self._text_from.encode()
        after = self._last is not None
        entries = await self._hub.page(self._followed.stream_id, first, after=after, count=count)
        if not after:
            entries = _begun(entries, self._text_from, self._dialect)
        if self._own is not None and self._joined(entries):
            return entries
        self._to(State.RESYNC)
        return []

    def _joined(self, entries: list[Entry]) -> bool:
        before = None if self._last is None else entry_cursor(self._last)
        for entry in entries:
            if not (follows(before, entry.cursor, entry.after) or entry.type in FRESH):
                return False
            before = entry.cursor
        return self._last is not None or (bool(entries) and entries[0].cursor == self._text_from)

    def _encode(self, entries: list[Entry]) -> bytes:
        """As many of the entries as one write takes; what is behind them is read again when it is due.

        So a viewer that stops reading holds one write, however large its log's entries are.
        """
        taken: list[Entry] = []
        size = 0
        for entry in entries:
            size += len(entry.data) + OVERHEAD
            if taken and size > SLICE_BYTES:
                break
            taken.append(entry)
            if entry.type in self._dialect.last_words:
                break
        # The next page is about as long as what a write just took.
        self._page_size = min(PAGE, 2 * max(1, len(taken)))
        if not taken:
            return b""
        self._last = taken[-1].cursor.encode()
        if taken[-1].type in self._dialect.last_words:
            self._to(State.ENDED)
        return self._written(taken)

    def _written(self, entries: Sequence[Entry]) -> bytes:
        assert self._own is not None
        return self._own.batch(entries)

    # -- resync -------------------------------------------------------------------------------------

    async def _resync(self) -> bytes:
        """A snapshot and its tail, read in one step, by all viewers of this log together; a dialect that can't take
        back what it said goes on behind that, if it is still there, and ends otherwise."""
        if self._last and not self._dialect.restarts:
            entries = await self._hub.page(self._followed.stream_id, self._last, after=False, count=1)
            if entries and entries[0].cursor.encode() == self._last:
                greeting = await self._greet()
                if self._own is not None:
                    self._to(State.PAGING)
                    return greeting
            self._to(State.ENDED)
            return self._dialect.lost()
        found = await self._followed.snapshot.get(self._read_snapshot)
        if found is None:
            self._followed.vanish()
            self._to(State.ENDED)
            return self._dialect.gone()
        self._hub.snapshots_sent += 1
        self._greeted = True
        self._to(State.PAGING)
        self._last = found.as_of or None
        self._own = await self._stand()
        # A large snapshot goes without its tail, so all viewers hold the same bytes; the tail is read from the
        # log.
        return found.head if len(found.head) > SLICE_BYTES else found.head + self._encode(found.tail)

    async def _read_snapshot(self) -> Resync | None:
        async with self._unsent.reading(self._owner):
            reading = await self._streams.read(self._followed.stream_id)
            if reading is None or int(reading.record["created_ms"]) != self._followed.created_ms:
                return None
            before = await self._read_before(reading) if self._dialect.stateful else []
            # A stateful dialect takes 10 µs for each entry that there was, however short its text.
            in_thread = self._dialect.stateful or len(reading.snapshot) > LARGE_SNAPSHOT
            arguments = (self._dialect, reading, before)
            return await asyncio.to_thread(resync, *arguments) if in_thread else resync(*arguments)

    async def _read_before(self, reading: Reading) -> list[Entry]:
        """What the log still has of the entries that the snapshot tells."""
        found: list[Entry] = []
        last = reading.as_of.encode()
        while last and not (found and found[-1].cursor.encode() == last):
            first = found[-1].cursor.encode() if found else self._text_from.encode()
            page = await self._hub.page(self._followed.stream_id, first, after=bool(found), count=PAGE)
            page = [entry for entry in page if entry.cursor <= entry_cursor(last)]
            if not page:
                break
            found += page
        return found


def resync(dialect: Dialect, reading: Reading, before: list[Entry]) -> Resync:
    """Everything said so far, in a dialect. ``before``: entries that the snapshot tells, up to its id, as far as
    the log has them. A stateful dialect begins in front of them, so that its viewers may come back to any of
    them."""
    deltas = decode_many(reading.snapshot.splitlines())
    as_of = entry_cursor(reading.as_of.encode()) if reading.as_of else None
    index = reading.index
    spoken = dialect.at(None)
    assert spoken is not None
    text_from = entry_cursor(reading.record["text_from"].encode())
    before, tail = (_begun(entries, text_from, dialect) for entries in (before, reading.tail))
    if before and before[-1].cursor == as_of:
        try:
            deltas = without(deltas, [decode_data(entry.data) for entry in before if entry.type == MESSAGE])
        except ValueError:
            before = []
        else:
            index -= len(before)
            first = before[0]
            as_of = first.after if first.cursor.n == 0 else Cursor(first.cursor.epoch, first.cursor.n - 1)
            if first.cursor == text_from:
                as_of = None
    else:
        before = []
    head = spoken.snapshot(Told(as_of, index, reading.attempt, deltas)) + spoken.batch(before)
    if dialect.stateful:
        spoken.batch(tail)
    return Resync(head, reading.as_of.encode(), tail, spoken)


def _begun(entries: list[Entry], text_from: Cursor, dialect: Dialect) -> list[Entry]:
    """These entries, for viewers that begin with the first of them. Where the text begins with a restart, that
    takes nothing back from them."""
    if not entries or dialect.restarts or entries[0].cursor != text_from or entries[0].type != RESTART:
        return entries
    return [entries[0]._replace(type=STARTED), *entries[1:]]


class BatchedViewer(Viewer):
    """A viewer that asked for batches: it gets fewer, larger events, and waits for them in the log.

    The shared buffer tells what waits; when a batch is due one page of the log brings it, and is gathered. So what
    waits costs no memory, and an outage or a reconnection loses none of it.
    """

    def __init__(
        self,
        hub: Hub,
        streams: Streams,
        followed: FollowedLog,
        dialect: Dialect,
        text_from: Cursor,
        stopping: Callable[[], bool],
        sink: Sink,
        unsent: Unsent,
        owner: str,
        limits: BatchLimits,
    ) -> None:
        super().__init__(hub, streams, followed, dialect, text_from, stopping, sink, unsent, owner)
        self._batching = Batching(limits, asyncio.get_running_loop().time)

    async def _from_buffer(self) -> bytes:
        followed, sequence = self._followed, self._sequence
        behind = self._batching.due(followed.buffer, sequence)
        if behind is None:
            if followed.terminal is not None and sequence == followed.buffer.end:
                self._to(State.ENDED)
            return b""
        entries = await self._read_page(min(behind - sequence, PAGE))
        chunk = self._encode(entries)
        if chunk or not entries:
            self._batching.sent()
        if self.state is State.LIVE:
            place = self._place()
            if place is None:
                self._to(State.PAGING)
            else:
                self._live_at(place)
        return chunk

    def _written(self, entries: Sequence[Entry]) -> bytes:
        return self._dialect.batch(gather(entries))

    async def _wait(self, changes: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._batching.left_s()):
                await super()._wait(changes)

    def push(self, framed: bytes, start: int, behind: int, last: bytes) -> bool:
        return False
