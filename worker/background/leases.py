"""Leases: the sign that a stream has a living worker, renewed each second for all streams in one round trip.

Theory of operation. A lease lasts 3 s (a setting), and its value is ``<worker>:<epoch>``. Renewing compares this
value first, so that a worker that was replaced can't renew its successor's lease. A stream whose lease was lost
stops here; so a worker whose provider is silent learns that it was replaced. ``steady_s`` tells for how long this
worker has renewed its leases without a gap. A worker that has just come back from a pause (its own, or Redis's)
must not judge other workers by their leases, because nobody could renew them meanwhile.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY
from shared.store.streams import Streams
from worker.log.attempt_log import FENCED, AttemptLog

TICK_S: Final = 1.0
LATE_S: Final = 2.0
"""A tick this long after the last one means that the process stood still, so its leases may have expired."""

log = structlog.get_logger("worker.leases")


class Leases:
    """Renews the leases of all attempts of a worker."""

    def __init__(
        self,
        streams: Streams,
        worker: str,
        lease_ms: int,
        running: Callable[[], list[AttemptLog]],
    ) -> None:
        """``running`` gives the attempts that this worker writes now."""
        self._streams = streams
        self._worker = worker
        self._lease_ms = lease_ms
        self._running = running
        self._steady_since: float | None = None
        self._last_tick: float | None = None
        self._renewed: frozenset[str] = frozenset()

    @property
    def renewed(self) -> frozenset[str]:
        """The streams whose leases this worker renewed at the last tick."""
        return self._renewed

    def steady_s(self) -> float:
        """For how long every tick has come in time and renewed the leases (s)."""
        now = asyncio.get_running_loop().time()
        # After a standstill the caller may run before the late tick.
        if self._steady_since is None or self._last_tick is None or now - self._last_tick > LATE_S:
            return 0.0
        return now - self._steady_since

    async def tick(self) -> None:
        """Renew all leases; stop the streams that were taken over or have ended."""
        now = asyncio.get_running_loop().time()
        if self._last_tick is not None and now - self._last_tick > LATE_S:
            self._steady_since = None
        self._last_tick = now
        held = self._running()
        try:
            replies = await self._streams.renew(
                self._worker, [(a.stream_id, a.epoch) for a in held], self._lease_ms
            )
        except (*AWAY, RedisError) as error:
            self._steady_since = None
            log.warning("leases_not_renewed", streams=len(held), error=type(error).__name__)
            return
        if self._steady_since is None:
            self._steady_since = now
        self._renewed = frozenset(a.stream_id for a, reply in zip(held, replies, strict=True) if reply == "held")
        for attempt, reply in zip(held, replies, strict=True):
            if reply == "lost":
                attempt.stop(FENCED)
