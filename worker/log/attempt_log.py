"""The log of one attempt, on its writer's side: ids, the window of sent entries, and the snapshot's text. No I/O.

Theory of operation. At a flush the log is *taken*: it pulls the new deltas from its source (the provider) and gives
them their ids. Deltas that wait together leave as one entry. From then on an entry never changes. Its bytes are
kept in the window, because it may have to be sent again: on a new connection, or to a server that lost its last
moments (with ``appendfsync everysec``, or after a failover to an asynchronous replica). "Already there" is only
true of exactly the same bytes.

Backpressure means that nobody pulls. While entries are in flight nothing is pulled. Then the provider's connection
fills its own bounded buffer and stops reading, and TCP slows the provider down. What this log holds is one pull (a
few tens of KiB), and the entries in flight.

On a new connection an attempt goes on only if the log's last entry is its own: an entry of the window with the same
bytes, or its opening event with the nonce of its claim. The epoch alone is not enough: a replica that took over may
have a slower clock, and give out the same epoch a second time. In every other case the attempt stops: a later epoch
fenced it, or the log lost more than the window has, and then only a new attempt helps.

The snapshot is made of acknowledged entries, every half cap and at the end, so that a trimmed log and its snapshot
together always hold everything. It is kept here as chunks of bytes at offsets: a step sends only the new chunk.
Until their step, entries are kept as the same bytes that the window holds. A dict for each token would cost the
writing side of a token a fifteenth more: it has left the CPU's cache when it is freed.
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
"""If a server stays at its memory limit for this long, the stream fails instead of holding the provider back."""
KEEP_S: Final = 3.0
"""How long an acknowledged entry stays in the window: a server with ``everysec`` may lose its last two seconds."""
SNAPSHOT_BYTES: Final = 256 * 1024
"""A snapshot is due when this much is in no snapshot. Otherwise a fast answer would send all of it in one write at
its end, and the tokens of all streams would wait for that."""
MOST_ENTRIES: Final = 128
"""The most entries of one attempt in a flush. Deltas that can't be joined cost 20 µs each from here to Redis, and
all streams wait for them."""
MARK_S: Final = 0.2
"""The resolution of the age of kept entries: they may be kept for that much longer."""


class AttemptLog:
    """The log of one attempt. ``stopped`` resolves with FENCED (a later epoch wrote, or the lease was lost), GONE
    (the stream was erased), LOST (the log lost more than the window has) or LOG_FULL (Redis is out of memory)."""

    def __init__(self, stream_id: str, claim: Claim, log: Log) -> None:
        self.stream_id = stream_id
        self.claim = claim
        self.log = log
        self.epoch = claim.epoch
        self.attempt = claim.attempt
        self.stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.source: Callable[[], Sequence[Delta]] | None = None
        """Called at a flush. Out: the deltas that came since the last call."""
        self.next_n = 1
        self._written_n = 0
        self._most = max(1, min(log.cap // 4, MOST_ENTRIES))
        self._snapshot_after = log.cap // 2
        self._pending: list[tuple[str, Delta]] = []
        self._moved = asyncio.Event()
        self._full_since: float | None = None
        self._sent: deque[bytes] = deque()
        """The window: the entries that are not acknowledged, and those acknowledged within KEEP_S; newest last."""
        self._marks: deque[tuple[float, int]] = deque()
        """Pairs of a time and the number up to which everything was acknowledged then, MARK_S apart."""
        self._mark_at = 0.0
        self._fresh: list[bytes] = []
        """The entries that are in no snapshot."""
        self._fresh_counted = self._fresh_bytes = 0
        """How many of them were measured, and their bytes."""
        self._inherited: list[Delta] = []
        """Deltas of the attempt that this one continues, if they are in no snapshot."""
        self._chunks: list[bytes] = []
        self._snapshot_size = 0

    def continue_from(self, snapshot: bytes, deltas: list[Delta]) -> None:
        """This attempt continues another one, which said this. The snapshots must keep it."""
        self._chunks = [snapshot] if snapshot else []
        self._snapshot_size = len(snapshot)
        self._inherited = list(deltas)

    # -- what the attempt says ----------------------------------------------------------------------

    def add(self, delta: Delta) -> None:
        """Add a delta of the answer, which the caller must not change any more. Deltas that wait together are
        joined."""
        pending = self._pending
        if pending and pending[-1][0] == MESSAGE and (both := merged(pending[-1][1], delta)) is not None:
            pending[-1] = (MESSAGE, both)
        else:
            pending.append((MESSAGE, delta))

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Add an event that is not a delta."""
        self._pending.append((kind, data))

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    @property
    def in_flight(self) -> int:
        """How many entries were taken and are not acknowledged."""
        return self.next_n - 1 - self._written_n

    @property
    def all_acknowledged(self) -> bool:
        """Whether all events are acknowledged."""
        return not self._pending and not self.in_flight

    def stop(self, reason: str) -> None:
        """Stop the attempt: it may not write any more. Wakes those that wait for it."""
        if not self.stopped.done():
            self.stopped.set_result(reason)
        self._moved.set()

    async def moved(self) -> None:
        """Wait until entries are acknowledged, or the attempt is stopped."""
        self._moved.clear()
        await self._moved.wait()

    # -- what a flush does --------------------------------------------------------------------------

    def take(self) -> list[bytes]:
        """Pull the source, and give the pending events their ids, in order.

        Out: the packed entries; none if there is nothing to write, or nothing may be written now. At most
        MOST_ENTRIES, and at most a quarter of the cap: more in one write could trim entries that are in no
        snapshot.
        """
        n = self.next_n
        if self._written_n != n - 1 or self.stopped.done():
            return []
        # Pull even if events wait already (a note, or the rest of a large pull), because a hint is not repeated.
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
        """Everything in flight was written. Out: whether a snapshot is due (every half cap, and every
        SNAPSHOT_BYTES)."""
        newest = self._written_n = self.next_n - 1
        self._full_since = None
        if now >= self._mark_at:
            self._mark(now, newest)
        self._moved.set()
        return len(self._inherited) + len(self._fresh) >= self._snapshot_after

    def _mark(self, now: float, newest: int) -> None:
        """Note that everything up to this number is acknowledged now. Drop the entries that have been for
        KEEP_S."""
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
        """The server refused an append because it is out of memory. After FULL_S of that the attempt stops."""
        if self._full_since is None:
            self._full_since = now
        if now - self._full_since > FULL_S:
            self.stop(LOG_FULL)

    def cut(self) -> None:
        """Drop the entries that the log has refused for good. The next event gets the id after the last written
        one."""
        self._pending = []
        for _ in range(min(len(self._sent), self.in_flight)):
            self._sent.pop()
        del self._fresh[max(0, len(self._fresh) - self.in_flight) :]
        self._fresh_counted = min(self._fresh_counted, len(self._fresh))
        self.next_n = self._written_n + 1

    # -- what a new connection does -----------------------------------------------------------------

    def keep_anew(self, now: float) -> None:
        """There is a new connection: entries that are written again count as new, and stay in the window for
        KEEP_S."""
        self._marks = deque([(now, self._written_n)])
        self._mark_at = now + MARK_S

    def compare(self, last: Entry | None) -> list[bytes] | str:
        """Compare this attempt with its log's last entry.

        Out: the entries that must be written again, in order (none: the log has all), or why the attempt must stop.
        """
        if last is None:
            return GONE
        epoch, n = last.cursor
        if epoch != self.epoch:
            return FENCED if epoch > self.epoch else LOST
        if last.type in TERMINAL:
            return []  # written by a call whose reply was lost; it is sent again, and its nonce is recognised
        newest = self.next_n - 1
        first = newest + 1 - len(self._sent)
        if n == 0:
            mine = first == 1 and last.claim == self.claim.nonce
        else:
            mine = first <= n <= newest and self._sent[n - first] == packed_entry(epoch, n, last.type, last.data)
        return list(self._sent)[n + 1 - first :] if mine else LOST

    # -- the snapshot -------------------------------------------------------------------------------

    def snapshot_step(self, *, anew: bool = False) -> tuple[str, int, bytes]:
        """The next step of the server's snapshot: (cursor, offset, chunk). After it the snapshot holds everything
        up to that cursor: all acknowledged entries.

        ``anew``: send everything again, from offset 0 (the server's snapshot has another length than ours).
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
