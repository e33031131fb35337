"""A viewer: one open SSE response. It holds a cursor, not a queue.

Theory of operation. While its socket is full nothing is read for it; when it drains, it is served from the
shared buffer, or by pages of the log if it fell behind that. What a cursor leads to, each explicit:

- this very id is in the log → everything behind it, then live;
- trimmed away, never there, or ahead of the log → ``snapshot`` as of an id, then everything behind that;
- a gap met on the way, or a buffer that had to be thrown away → the same;
- at the terminal event → nothing: the route answers 204, which tells EventSource to stop.

A fresh viewer starts at the opening from which the text counts (``text_from``).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import structlog
from redis.exceptions import RedisError

from api.buffers import SLICE_BYTES
from api.follow import Follow
from api.reader import PAGE, Reader
from api.sink import Sink
from shared.events import FRESH, Transcript
from shared.ids import Cursor, entry_cursor, follows
from shared.log import Entry
from shared.redis import AWAY
from shared.sse import encode_retry
from shared.streams import Streams

RETRY_MS: Final = 1000
"""A viewer that loses its connection is back after a second."""
STOP_RETRY_MS: Final = (500, 3000)
"""When this process stops, its viewers come back spread over this time: a deploy is no reconnect storm."""
AWAY_S: Final = 0.5
FIRST_PAGE: Final = 64
"""Entries of 1 KiB fill a write with that; the pages then grow or shrink with what they bring."""
OVERHEAD: Final = 64
"""Bytes around an event's data, about: its id, its name and the line ends."""

log = structlog.get_logger("api.viewer")


class Viewer:
    """One viewer of one followed log."""

    def __init__(
        self,
        reader: Reader,
        streams: Streams,
        follow: Follow,
        text_from: Cursor,
        stopping: Callable[[], bool],
        sink: Sink,
    ) -> None:
        self._reader = reader
        self._streams = streams
        self._follow = follow
        self._dialect = follow.dialect
        self._text_from = text_from
        self._stopping = stopping
        self._sink = sink
        self._woken: asyncio.Future[None] | None = None
        self._generation = follow.generation
        self._sequence: int | None = None
        self._last: bytes | None = None
        self._needs_snapshot = False
        self._page = FIRST_PAGE

    async def open(self, cursor: Cursor | None) -> bool:
        """Find where this viewer stands. Out: False if it has seen everything to the end (204).

        Raises one of AWAY, or a RedisError, while Redis can't be asked.
        """
        wanted = self._text_from if cursor is None else cursor
        self._last = None if cursor is None else cursor.encode()
        buffer = self._follow.buffer
        self._sequence = buffer.at(wanted) if cursor is None else buffer.behind(cursor)
        if self._sequence is not None:
            return cursor is None or cursor != self._follow.terminal
        entries = await self._reader.page(self._follow.stream_id, wanted.encode(), after=False, count=1)
        if not entries or entries[0].cursor != wanted:
            self._needs_snapshot = True
        elif cursor is not None:
            return entries[0].type not in self._dialect.last_words
        return True

    def attach(self, follow: Follow) -> None:
        """Read from this follow from now on: the one that :meth:`open` saw may have been let go since."""
        if follow is not self._follow:
            self._follow = follow
            self._generation = follow.generation
            self._sequence = None

    async def stream(self) -> AsyncIterator[bytes]:
        """Everything from there on, in writes ready to be sent, until the terminal event or the stop."""
        ended = False
        while not ended:
            if self._stopping():
                yield encode_retry(random.randint(*STOP_RETRY_MS))  # noqa: S311
                return
            changes, before = self._follow.changes, self._position
            try:
                chunk, ended = await self._next()
            except (*AWAY, RedisError) as error:
                log.warning("viewer_waits", stream=self._follow.stream_id, error=type(error).__name__)
                await asyncio.sleep(AWAY_S)
                continue
            if chunk:
                yield chunk
            elif not ended and self._position == before:
                await self._wait(changes)

    @property
    def _position(self) -> tuple[int | None, bytes | None, bool]:
        return self._sequence, self._last, self._needs_snapshot

    def _place(self) -> int | None:
        """The sequence number behind what this viewer got; None where that is not in the shared buffer."""
        return None if self._last is None else self._follow.buffer.behind(entry_cursor(self._last))

    async def _wait(self, changes: int) -> None:
        """Wait for something to do, unless it came since there were so many changes. No time-out, which would cost
        a timer for every token of every viewer: the reader looks at all logs every few seconds, and whoever stops
        the process wakes all viewers."""
        follow = self._follow
        if follow.changes != changes:
            return
        self._woken = asyncio.get_running_loop().create_future()
        follow.wait(self)
        try:
            await self._woken
        finally:
            follow.leave(self)

    def push(self, framed: bytes, start: int, behind: int, last: bytes) -> bool:
        """See :class:`api.follow.Waiting`."""
        if self._sequence != start or not self._sink.write(framed):
            return False
        self._sequence, self._last = behind, last
        return True

    def wake(self) -> None:
        """See :class:`api.follow.Waiting`."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def _next(self) -> tuple[bytes, bool]:
        """What is due now: (bytes, whether that was the end). No bytes and no end: wait for a change."""
        follow = self._follow
        if self._generation != follow.generation:
            self._generation = follow.generation
            self._needs_snapshot = True
        if follow.gone:
            return self._dialect.gone(), True
        if self._needs_snapshot:
            return await (self._rejoin() if self._last and not self._dialect.restarts else self._snapshot())
        if self._sequence is None or self._sequence < follow.buffer.base:
            return await self._catch_up()
        return await self._from_buffer(self._sequence)

    async def _from_buffer(self, sequence: int) -> tuple[bytes, bool]:
        """What the shared buffer holds from this sequence number on."""
        follow = self._follow
        chunk, behind = follow.buffer.slice(sequence)
        if not chunk and behind == sequence:
            return b"", follow.terminal is not None
        self._sequence = behind
        self._last = follow.buffer.cursor_before(behind).encode()
        return chunk, behind == follow.buffer.end and follow.terminal is not None

    async def _catch_up(self) -> tuple[bytes, bool]:
        """One page of the log: from behind the last event that this viewer got, or from the text's opening."""
        self._sequence = self._place()
        if self._sequence is not None:
            return await self._next()
        entries = await self._pages(self._page)
        return await self._next() if entries is None else self._encode(entries)

    async def _pages(self, count: int) -> list[Entry] | None:
        """The next entries of the log; None where they can't be joined to what this viewer got."""
        first = self._last or self._text_from.encode()
        entries = await self._reader.page(self._follow.stream_id, first, after=self._last is not None, count=count)
        if self._joined(entries):
            return entries
        self._needs_snapshot = True
        return None

    def _joined(self, entries: list[Entry]) -> bool:
        before = None if self._last is None else entry_cursor(self._last)
        for entry in entries:
            if not (follows(before, entry.cursor, entry.after) or entry.type in FRESH):
                return False
            before = entry.cursor
        return self._last is not None or (bool(entries) and entries[0].cursor == self._text_from)

    def _encode(self, entries: list[Entry]) -> tuple[bytes, bool]:
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
        self._page = min(PAGE, 2 * max(1, len(taken)))
        if not taken:
            return b"", False
        self._last = taken[-1].cursor.encode()
        return self._written(taken), taken[-1].type in self._dialect.last_words

    def _written(self, entries: Sequence[Entry]) -> bytes:
        return self._dialect.batch(entries)

    async def _rejoin(self) -> tuple[bytes, bool]:
        """Go on behind what was seen if that is still there, for a dialect that can't take it back."""
        assert self._last is not None
        entries = await self._reader.page(self._follow.stream_id, self._last, after=False, count=1)
        if not entries or entries[0].cursor.encode() != self._last:
            return self._dialect.lost(), True
        self._needs_snapshot = False
        return await self._catch_up()

    async def _snapshot(self) -> tuple[bytes, bool]:
        """The snapshot and its tail, read in one step."""
        reading = await self._streams.read(self._follow.stream_id)
        if reading is None:
            return self._dialect.gone(), True
        self._needs_snapshot = False
        self._sequence = None
        transcript = Transcript()
        transcript.add_lines(reading.snapshot)
        self._last = reading.as_of.encode() or None
        head = self._dialect.snapshot({**transcript.as_data(), "attempt": reading.attempt}, self._last)
        tail, ended = self._encode(reading.tail)
        return head + tail, ended
