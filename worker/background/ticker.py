"""The worker's heartbeat: leases, sign of life, the log connection's health, the sweep and the rewrites, on one
clock."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY
from shared.store.erasures import Erasures
from shared.store.queue import Queue
from worker.background.leases import TICK_S, Leases
from worker.background.presence_watch import TICK_S as WATCHERS_TICK_S
from worker.background.presence_watch import PresenceWatch
from worker.background.sweep import Sweep
from worker.log.writer import LogWriter

FORGET_WORKER_MS: Final = 60_000
SWEEP_S: Final = 0.5
REWRITE_TICK_S: Final = 5.0
"""Of an interval of ten minutes; each look costs a round trip."""
SIGN_OFF_S: Final = 2.0
"""Without it the worker counts as alive until its sign of life is too old: seconds."""

log = structlog.get_logger("worker.upkeep")


class Ticker:
    """Runs what has to happen every second (and the sweep twice as often).

    Each has a clock of its own: while Redis is away one may wait for its time-out, and must not hold the
    leases back.
    """

    def __init__(
        self,
        worker: str,
        queue: Queue,
        leases: Leases,
        sweep: Sweep,
        writer: LogWriter,
        watchers: PresenceWatch,
        erasures: Erasures,
    ) -> None:
        self._erasures = erasures
        self._worker = worker
        self._queue = queue
        self._leases = leases
        self._sweep = sweep
        self._writer = writer
        self._watchers = watchers

    async def run(self) -> None:
        """Tick until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(TICK_S, self._leases.tick))
            group.create_task(self._every(TICK_S, self._writer.tick))
            group.create_task(self._every(TICK_S, self._show_life))
            group.create_task(self._every(SWEEP_S, self._sweep.tick))
            group.create_task(self._every(REWRITE_TICK_S, self._erasures.tick))
            group.create_task(self._every(WATCHERS_TICK_S, self._watchers.tick))

    async def _every(self, period_s: float, tick: Callable[[], Awaitable[object]]) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await tick()
            due = max(due + period_s, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _show_life(self) -> None:
        with contextlib.suppress(*AWAY, RedisError):
            now_ms = await self._queue.now_ms()
            await self._queue.sign_of_life(self._worker, now_ms, now_ms - FORGET_WORKER_MS)

    async def sign_off(self) -> None:
        """This worker leaves."""
        with contextlib.suppress(*AWAY, RedisError):
            async with asyncio.timeout(SIGN_OFF_S):
                await self._queue.sign_off(self._worker)
