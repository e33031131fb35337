"""arq's worker, which waits for its jobs instead of polling for them.

Theory of operation. arq polls every 0.5 s, which delays a pick-up by 232 ms at the median; waiting delays it by
less than 2 ms. This subclass (of exactly arq 0.28.0) changes two things:

- It takes as many jobs as it has room for by one blocking call (:meth:`shared.store.queue.Queue.take`). arq looks,
  marks and counts each job, one after the other. Of 100 streams that are created at the same moment, the last one's
  first token comes 110-160 ms later than the provider sent it, and 210-310 ms later with arq's own way.
- It runs a job without arq's bookkeeping of tries and results, because the claim decides who runs.

Everything else is arq's: start and stop hooks, health check, and SIGTERM.

A job may be taken by a worker that dies, or by a call whose reply is lost. The sweep finds its stream, which then
has neither a lease nor a job. A job that arrives when there is no room for it any more (the worker drains) is put
back. A worker that ends closes the connection on which it waits; otherwise the server would give it the jobs that
its own hand-overs create. Without a free place (:mod:`worker.places`) the worker waits only for a place. If the
waiting jobs may not be taken here because their keys have used up their shares, it looks again every
:data:`shared.store.queue.LOOK_S`.
"""

import asyncio
import contextlib
from itertools import count
from signal import Signals
from typing import Any, Final

import structlog
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.redis import AWAY, MultiplexedRedis, reason, why_refused
from shared.store.queue import JOB, LOOK_S, Job, Queue
from worker.places import Places

WAIT_S: Final = 1.0
"""How long one call waits for jobs. Between two calls arq's health check is written."""
AWAY_S: Final = 0.5
CLOSE_S: Final = 6.0
"""The limit for ending. A hand-over takes at most twice 2 s (:mod:`worker.attempt.ending`); supervisors wait 10
s."""

log = structlog.get_logger("worker.job_consumer")


class MultiplexedArq(MultiplexedRedis, ArqRedis):  # type: ignore[misc]
    """arq's Redis client, over one multiplexed connection."""


class JobConsumer(Worker):
    """arq's worker, which takes its jobs by a blocking call."""

    def __init__(self, queue: Queue, blocking_client: Redis, places: Places, **arguments: Any) -> None:
        """``blocking_client`` needs a socket timeout longer than WAIT_S; ``arguments`` are those of arq's
        worker."""
        super().__init__(poll_delay=0, **arguments)
        self._queue = queue
        self._blocking_client = blocking_client
        self._places = places
        self._left = self._passed_over = False
        self._ending = False
        self._freed = asyncio.Event()
        self._begun = count()
        self.on_stop = self._end

    async def main(self) -> None:
        """Wait until Redis answers, then work as arq does. (arq itself gives up at once if Redis is away, or if its
        user may not call INFO, whose reply arq logs.)"""
        while True:
            try:
                await self.pool.ping()
                break
            except (*AWAY, RedisError) as error:
                log.warning(
                    "waiting_for_redis", error=type(error).__name__, why=why_refused(error) or reason(error)
                )
                await asyncio.sleep(AWAY_S)
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        while True:
            await self._poll_iteration()
            await asyncio.sleep(0)

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """With a drain time, the first signal stops new work. A second one ends the drain: running streams are
        handed over at once."""
        if self.allow_pick_jobs:
            super().handle_sig_wait_for_completion(signum)
        else:
            self.handle_sig(signum)

    def handle_sig(self, signum: Signals) -> None:
        """Hand all streams over, and end. A further signal, or the end of the drain time, must not interrupt
        that."""
        if not self._ending:
            super().handle_sig(signum)

    def _end(self, signum: Signals) -> None:
        """arq has cancelled its tasks and its main loop. The loop may miss its cancellation: a chaos run saw a
        worker that handed over two streams and went on running."""
        self._ending = True
        self.allow_pick_jobs = False

    async def _poll_iteration(self) -> None:
        if self._ending:
            raise asyncio.CancelledError
        try:
            await self._take_jobs()
            await self.heart_beat()
        except (*AWAY, RedisError) as error:
            # arq itself would end the process here. Redis comes back, and the jobs are still there.
            log.warning("queue_away", error=type(error).__name__)
            await asyncio.sleep(AWAY_S)

    @property
    def _has_room(self) -> bool:
        return self.allow_pick_jobs and self._places.free > 0

    async def _take_jobs(self) -> None:
        if not self._has_room:
            self._freed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._freed.wait()
            return
        client = None if self._left else self._blocking_client
        try:
            taken = await self._queue.take(self._places.shares, WAIT_S, client, passing_over=self._passed_over)
        except asyncio.CancelledError:
            await self._blocking_client.aclose()  # or the server would give it its own hand-overs
            raise
        if not self._has_room:
            await self._queue.put_back(taken.jobs)
            return
        for job in taken.jobs:
            self._begin(job)
        # Jobs still wait: there is no room for them here, or there is room and their shares are used up.
        self._left = taken.waiting > 0 and not self._has_room
        self._passed_over = taken.waiting > 0 and self._has_room

    def _begin(self, job: Job) -> None:
        # The name is unique, because a job may come twice, and SIGTERM must reach both tasks. The second claim is
        # refused, and writes nothing.
        name = f"{job.id} {next(self._begun)}"
        self.job_counter += 1
        self._places.take(job)
        self.tasks[name] = task = self.loop.create_task(self._run(job))

        def over(_: object) -> None:
            del self.tasks[name]
            self.job_counter -= 1
            self._places.leave(job)
            self._freed.set()

        task.add_done_callback(over)

    async def _run(self, job: Job) -> None:
        """Run a job. If it fails, its stream gets a new job from the sweep."""
        try:
            ctx = {**self.ctx, "job_id": job.id, "score": job.place}
            await self.functions[JOB].coroutine(ctx, job.stream_id)
            self.jobs_complete += 1
        except asyncio.CancelledError:
            self.jobs_retried += 1  # cancelled by SIGTERM, which waits for all tasks
        except (*AWAY, RedisError) as error:
            self.jobs_failed += 1
            log.warning("job_left", job=job.id, error=type(error).__name__)
        except Exception:
            self.jobs_failed += 1
            log.exception("job_broke", job=job.id)

    async def close(self) -> None:
        """Close as arq does."""
        try:
            async with asyncio.timeout(CLOSE_S):
                if self.tasks:
                    # arq's own wait raises CancelledError for a task that was cancelled before it began.
                    await asyncio.wait(self.tasks.values())
                await super().close()
        except (*AWAY, RedisError) as error:
            # Some of arq's own keys stay in Redis until they expire. The shutdown hook must still run.
            log.warning("queue_away", error=type(error).__name__)
            if self.on_shutdown:
                await self.on_shutdown(self.ctx)
