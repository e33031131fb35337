"""arq's worker, waiting for work on a blocking wake-up key instead of polling.

Theory of operation. arq polls every 0.5 s; that delays a pickup by 232 ms at the median, and a wake-up by
1.7. This subclass (of exactly arq 0.28.0) changes three things. After each poll it waits until a wake-up comes,
a slot gets free, or POLL_S is over, so a lost wake-up costs a second and nothing else. It marks all jobs that a
poll found in one round trip, where arq takes five for each, one job after the other: of 100 streams that are asked
for at the same moment the last one's first token comes 110-160 ms later than the provider's, and not 210-310. And
it runs a job as it is: what arq does around one (its payload, its tries, its result: two round trips) is of no use
where the claim decides who runs, and whoever claims takes the job out of arq's keys.
All that arq does otherwise stays as it is: start and stop hooks, burst mode, health check, SIGTERM.

The list is popped by a task that outlives one wait, for a BLPOP that is cancelled in flight could lose its
element. A worker without a free slot starts no BLPOP; if one from before pops then, the wake-up is put
back, for another worker has room.
"""

import asyncio
import contextlib
import signal
from typing import Any, Final

import structlog
from arq.connections import ArqRedis
from arq.utils import timestamp_ms
from arq.worker import Worker
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.connections import AWAY
from shared.queue import JOB, Queue
from shared.wired_client import Wired

POLL_S: Final = 1.0
AWAY_S: Final = 0.5
CLOSE_S: Final = 6.0
"""A stream takes at most twice 2 s to be handed over (see :mod:`worker.endings`); supervisors wait 10 s."""

UNMARK_S: Final = 1.0
"""The sweep takes the mark for dead after a lease time."""

log = structlog.get_logger("worker.waking")


class WiredArq(Wired, ArqRedis):  # type: ignore[misc]
    """arq's client, over one wire."""


class WakingWorker(Worker):
    """arq's worker with a wake-up."""

    def __init__(self, *args: Any, wake_client: Redis, wake_key: str, queue: Queue, **kwargs: Any) -> None:
        """``wake_client`` needs a socket timeout longer than POLL_S."""
        super().__init__(*args, poll_delay=0, **kwargs)
        self._wake_client = wake_client
        self._wake_key = wake_key
        self._queue = queue
        self._ending = False
        self._pop: asyncio.Task[Any] | None = None
        self._freed = asyncio.Event()

    async def main(self) -> None:
        """Wait for the server, then work as arq does (which gives up at once without one)."""
        while True:
            try:
                await self.pool.ping()
                break
            except (*AWAY, RedisError) as error:
                log.warning("waiting_for_redis", error=type(error).__name__)
                await asyncio.sleep(AWAY_S)
        await super().main()

    def handle_sig(self, signum: signal.Signals) -> None:
        """End, as arq does, also where the cancellation of its loop gets lost on its way: chaos saw a worker that
        gave two streams back, and went on."""
        self._ending = True
        self.allow_pick_jobs = False
        super().handle_sig(signum)

    async def _poll_iteration(self) -> None:
        if self._ending:
            raise asyncio.CancelledError
        try:
            await super()._poll_iteration()
        except (*AWAY, RedisError) as error:
            # arq itself would end the process here; Redis comes back, and its jobs are still there.
            log.warning("queue_away", error=type(error).__name__)
            await asyncio.sleep(AWAY_S)
        if not self.burst:
            await self._wait_for_work()

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """As arq does, but for as many in one round trip as there is room for. A job that runs here is not run
        twice: arq would forget the first one, and SIGTERM not reach it."""
        running = {name for name, task in self.tasks.items() if not task.done()}
        names = [name for name in map(bytes.decode, job_ids) if name not in running]
        life_ms = int(self.in_progress_timeout_s * 1000)
        # Those in front may be another worker's already.
        while names and (room := self.max_jobs - self.job_counter) > 0:
            some, names = names[:room], names[room:]
            for name, score in (await self._queue.pick(some, timestamp_ms(), life_ms)).items():
                await self.sem.acquire()
                self.job_counter += 1
                task = self.loop.create_task(self.run_job(name, score))
                task.add_done_callback(lambda _: self._release_sem_dec_counter_on_complete())
                self.tasks[name] = task

    async def run_job(self, job_id: str, score: int) -> None:
        """Run it, to whatever end: a stream that is left without one gets a new job from the sweep."""
        stream_id, _, _ = job_id.rpartition(":")
        try:
            await self.functions[JOB].coroutine({**self.ctx, "job_id": job_id}, stream_id)
            self.jobs_complete += 1
            return
        except asyncio.CancelledError:
            self.jobs_retried += 1  # by SIGTERM, which waits for all of them
        except (*AWAY, RedisError) as error:
            self.jobs_failed += 1
            log.warning("job_left", job=job_id, error=type(error).__name__)
        except Exception:
            self.jobs_failed += 1
            log.exception("job_broke", job=job_id)
        # Perhaps before it was claimed: then another worker may pick it at once.
        with contextlib.suppress(*AWAY, RedisError):
            async with asyncio.timeout(UNMARK_S):
                await self._queue.unmark(job_id)

    def _release_sem_dec_counter_on_complete(self) -> None:
        super()._release_sem_dec_counter_on_complete()
        self._freed.set()

    @property
    def _has_room(self) -> bool:
        return self.allow_pick_jobs and self.job_counter < self.max_jobs

    async def _wait_for_work(self) -> None:
        if self._pop is None and self._has_room:
            self._pop = asyncio.create_task(self._pop_wake_up())
        self._freed.clear()
        freed = asyncio.create_task(self._freed.wait())
        waiting: set[asyncio.Task[Any]] = {freed} if self._pop is None else {freed, self._pop}
        try:
            await asyncio.wait(waiting, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            freed.cancel()
        if self._pop is not None and self._pop.done():
            woken, self._pop = self._pop.result(), None
            if woken and not self._has_room:
                await self._put_back()

    async def _pop_wake_up(self) -> bool:
        try:
            return await self._wake_client.blpop([self._wake_key], timeout=POLL_S) is not None  # type: ignore[misc, arg-type]
        except (*AWAY, RedisError) as error:
            log.warning("queue_away", error=type(error).__name__)
            await asyncio.sleep(AWAY_S)
            return False

    async def _put_back(self) -> None:
        try:
            await self._queue.wake()
        except (*AWAY, RedisError) as error:
            log.warning("wake_up_lost", error=type(error).__name__)

    async def close(self) -> None:
        """Stop waiting, then close as arq does."""
        if self._pop is not None:
            self._pop.cancel()
            await asyncio.wait({self._pop})
        try:
            async with asyncio.timeout(CLOSE_S):
                await super().close()
        except (*AWAY, RedisError) as error:
            # Of arq's own keys something stays, which expires; what stops after it must stop all the same.
            log.warning("queue_away", error=type(error).__name__)
            if self.on_shutdown:
                await self.on_shutdown(self.ctx)
