"""The log of one attempt, for its writer: ids, the window of what was sent, and the text of the snapshot. No I/O.

Theory of operation. At a flush the log is *taken*: it pulls what its source (the provider) has, and gives the
deltas their ids. Deltas that wait together leave as one entry. From then on an entry never changes. Its bytes are
kept in the window, because it may have to be sent again: on a new connection, or to a server that lost its last
moments (with ``appendfsync everysec``, or behind an asynchronous replica). "Already there" is only true of the very
same bytes.

Backpressure is that nobody pulls. While entries are in flight nothing is pulled, so the provider's connection fills
its own bounded buffer and stops reading, and TCP holds the provider. What lies here is one pull (a few tens of
KiB), and what was in flight.

On a new connection an attempt goes on only where the log's last entry is its own: an entry of the window with the
same bytes, or its opening with its claim's nonce. Epochs alone do not tell: a replica that took over may have a
slower clock, and give an epoch away for a second time. Everything else stops the attempt: a later epoch fenced it,
or the log lost more than the window has, and only a new attempt mends that.

The snapshot is made of what was acknowledged, every half cap and at the end, so that a trimmed log and its snapshot
always hold everything. It is kept here as chunks of bytes at offsets: a step sends only what is new. Entries wait
for their step as the very bytes of the window: with a dict for each token, which is cold when it is let go, the
writing side of a token takes a fifteenth more.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from shared.protocol.events import MESSAGE, TERMINAL, Delta, decode_many, encode_data
from shared.protocol.transcript import merged, snapshot_lines
from shared.store.claims import Claim
from shared.store.log import Entry, Log, packed_entry, unpacked

FENCED: Final = "fenced"
GONE: Final = "gone"
LOST: Final = "lost"
LOG_FULL: Final = "log_full"

FULL_S: Final = 5.0
"""A server that stays at its memory limit for this long fails the stream, instead of holding the provider."""
KEEP_S: Final = 3.0
"""How long an acknowledged entry stays in the window: a server with ``everysec`` may lose its last two seconds."""
SNAPSHOT_BYTES: Final = 256 * 1024
"""A snapshot is due when no snapshot tells so much: at the end of a fast answer all of it would come in one write,
for which everybody's tokens wait."""
MOST_ENTRIES: Final = 128
"""Of one attempt in a flush: pieces that can't be joined cost 20 µs each from here to Redis, and all wait."""
MARK_S: Final = 0.2
"""How exactly the age of what is kept is known: entries are kept for as much longer."""


class AttemptLog:
    """The log of one attempt. ``stopped`` resolves with FENCED (a later epoch wrote, or the lease was lost), GONE
    (the stream was erased), LOST (the log lost more than the window has) or LOG_FULL."""

    def __init__(self, stream_id: str, claim: Claim, log: Log) -> None:
        self.stream_id = stream_id
        self.claim = claim
        self.log = log
        self.epoch = claim.epoch
        self.attempt = claim.attempt
        self.stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.source: Callable[[], Sequence[Delta]] | None = None
        """What is pulled at a flush: the deltas that came since the last pull."""
        self.next_n = 1
        self._written_n = 0
        self._most = max(1, min(log.cap // 4, MOST_ENTRIES))
        self._snapshot_after = log.cap // 2
        self._pending: list[tuple[str, Delta]] = []
        self._moved = asyncio.Event()
        self._full_since: float | None = None
        self._sent: deque[bytes] = deque()
        """The window: all entries that are not acknowledged, and those acknowledged within KEEP_S; newest last."""
        self._marks: deque[tuple[float, int]] = deque()
        """(when, up to which number everything was acknowledged), MARK_S apart."""
        self._mark_at = 0.0
        self._fresh: list[bytes] = []
        """Entries that no snapshot holds."""
        self._fresh_counted = self._fresh_bytes = 0
        """Of so many of them the bytes are known."""
        self._inherited: list[Delta] = []
        """What an earlier attempt said that no snapshot holds, where this one continues it."""
        self._chunks: list[bytes] = []
        self._snapshot_size = 0

    def continue_from(self, snapshot: bytes, deltas: list[Delta]) -> None:
        """This attempt continues another one, which said this: snapshots must go on telling it."""
        self._chunks = [snapshot] if snapshot else []
        self._snapshot_size = len(snapshot)
        self._inherited = list(deltas)

    # -- what the attempt says ----------------------------------------------------------------------

    def add(self, delta: Delta) -> None:
        """Add a piece of the answer, which nobody changes any more; pieces that wait together are joined."""
        pending = self._pending
        if pending and pending[-1][0] == MESSAGE and (both := merged(pending[-1][1], delta)) is not None:
            pending[-1] = (MESSAGE, both)
        else:
            pending.append((MESSAGE, delta))

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Add an event that is no delta."""
        self._pending.append((kind, data))

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    @property
    def in_flight(self) -> int:
        """How many entries were taken, and are not acknowledged."""
        return self.next_n - 1 - self._written_n

    @property
    def all_acknowledged(self) -> bool:
        """Whether everything that was said is acknowledged."""
        return not self._pending and not self.in_flight

    def stop(self, reason: str) -> None:
        """Whoever waits for this attempt learns that it may not write any more."""
        if not self.stopped.done():
            self.stopped.set_result(reason)
        self._moved.set()

    async def moved(self) -> None:
        """Wait until entries were acknowledged, or the attempt was stopped."""
        self._moved.clear()
        await self._moved.wait()

    # -- what a flush does --------------------------------------------------------------------------

    def take(self) -> list[bytes]:
        """Pull the source, and give the pending events their ids, in order.

        Out: entries, packed; none where there is nothing to say, or nothing may be said now. At most MOST_ENTRIES,
        and a quarter of the cap: more in one write could trim what no snapshot holds.
        """
        n = self.next_n
        if self._written_n != n - 1 or self.stopped.done():
            return []
        # What waits already (a note, what was too much for one write) is no reason not to pull: nobody hints twice.
        if self.source is not None and (not self._pending or len(self._pending) <= self._most):
            for delta in self.source():
                self.add(delta)
        taken = self._pending
        if len(taken) <= self._most:
            self._pending = []
        else:
            taken, self._pending = taken[: self._most], taken[self._most :]
        epoch, entries = self.epoch, []
        for kind, data in taken:
            entries.append(packed_entry(epoch, n, kind, encode_data(data)))
            n += 1
        self.next_n = n
        self._fresh += entries
        self._sent += entries
        return entries

    def acknowledged(self, now: float) -> bool:
        """Everything in flight was written. Out: whether a snapshot is due: every half cap, and every
        SNAPSHOT_BYTES."""
        newest = self._written_n = self.next_n - 1
        self._full_since = None
        if now >= self._mark_at:
            self._mark(now, newest)
        self._moved.set()
        return len(self._inherited) + len(self._fresh) >= self._snapshot_after

    def _mark(self, now: float, newest: int) -> None:
        """Note that everything up to this number is acknowledged now; forget what has been for KEEP_S."""
        self._mark_at = now + MARK_S
        self._marks.append((now, newest))
        self._fresh_bytes += sum(map(len, self._fresh[self._fresh_counted :]))
        self._fresh_counted = len(self._fresh)
        if self._fresh_bytes >= SNAPSHOT_BYTES:
            self._snapshot_after = 0
        while self._marks[0][0] < now - KEEP_S:
            _, n = self._marks.popleft()
            while len(self._sent) > max(0, newest - n):
                self._sent.popleft()

    def full(self, now: float) -> None:
        """The server refused an append because it is at its memory limit. Past FULL_S that stops the attempt."""
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since > FULL_S:
            self.stop(LOG_FULL)

    def cut(self) -> None:
        """Forget what the log refused for good: the next event takes the place behind the last written one."""
        self._pending = []
        for _ in range(min(len(self._sent), self.in_flight)):
            self._sent.pop()
        del self._fresh[max(0, len(self._fresh) - self.in_flight) :]
        self._fresh_counted = min(self._fresh_counted, len(self._fresh))
        self.next_n = self._written_n + 1

    # -- what a new connection does -----------------------------------------------------------------

    def keep_anew(self, now: float) -> None:
        """A new connection: what is written again is as young as if it were written for the first time."""
        self._marks = deque([(now, self._written_n)])
        self._mark_at = now + MARK_S

    def compare(self, last: Entry | None) -> list[bytes] | str:
        """What the log's last entry means for this attempt.

        Out: the entries that must be written again, in order (none: all is there), or why the attempt must stop.
        """
        if last is None:
            return GONE
        epoch, n = last.cursor
        if epoch != self.epoch:
            return FENCED if epoch > self.epoch else LOST
        if last.type in TERMINAL:
            return []  # by the call whose answer was lost: it is sent again, and meets its nonce
        newest = self.next_n - 1
        first = newest + 1 - len(self._sent)
        if n == 0:
            mine = first == 1 and last.claim == self.claim.nonce
        else:
            mine = first <= n <= newest and self._sent[n - first] == packed_entry(epoch, n, last.type, last.data)
        return list(self._sent)[n + 1 - first :] if mine else LOST

    # -- the snapshot -------------------------------------------------------------------------------

    def snapshot_step(self, *, anew: bool = False) -> tuple[str, int, bytes]:
        """(id as of which, offset, chunk) that brings the server's snapshot up to all that was acknowledged.

        ``anew``: everything again, from offset 0 (the server's snapshot has another length than ours).
        """
        upto = len(self._fresh) - self.in_flight
        said = [data for kind, data in map(unpacked, self._fresh[:upto]) if kind == MESSAGE]
        chunk = snapshot_lines([*self._inherited, *decode_many(said)])
        self._fresh = self._fresh[upto:]
        self._inherited = []
        self._fresh_counted = self._fresh_bytes = 0
        self._snapshot_after = self.log.cap // 2
        if chunk:
            self._chunks.append(chunk)
        offset = 0 if anew else self._snapshot_size
        if anew:
            chunk = b"".join(self._chunks)
        self._snapshot_size = offset + len(chunk)
        return f"{self.epoch}-{self._written_n}", offset, chunk
