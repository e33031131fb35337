"""One attempt that this worker writes: pure state, no I/O.

Theory of operation. Events wait as *pending* until a flush takes them; only then do they get their ids, so
that deltas which wait together leave as one entry. From then on an entry never changes, and is kept as the
bytes that go over the wire (packed once, and 150 of them are kept of a usual stream): it may have to be sent
again, and "already there" is only true of the very same bytes. Entries stay in ``sent`` until they were
acknowledged *and* are older than KEEP_S, because a server that restarts from its append-only file may have
lost its last seconds (``everysec`` can lose about 2): what it lost is written again from here. If more is
lost than was kept, only a new attempt mends it.
"""

import asyncio
from collections import deque
from typing import Any, Final

from shared.claims import Claim
from shared.events import MESSAGE, QUEUED, Delta, encode_data, merged
from shared.ids import Cursor
from shared.log import Entry, Log, packed_entry
from worker.snapshot_text import SnapshotText

KEEP_S: Final = 3.0
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
    """The writing side of one attempt.

    ``stopped`` resolves with FENCED (a later epoch wrote), GONE (the stream was erased), LOST (the log lost
    more than was kept) or LOG_FULL (the server stayed at its memory limit).
    """

    def __init__(self, stream_id: str, claim: Claim, log: Log) -> None:
        self.stream_id = stream_id
        self.claim = claim
        self.log = log
        self.epoch = claim.epoch
        self.attempt = claim.attempt
        self.stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._held_up: dict[str, float] = {}  # why, since when
        self._overruled = False
        self.end_args: tuple[str | bytes | int, ...] | None = None
        self.ended_at: float | None = None
        self._pending: list[tuple[str, dict[str, Any]]] = []
        self._pending_size = 0
        self._sent: deque[bytes] = deque()
        self._acknowledged: deque[tuple[float, int]] = deque()
        """(when, up to which number) of what is in ``sent``."""
        self._unacknowledged: list[Delta] = []
        self._sent_size = 0
        self.next_n = 1
        self._written_n = 0
        self._text = SnapshotText()
        self._fresh_entries = 0
        self._moved = asyncio.Event()

    def go_on(self, snapshot: bytes, deltas: list[Delta]) -> None:
        """This attempt continues another one, which said this."""
        self._text.go_on(snapshot, deltas)
        self._fresh_entries = len(deltas)

    # -- what the generation says ------------------------------------------------------------------

    def say(self, delta: Delta) -> None:
        """Add a piece of the answer, which nobody changes any more; it joins its neighbour while both wait."""
        text = delta.get("text", delta.get("reasoning"))
        self._pending_size += len(encode_data(delta) if text is None else text)
        if self._pending:
            kind, before = self._pending[-1]
            if kind == MESSAGE and (both := merged(before, delta)) is not None:
                self._pending[-1] = (MESSAGE, both)
                return
        self._pending.append((MESSAGE, delta))

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Add an event that is no delta."""
        self._pending.append((kind, data))

    @property
    def full(self) -> bool:
        return self._pending_size + self._sent_size > MAX_UNWRITTEN

    @property
    def settled(self) -> bool:
        return not self._pending and not self.in_flight

    @property
    def in_flight(self) -> bool:
        return self._written_n < self.next_n - 1

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    @property
    def is_due(self) -> bool:
        """Whether the next flush should take something."""
        return bool(self._pending) and self._written_n == self.next_n - 1 and not self.stopped.done()

    @property
    def last_written(self) -> Cursor:
        return Cursor(self.epoch, self._written_n)

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

    # -- what the log writer does ------------------------------------------------------------------

    def take(self) -> list[bytes]:
        """Give the pending events their ids, in order. Out: entries, packed. At most a quarter of the cap: more in
        one write could trim what no snapshot holds yet."""
        count = max(1, self.log.cap // 4)
        taken, self._pending = self._pending[:count], self._pending[count:]
        entries = []
        for kind, data in taken:
            encoded = encode_data(data)
            entries.append(packed_entry(self.epoch, self.next_n, kind, encoded))
            self.next_n += 1
            self._sent_size += len(encoded)
            if kind == MESSAGE:
                self._unacknowledged.append(data)
        self._sent += entries
        if not self._pending:
            self._pending_size = 0
        return entries

    def written(self, now: float) -> None:
        """Everything in flight was acknowledged."""
        newest = self.next_n - 1
        self._text.fresh += self._unacknowledged
        self._unacknowledged = []
        self._fresh_entries += newest - self._written_n
        self._written_n = newest
        self._sent_size = 0
        self._held_up.clear()
        self._acknowledged.append((now, newest))
        while self._acknowledged[0][0] < now - KEEP_S:
            _, n = self._acknowledged.popleft()
            while len(self._sent) > max(0, newest - n):
                self._sent.popleft()
        self._moved.set()

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
        self._pending, self._unacknowledged = [], []
        self._pending_size = self._sent_size = 0
        for _ in range(min(len(self._sent), self.next_n - 1 - self._written_n)):
            self._sent.pop()
        self.next_n = self._written_n + 1

    def end(self, now: float) -> "Carried":
        """This attempt says no more. (``end_args`` are those of the ``finish`` that ended its stream.)"""
        self.ended_at = now
        self._pending = []
        return self

    def keep_anew(self, now: float) -> None:
        """A new connection: whatever is written again is as young as if it were written for the first time."""
        self._acknowledged = deque([(now, self._written_n)])
        self._held_up.pop(GONE, None)
        if self.ended_at is not None:
            self.ended_at = now

    def kept(self) -> list[bytes]:
        """Everything that is kept, in order."""
        return list(self._sent)

    def compare(self, last: Entry | None) -> list[bytes] | str:
        """What the log's last entry means for this attempt.

        Out: the entries to be written again, in order (none: all is there), or why it must stop; UNCLAIMED
        means that even the claim is lost, but that everything behind it is kept. A later ``queued`` is no fence: a
        repeated create made a stream in this one's place, and gives it back when its first creator comes.
        """
        if last is None or (last.type == QUEUED and last.cursor.epoch > self.epoch):
            return GONE
        if last.cursor.epoch > self.epoch or self._overruled:
            return FENCED
        first = self.next_n - len(self._sent)  # of those that are kept
        if last.cursor.epoch < self.epoch:
            return UNCLAIMED if first == 1 else LOST
        n = last.cursor.n
        if self.end_args is not None and n == self.next_n:
            return []
        if n >= self.next_n or n < first - 1:
            return LOST
        if n >= first and self._sent[n - first] != packed_entry(*last.cursor, last.type, last.data):
            return LOST
        return self.kept()[n + 1 - first :]

    # -- the snapshot -------------------------------------------------------------------------------

    @property
    def snapshot_due(self) -> bool:
        """Every half cap: a trimmed log plus the snapshot always holds everything."""
        return self._fresh_entries >= self.log.cap // 2

    def snapshot_step(self, *, anew: bool = False) -> tuple[str, int, bytes]:
        """(id as of which, offset, chunk) that brings the snapshot up to all that was acknowledged.

        ``anew``: everything again, from offset 0 (the server's snapshot has another length than ours).
        """
        self._fresh_entries = 0
        return str(self.last_written), *self._text.step(anew=anew)
