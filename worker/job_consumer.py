"""arq's worker, waiting for its jobs instead of polling for them.

Theory of operation. arq polls every 0.5 s; that delays a pickup by 232 ms at the median, and a wait by less than
2. This subclass (of exactly arq 0.28.0) changes two things. It takes jobs out of the queue, as many as it has
room for, by the call that waits for them (:meth:`shared.store.queue.Queue.take`), where arq looks, marks and counts
each, one after the other: of 100 streams that are asked for at the same moment the last one's first token comes
110-160 ms later than the provider's, and not 210-310. And it runs a job without arq's bookkeeping of tries and
results, for the claim decides who runs. All that arq does otherwise stays as it is: start and stop hooks, health
check, and SIGTERM.

A job that is taken by a worker that dies, or by a call whose reply is lost, is found by the sweep, as all that has
neither a lease nor a job. One that comes when there is no room for it any more (the worker drains) is put back. A
worker that ends closes the connection on which it waits, or it would be given what its own streams hand over.
Without a free place (:mod:`worker.places`) nothing is waited for but a place. Where jobs wait that may not be taken
here, for their keys have their shares, the worker looks again every :data:`shared.store.queue.LOOK_S`.
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
"""For one call; between them arq's health check gets its turn."""
AWAY_S: Final = 0.5
CLOSE_S: Final = 6.0
"""A stream takes at most twice 2 s to be handed over (see :mod:`worker.attempt.ending`); supervisors wait 10 s."""

log = structlog.get_logger("worker.job_consumer")


class MultiplexedArq(MultiplexedRedis, ArqRedis):  # type: ignore[misc]
    """arq's client, over one connection."""


class JobConsumer(Worker):
    """arq's worker, which waits."""

    def __init__(self, queue: Queue, waiting_client: Redis, places: Places, **arguments: Any) -> None:
        """``waiting_client`` needs a socket timeout longer than WAIT_S; ``arguments`` are those of arq's worker."""
        super().__init__(poll_delay=0, **arguments)
        self._queue = queue
        self._waiting_client = waiting_client
        self._places = places
        self._left = self._passed_over = False
        self._ending = False
        self._freed = asyncio.Event()
        self._begun = count()
        self.on_stop = self._end

    async def main(self) -> None:
        """Wait for the server, then work as arq does. (arq gives up at once without one, and without the right to
        INFO, which it writes into its log.)"""
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
        """The first signal where there is a drain time: no new work. A second one ends the drain: what runs is
        handed over at once."""
        if self.allow_pick_jobs:
            super().handle_sig_wait_for_completion(signum)
        else:
            self.handle_sig(signum)

    def handle_sig(self, signum: Signals) -> None:
        """Hand everything over, and end. A further signal, or the end of the drain time, must not break that
        off."""
        if not self._ending:
            super().handle_sig(signum)

    def _end(self, signum: Signals) -> None:
        """arq has told its tasks and its loop to end. The loop may miss that: chaos saw a worker that gave two
        streams back, and went on."""
        self._ending = True
        self.allow_pick_jobs = False

    async def _poll_iteration(self) -> None:
        if self._ending:
            raise asyncio.CancelledError
        try:
            await self._take_jobs()
            await self.heart_beat()
        except (*AWAY, RedisError) as error:
            # arq itself would end the process here; Redis comes back, and its jobs are still there.
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
        client = None if self._left else self._waiting_client
        try:
            taken = await self._queue.take(self._places.shares, WAIT_S, client, passing_over=self._passed_over)
        except asyncio.CancelledError:
            await self._waiting_client.aclose()  # or the server would give it what its own streams hand over
            raise
        if not self._has_room:
            await self._queue.put_back(taken.jobs)
            return
        for job in taken.jobs:
            self._begin(job)
        # What still waits was left for want of room here, or passed over although there is some.
        self._left = taken.waiting > 0 and not self._has_room
        self._passed_over = taken.waiting > 0 and self._has_room

    def _begin(self, job: Job) -> None:
        # By a name of its own: SIGTERM must reach both where a job came twice. The second one only looks.
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
        """Run it, to whatever end: a stream that is left without one gets a new job from the sweep."""
        try:
            ctx = {**self.ctx, "job_id": job.id, "score": job.place}
            await self.functions[JOB].coroutine(ctx, job.stream_id)
            self.jobs_complete += 1
        except asyncio.CancelledError:
            self.jobs_retried += 1  # by SIGTERM, which waits for all of them
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
                    await asyncio.wait(self.tasks.values())  # arq's own waiting raises what was cancelled unbegun
                await super().close()
        except (*AWAY, RedisError) as error:
            # Of arq's own keys something stays, which expires; what stops after it must stop all the same.
            log.warning("queue_away", error=type(error).__name__)
            if self.on_shutdown:
                await self.on_shutdown(self.ctx)
