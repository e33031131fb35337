"""The worker's clock: leases, sign of life, check of the log connection, presence, the sweep, and AOF rewrites."""

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
from worker.background.presence_watch import TICK_S as PRESENCE_TICK_S
from worker.background.presence_watch import PresenceWatch
from worker.background.sweep import Sweep
from worker.log.writer import LogWriter

FORGET_WORKER_MS: Final = 60_000
SWEEP_S: Final = 0.5
REWRITE_TICK_S: Final = 5.0
"""How often a due rewrite is looked for. Rewrites are ten minutes apart, and each look costs a round trip."""
SIGN_OFF_S: Final = 2.0
"""The limit for signing off. A worker that does not sign off counts as alive for some seconds more."""

log = structlog.get_logger("worker.upkeep")


class Ticker:
    """Runs the tasks that are due every second (the sweep every half second, the check for rewrites every 5 s).

    Each task has its own loop. While Redis is away, a task may wait for its timeout, and that must not delay the
    leases.
    """

    def __init__(
        self,
        worker: str,
        queue: Queue,
        leases: Leases,
        sweep: Sweep,
        writer: LogWriter,
        presence_watch: PresenceWatch,
        erasures: Erasures,
    ) -> None:
        self._erasures = erasures
        self._worker = worker
        self._queue = queue
        self._leases = leases
        self._sweep = sweep
        self._writer = writer
        self._presence_watch = presence_watch

    async def run(self) -> None:
        """Tick until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(TICK_S, self._leases.tick))
            group.create_task(self._every(TICK_S, self._writer.tick))
            group.create_task(self._every(TICK_S, self._show_life))
            group.create_task(self._every(SWEEP_S, self._sweep.tick))
            group.create_task(self._every(REWRITE_TICK_S, self._erasures.tick))
            group.create_task(self._every(PRESENCE_TICK_S, self._presence_watch.tick))

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
        """Remove this worker's sign of life: it stops."""
        with contextlib.suppress(*AWAY, RedisError):
            await asyncio.wait_for(self._queue.sign_off(self._worker), SIGN_OFF_S)
