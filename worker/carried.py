"""One attempt that this worker writes: pure state, no I/O.

Theory of operation. A flush takes what is *pending*; where nothing is, it pulls the attempt's *source*, which reads
what the provider sent meanwhile. Only then do events get their ids, so that deltas which wait together leave as one
entry. From then on an entry never changes, and is kept as the bytes that go over the wire: it may have to be sent
again, and "already there" is only true of the very same bytes. They are kept for a while (:mod:`worker.sent`): what
a restarted server lost is written again from here. If more is lost than was kept, only a new attempt mends it. A
finish reason that stands alone waits for one flush more: by then the end has mostly come, and tells both in one
script.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from shared.claims import Claim
from shared.events import FINISHING, MESSAGE, QUEUED, Delta, encode_data, merged
from shared.ids import Cursor
from shared.log import Entry, Log, packed_entry
from worker.sent import Sent
from worker.snapshot_text import Event, SnapshotText

MAX_UNWRITTEN: Final = 256 * 1024
"""Characters an attempt may hold unwritten before it stops reading its provider: TCP then holds the
provider. A few seconds of the fastest models, and 50 MiB over 200 streams in the worst case."""

FENCED: Final = "fenced"
GONE: Final = "gone"
LOST: Final = "lost"
LOG_FULL: Final = "log_full"
UNCLAIMED: Final = "unclaimed"

HELD_UP_S: Final = {LOG_FULL: 5.0, GONE: 10.0}
"""A server at its memory limit for this long fails the stream, instead of holding the provider. One that lost the
stream gets it again from its creator, who looks twice a second."""
ENDED_HELD_UP_S: Final = 60.0
"""What has ended holds no provider; what was lost of it stays due as long as a create does."""


class Carried:
    """The writing side of one attempt. ``stopped`` resolves with FENCED (a later epoch wrote), GONE (the stream was
    erased), LOST (the log lost more than was kept) or LOG_FULL (the server stayed at its memory limit)."""

    def __init__(self, stream_id: str, claim: Claim, log: Log) -> None:
        self.stream_id = stream_id
        self.claim = claim
        self.log = log
        self._most = max(1, log.cap // 4)
        self._snapshot_after = log.cap // 2
        self.epoch = claim.epoch
        self.attempt = claim.attempt
        self.stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._held_up: dict[str, float] = {}  # why, since when
        self._overruled = False
        self.source: Callable[[], Sequence[Delta]] | None = None
        """Gives what the provider sent since the last pull; set anew when there may be something."""
        self.end_args: tuple[str | bytes | int, ...] | None = None
        self.ended_at: float | None = None
        self._pending: list[Event] = []
        self._pending_size = self._sent_size = 0
        self._sent = Sent()
        self._text = SnapshotText()
        self.next_n = 1
        self._told_by_end: list[Event] = []
        self._written_n, self.has_new_reason = 0, False
        self._moved = asyncio.Event()

    def go_on(self, snapshot: bytes, deltas: list[Delta]) -> None:
        """This attempt continues another one, which said this."""
        self._text.go_on(snapshot, deltas)

    # -- what the generation says ------------------------------------------------------------------

    def say(self, delta: Delta) -> bool:
        """Add a piece of the answer, which nobody changes any more; what waits is joined. Out: as ``full``."""
        text = delta.get("text") or delta.get("reasoning")
        self._pending_size += len(encode_data(delta) if text is None else text)
        pending = self._pending
        if pending and pending[-1][0] == MESSAGE and (both := merged(pending[-1][1], delta)) is not None:
            pending[-1] = (MESSAGE, both)
        else:
            pending.append((MESSAGE, delta))
        return self._pending_size + self._sent_size > MAX_UNWRITTEN

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Add an event that is no delta."""
        self.has_new_reason = kind == FINISHING
        self._pending.append((kind, data))

    @property
    def full(self) -> bool:
        return self._pending_size + self._sent_size > MAX_UNWRITTEN

    @property
    def settled(self) -> bool:
        return not self._pending and not self.in_flight

    @property
    def in_flight(self) -> int:
        """How many entries were taken, and not acknowledged yet."""
        return self.next_n - 1 - self._written_n

    @property
    def has_pending(self) -> bool:
        """Whether the next flush may find something to say."""
        return bool(self._pending) or self.source is not None

    def stop(self, reason: str) -> None:
        """Whoever waits for this attempt learns that it may not write any more."""
        if not self.stopped.done():
            self.stopped.set_result(reason)
        self._moved.set()

    async def moved(self) -> None:
        """Wait until entries were written, or the attempt was stopped."""
        self._moved.clear()
        await self._moved.wait()

    async def room(self) -> None:
        """Wait while this attempt holds too much unwritten text: that is the backpressure on its provider."""
        while self.full and not self.stopped.done():
            await self.moved()

    def take_last_word(self) -> bytes:
        """The finish reason's data where nothing else is unsaid, for the end that tells it, too; else nothing."""
        if self.in_flight or not self._is_at_last_word():
            return b""
        self._told_by_end, self._pending = self._pending, []
        return encode_data(self._told_by_end[0][1])

    def take_back(self) -> None:
        """There is to be no such end: this attempt itself says what the end would have told."""
        self._pending, self._told_by_end = [*self._told_by_end, *self._pending], []

    def _is_at_last_word(self) -> bool:
        return len(self._pending) == 1 and self._pending[0][0] == FINISHING

    # -- what the log writer does ------------------------------------------------------------------

    def take(self) -> list[bytes]:
        """Read what came, and give the pending events their ids, in order. Out: entries, packed; none where there
        is nothing to say, or nothing may be said now. At most a quarter of the cap: more in one write could trim
        what no snapshot holds yet."""
        n = self.next_n
        if self._written_n != n - 1 or self.stopped.done():
            return []
        if self.source is not None and not self._pending:
            pull, self.source = self.source, None
            for delta in pull():
                self.say(delta)
        if self.has_new_reason and self._is_at_last_word():
            self.has_new_reason = False
            return []  # by the next flush the end has mostly come, and tells it
        taken = self._pending
        if len(taken) <= self._most:
            self._pending = []
            self._sent_size, self._pending_size = self._pending_size, 0
        else:
            taken, self._pending = taken[: self._most], taken[self._most :]
        epoch, entries = self.epoch, []
        for kind, data in taken:
            entries.append(packed_entry(epoch, n, kind, encode_data(data)))
            n += 1
        self.next_n = n
        self._text.fresh += entries
        self._sent.entries += entries
        return entries

    def written(self, now: float) -> bool:
        """Everything in flight was acknowledged. Out: whether a snapshot is due: every half cap, for a trimmed log
        plus the snapshot always holds everything."""
        newest = self._written_n = self.next_n - 1
        self._sent_size = 0
        self._held_up.clear()
        if now >= self._sent.mark_at:
            self._sent.mark(now, newest)
        self._moved.set()
        return len(self._text) >= self._snapshot_after

    def held_up(self, now: float, why: str) -> bool:
        """The server has no memory for more, or does not know the stream. Out: whether this waits, for a time."""
        since = self._held_up.setdefault(why, now)
        waits = now - since <= (HELD_UP_S[why] if self.ended_at is None else ENDED_HELD_UP_S)
        if not waits:
            self.stop(why)
        return waits

    def fence(self, last: Cursor | None) -> None:
        """A later epoch stands behind ``last`` (None: trimmed). What this attempt has behind that counts no more,
        also where the log loses what fenced it."""
        if last is not None:
            self._overruled = last.epoch < self.epoch
            self._written_n = 0 if self._overruled else last.n
        self.cut()

    def cut(self) -> None:
        """Forget what the log refused for good: the next event takes the place behind the last written."""
        self._pending = []
        self._pending_size = self._sent_size = 0
        self._text.cut(self.in_flight)
        self._sent.cut(self.in_flight)
        self.next_n = self._written_n + 1

    def end(self, now: float) -> "Carried":
        """This attempt says no more. (``end_args`` are those of the ``finish`` that ended its stream.)"""
        self.ended_at = now
        self._pending, self.source = [], None
        return self

    def keep_anew(self, now: float) -> None:
        """A new connection: whatever is written again is as young as if it were written for the first time."""
        self._sent.keep_anew(now, self._written_n)
        self._held_up.pop(GONE, None)
        if self.ended_at is not None:
            self.ended_at = now
            if self.stopped.done() and self.stopped.result() == FENCED:
                self.cut()  # what was in flight came behind its fence, for that was told first

    def kept(self) -> list[bytes]:
        """Everything that is kept, in order."""
        return list(self._sent.entries)

    def compare(self, last: Entry | None) -> list[bytes] | str:
        """What the log's last entry means for this attempt.

        Out: the entries to be written again, in order (none: all is there), or why it must stop; UNCLAIMED: even
        the claim is lost, but everything behind it is kept. A later ``queued`` is no fence: a repeated create made
        a stream in this one's place, and gives it back when its first creator comes.
        """
        if last is None or (last.type == QUEUED and last.cursor.epoch > self.epoch):
            return GONE
        if last.cursor.epoch > self.epoch or self._overruled:
            return FENCED
        newest = self.next_n - 1
        if last.cursor.epoch < self.epoch:
            return UNCLAIMED if len(self._sent.entries) == newest else LOST
        if self.end_args is not None and last.cursor.n == self.next_n + len(self._told_by_end):
            return []
        missing = self._sent.missing(last, newest)
        return LOST if missing is None else missing

    def snapshot_step(self, *, anew: bool = False) -> tuple[str, int, bytes]:
        """(id as of which, offset, chunk) that brings the snapshot up to all that was acknowledged.

        ``anew``: everything again, from offset 0 (the server's snapshot has another length than ours).
        """
        return f"{self.epoch}-{self._written_n}", *self._text.step(self.in_flight, anew=anew)
