"""The shared buffer: recent events of one log as ready bytes. Pure, no I/O.

Ids count on (see :mod:`shared.store.log`), so they are not held one by one: a *run* is its first event's id and
sequence number, and there is one for each attempt. The followed log sees by ``next_id`` alone, as bytes, that
nothing is missing. (From Redis's reply to the encoded bytes a token costs 199 instructions of our code. With an
object for each entry, whose id is parsed, held and written out again, it was 354.)

A viewer is an index into it (a *sequence number*, counted from the buffer's first event and never reused),
and its catch-up is one slice, shared by all who read the same. Events leave at the front in halves, so that
the bytes are moved seldom; a viewer that falls behind the front reads pages of the log instead.

For viewers that gather, it tells *pieces* of the answer from all other events. Of those there are few, so they are
what is noted; an event without bytes, for which the dialect has no word, is no piece and no news.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

from shared.protocol.cursor import Cursor

MAX_EVENTS: Final = 4096
"""As many as a log keeps by default: a viewer behind that would get a snapshot anyway."""
MAX_BYTES: Final = 1024 * 1024
"""Per followed log. 1,000 logs at full size would take 1 GiB; at 400 tokens of 60 bytes each they take 24 MB."""
SLICE_BYTES: Final = 64 * 1024
"""The most that one write hands to a socket: what a viewer that stops reading can hold."""


class SharedBuffer:
    """Ready bytes with their end offsets."""

    __slots__ = (
        "_before", "_bytes", "_ends", "_epoch", "_firsts", "_n", "_news", "_offset", "_others", "_starts", "base",
        "next_id",
    )  # fmt: skip

    def __init__(self) -> None:
        self.base = 0
        self.next_id = b""
        """The id that counts on from the last event's; b'' where there is none."""
        self._before: Cursor | None = None
        self._firsts: list[Cursor] = []
        self._starts: list[int] = []
        self._epoch = self._n = 0
        self._ends = array("Q")
        self._bytes = bytearray()
        self._offset = 0
        self._others: list[int] = []
        self._news = -1

    @property
    def end(self) -> int:
        """The sequence number that the next event will have."""
        return self.base + len(self._ends)

    @property
    def last(self) -> Cursor | None:
        return self.cursor_before(self.end) if self._ends else None

    def begin(self, cursor: Cursor, after: Cursor | None = None) -> None:
        """The next event has this id, and those behind it count on. ``after``: the id behind which it comes, where
        that is told."""
        if not self._ends:
            self._before = after
        self._firsts.append(cursor)
        self._starts.append(self.end)
        self._epoch, self._n = cursor
        self.next_id = cursor.encode()

    def begin_behind(self, cursor: Cursor) -> None:
        """The next event counts on from this one, which is not held. (For a buffer that holds nothing.)"""
        self.begin(Cursor(cursor.epoch, cursor.n + 1), cursor)

    def append(self, data: bytes, *, piece: bool = False) -> None:
        """Add the event of ``next_id``. ``piece``: it is one of the answer's."""
        if not (piece and data):
            self._others.append(self.end)
            if data:
                self._news = self.end
        self._n += 1
        self.next_id = b"%d-%d" % (self._epoch, self._n)
        self._bytes += data
        self._ends.append(self._offset + len(self._bytes))
        if len(self._ends) > MAX_EVENTS or len(self._bytes) > MAX_BYTES:
            self._drop(len(self._ends) // 2)

    def _drop(self, count: int) -> None:
        if not count:
            return
        end = self._ends[count - 1]
        self._before = self.cursor_before(self.base + count)
        del self._bytes[: end - self._offset]
        del self._ends[:count]
        self._offset = end
        self.base += count
        del self._others[: bisect_left(self._others, self.base)]
        run = bisect_right(self._starts, self.base) - 1
        del self._firsts[:run], self._starts[:run]

    def clear(self) -> None:
        """Forget everything; sequence numbers go on."""
        self._drop(len(self._ends))
        self._firsts.clear()
        self._starts.clear()
        self.next_id = b""
        # What comes next may come from before it: a log that lost its end is written again.
        self._before = None

    def at(self, cursor: Cursor) -> int | None:
        """The sequence number of this very event; None where it is not here."""
        run = bisect_right(self._firsts, cursor) - 1
        if run < 0 or self._firsts[run].epoch != cursor.epoch:
            return None
        sequence = self._starts[run] + cursor.n - self._firsts[run].n
        stop = self._starts[run + 1] if run + 1 < len(self._starts) else self.end
        return sequence if self.base <= sequence < stop else None

    def behind(self, cursor: Cursor) -> int | None:
        """The sequence number of the event behind this one; None unless this one is held here, or was the last one
        before those that are."""
        if cursor == self._before:
            return self.base
        found = self.at(cursor)
        return None if found is None else found + 1

    def slice(self, sequence: int) -> tuple[bytes, int]:
        """Bytes from this sequence number on (whole events, SLICE_BYTES or one event at most), and the
        sequence number behind them."""
        index = sequence - self.base
        start = self._offset if index == 0 else self._ends[index - 1] if index <= len(self._ends) else 0
        stop = max(index + 1, bisect_right(self._ends, start + SLICE_BYTES))
        stop = min(stop, len(self._ends))
        if stop <= index:
            return b"", sequence
        chunk = bytes(memoryview(self._bytes)[start - self._offset : self._ends[stop - 1] - self._offset])
        return chunk, self.base + stop

    def pieces(self, sequence: int) -> int:
        """How many pieces of the answer there are from this sequence number on."""
        return self.end - sequence - (len(self._others) - bisect_left(self._others, sequence))

    def behind_pieces(self, sequence: int, count: int) -> int:
        """The sequence number behind the next ``count`` pieces (there must be as many), all else between them
        counted in."""
        behind = sequence + count
        for other in self._others[bisect_left(self._others, sequence) :]:
            if other >= behind:
                break
            behind += 1
        return behind

    def behind_news(self, sequence: int) -> int | None:
        """The sequence number behind the last event from there on that is said and is no piece; None: there is
        none."""
        return self._news + 1 if self._news >= sequence else None

    def cursor_before(self, sequence: int) -> Cursor:
        """The id of the event right before this sequence number (it must still be here)."""
        run = bisect_left(self._starts, sequence) - 1
        first = self._firsts[run]
        return Cursor(first.epoch, first.n + sequence - 1 - self._starts[run])
