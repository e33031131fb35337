"""The sweep: what has neither a lease nor a job gets a new job. A stream's life hangs on nothing else.

Theory of operation. Every worker sweeps; a short key (whose loss costs nothing) lets one of them do so each turn.
The sweep only ever enqueues: whether a stream may be taken is decided by the claim script alone, so a sweep that
saw an old state costs a look and no token. It leaves alone the streams whose job waits in the queue or was put off
by whoever has it, and young ones: a job that was taken leads to a claim at once, or its taker is gone. An id
without a record is a create under way, or one that was given up. What has ended leaves ``unfinished`` here, many at
a time, and not at its end: a round trip of its own would be a twentieth of what a stream costs its worker beside
its tokens.

Where the logs are on another server than the queue, what has ended is looked at once more, ``KEPT_S`` later, before
it leaves: the server of the logs may have lost the end with its last moments (a replica that took over), and the
queue's knows nothing of that. So it is behind Sentinel, where for some seconds two masters may serve, and one
connection leads to each. On one server both go back together.

A thousand streams in line would cost 40 ms of each sweep, and need nothing: nine sweeps of ten ask the queue for
the names of all that stand there, which is one reply, and pass over them. The tenth looks at these as well, for a
job may carry the mark of a worker of arq's that died.

A sweeper whose own leases were not renewed lately first waits one lease time: after a pause of Redis all
leases look lost, and taking them over would restart healthy streams.
"""

import time
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.protocol.status import TRANSITIONS
from shared.redis import AWAY
from shared.store.new_stream import BEING_MADE_MS
from shared.store.queue import FIRST, Lane, Queue, job_id
from shared.store.quotas import Ended, Quotas
from shared.store.streams import Streams
from worker.background.leases import Leases
from worker.metrics import WorkerMetrics

TURN_MS: Final = 450
"""Two sweeps a second in the whole deployment, however many workers: take-over = lease + half a second."""

YOUNG_MS: Final = 1000
"""The first claims of a burst may take a tenth of that."""

PAGE: Final = 100
"""Streams looked at in one round trip: 4 ms of the worker's loop."""

THOROUGH: Final = 10
"""One sweep in so many looks at streams that stand in the queue, too."""

KEPT_S: Final = 30.0
"""Twice the time after which a cluster replaces a master, as it comes."""

log = structlog.get_logger("worker.sweep")


class Sweep:
    """Finds streams that nobody carries."""

    def __init__(
        self,
        streams: Streams,
        queue: Queue,
        limits: Quotas,
        leases: Leases,
        *,
        lease_ms: int,
        retention_ms: int,
        may_differ: bool = False,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """``may_differ``: logs and queue may lead to servers that know different things."""
        self._limits = limits
        self._retention_ms = retention_ms
        self._streams = streams
        self._queue = queue
        self._leases = leases
        self._lease_ms = lease_ms
        self._metrics = metrics or WorkerMetrics()
        self._swept = 0
        self._kept_s = KEPT_S if may_differ else 0.0
        self._ended: dict[str, float] = {}
        """When each stream that has ended was found so (s). None stays here for longer than twice KEPT_S."""

    async def tick(self) -> int:
        """Sweep, if it is this worker's turn. Out: how many streams got a new job."""
        if self._leases.steady_s() * 1000 < self._lease_ms:
            return 0
        try:
            if not await self._queue.take_turn(TURN_MS):
                return 0
            if moved := await self._queue.set_back():
                log.warning("clock_went_back", entries=moved)
            return await self._sweep()
        except (*AWAY, RedisError) as error:
            log.warning("sweep_failed", error=type(error).__name__)
            return 0

    async def _sweep(self) -> int:
        found, start = 0, 0
        old = time.monotonic() - 2 * self._kept_s
        # Those that another worker took out.
        self._ended = {stream_id: at for stream_id, at in self._ended.items() if at > old}
        waiting: set[str] = set() if self._swept % THOROUGH == 0 else await self._queue.queued_streams()
        self._swept += 1
        while True:
            page = await self._queue.unfinished(start, PAGE)
            if not page:
                return found
            left, given = await self._sweep_page(page, waiting)
            found += given
            start += len(page) - left

    async def _sweep_page(self, page: dict[str, int], waiting: set[str]) -> tuple[int, int]:
        """Out: how many of these left ``unfinished``, and how many got a new job."""
        ended: list[tuple[str, str]] = []
        idle: list[tuple[str, int, Lane]] = []
        now_s = time.monotonic()
        rest_s = now_s - self._kept_s
        # What this worker itself runs is not asked for: with one worker that is all there is.
        others = [
            stream_id
            for stream_id in page
            if stream_id not in self._leases.renewed
            and stream_id not in waiting
            and self._ended.get(stream_id, rest_s) <= rest_s
        ]
        if not others:
            return 0, 0
        found = await self._streams.liveness(others, self._lease_ms)
        now_ms = await self._queue.now_ms()
        for stream_id, stands in zip(others, found, strict=True):
            age_ms = now_ms - page[stream_id]
            if stands.status is None:
                if age_ms > BEING_MADE_MS:
                    ended.append((stream_id, ""))
            # A status that this version does not know is another one's to judge.
            elif not TRANSITIONS.get(stands.status, {stands.status}):  # type: ignore[call-overload]
                if self._ended.setdefault(stream_id, now_s) <= rest_s:
                    ended.append((stream_id, stands.lane.owner))
            else:
                self._ended.pop(stream_id, None)
                if not stands.lease and age_ms > YOUNG_MS:
                    idle.append((stream_id, stands.attempt + 1, stands.lane))
        if ended:
            sizes = await self._streams.sizes([stream_id for stream_id, _ in ended])
            kept = [Ended(*one, size if one[1] else 0) for one, size in zip(ended, sizes, strict=True)]
            await self._limits.settle(kept, self._retention_ms)
        return len(ended), await self._give_jobs(idle) if idle else 0

    async def _give_jobs(self, idle: list[tuple[str, int, Lane]]) -> int:
        have_jobs = await self._queue.jobs([job_id(*item) for item in idle])
        orphans = [item for item, has_job in zip(idle, have_jobs, strict=True) if not has_job]
        for stream_id, attempt, lane in orphans:
            log.info("stream_taken_up", stream=stream_id, attempt=attempt)
            await self._queue.put(stream_id, attempt, lane, FIRST)
        self._metrics.taken_over(len(orphans))
        return len(orphans)
