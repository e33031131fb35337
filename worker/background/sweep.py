"""The sweep: a stream that has neither a lease nor a job gets a new job. A stream's life depends on nothing else.

Theory of operation. Every worker sweeps. A key with a short expiry lets one worker sweep at a time; losing this key
does no harm. The sweep only enqueues jobs. The claim script alone decides whether a stream may be taken, so a sweep
that saw an old state costs one look-up, and no tokens. The sweep leaves some streams alone: those whose job waits
in the queue or was put off by its worker, and young ones, because a job that was taken leads to a claim at once
unless its worker has died. An id without a record belongs to a create that is under way, or that was given up.
Ended streams are removed from ``unfinished`` here, many at a time. To remove each one at its end would cost a round
trip: a twentieth of a stream's cost in its worker, without its tokens.

If the logs are on another server than the queue, an ended stream is looked at a second time, ``SECOND_LOOK_S``
later, before it is removed. The log server may have lost the end (a replica without it took over), and the queue's
server does not know that. The same holds behind Sentinel: for some seconds two masters may serve, and each may get
one of the connections. On a single server, log and queue lose the same last writes, if any.

A thousand waiting jobs would cost each sweep 40 ms, although their streams need nothing. So nine sweeps of ten ask
for the names of all waiting jobs, which is one reply, and skip their streams. The tenth sweep looks at these
streams too, because a job may carry the mark of a dead arq worker.

A sweeper whose own leases were not renewed lately first waits one lease time. After a pause of Redis all leases
look lost, and taking the streams over would restart healthy ones.
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
"""Two sweeps a second in the whole deployment, with any number of workers. So a take-over comes at most half a
second after the lease's end."""

YOUNG_MS: Final = 1000
"""Younger streams are left alone. The first claims of a burst take up to a tenth of that."""

PAGE: Final = 100
"""Streams in one round trip. They take 4 ms of the worker's event loop."""

THOROUGH: Final = 10
"""One sweep in ten also looks at the streams whose jobs wait in the queue."""

SECOND_LOOK_S: Final = 30.0
"""Twice the default time after which a cluster replaces a master."""

log = structlog.get_logger("worker.sweep")


class Sweep:
    """Finds streams that no worker runs."""

    def __init__(
        self,
        streams: Streams,
        queue: Queue,
        quotas: Quotas,
        leases: Leases,
        *,
        lease_ms: int,
        retention_ms: int,
        may_differ: bool = False,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        """``may_differ``: the log's server and the queue's may have different states."""
        self._quotas = quotas
        self._retention_ms = retention_ms
        self._streams = streams
        self._queue = queue
        self._leases = leases
        self._lease_ms = lease_ms
        self._metrics = metrics or WorkerMetrics()
        self._swept = 0
        self._second_look_s = SECOND_LOOK_S if may_differ else 0.0
        self._ended: dict[str, float] = {}
        """When each ended stream was first found (s). No entry stays for longer than twice SECOND_LOOK_S."""

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
        old = time.monotonic() - 2 * self._second_look_s
        # Old entries are of streams that another worker removed.
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
        """Out: how many of these were removed from ``unfinished``, and how many got a new job."""
        ended: list[tuple[str, str]] = []
        idle: list[tuple[str, int, Lane]] = []
        now_s = time.monotonic()
        rest_s = now_s - self._second_look_s
        # Streams that this worker itself runs are not asked for. With one worker those are nearly all.
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
        for stream_id, state in zip(others, found, strict=True):
            age_ms = now_ms - page[stream_id]
            if state.status is None:
                if age_ms > BEING_MADE_MS:
                    ended.append((stream_id, ""))
            # A status that this version does not know is left to workers of the version that wrote it.
            elif not TRANSITIONS.get(state.status, {state.status}):  # type: ignore[call-overload]
                if self._ended.setdefault(stream_id, now_s) <= rest_s:
                    ended.append((stream_id, state.lane.owner))
            else:
                self._ended.pop(stream_id, None)
                if not state.lease and age_ms > YOUNG_MS:
                    idle.append((stream_id, state.attempt + 1, state.lane))
        if ended:
            sizes = await self._streams.sizes([stream_id for stream_id, _ in ended])
            kept = [Ended(*one, size if one[1] else 0) for one, size in zip(ended, sizes, strict=True)]
            await self._quotas.settle(kept, self._retention_ms)
        return len(ended), await self._give_jobs(idle) if idle else 0

    async def _give_jobs(self, idle: list[tuple[str, int, Lane]]) -> int:
        have_jobs = await self._queue.jobs([job_id(*item) for item in idle])
        orphans = [item for item, has_job in zip(idle, have_jobs, strict=True) if not has_job]
        for stream_id, attempt, lane in orphans:
            log.info("stream_taken_up", stream=stream_id, attempt=attempt)
            await self._queue.put(stream_id, attempt, lane, FIRST)
        self._metrics.taken_over(len(orphans))
        return len(orphans)
