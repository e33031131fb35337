"""Redis's memory: how full it is, looked at once a second, and what is refused because of that.

Theory of operation. At ``maxmemory`` a server refuses writes, those of running streams too. So creates are refused
earlier, at :data:`FULL` of it: what is left is for the streams that are there. And of what is left each key has its
share (where there are several): it may store as many bytes as are free, so one key alone fills a half of the
server, two a third each (the rule by which workers share their places, see :mod:`shared.store.queue`). What a key
stores is counted by :mod:`shared.store.quotas`; what is free is as old as the last look. A server that has no
``maxmemory``, or that lets nobody ask (``INFO``), is never full.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.redis import AWAY, memory_of
from shared.store.quotas import NOTHING, Quotas

LOOK_S: Final = 1.0
LOOK_TIMEOUT_S: Final = 2.0
FULL: Final = 0.85
"""Above it nothing is created. At 1 GB the rest is 5,000 answers of 30 kB."""

log = structlog.get_logger("api.memory")


class Memory:
    """The memory of one deployment's servers."""

    def __init__(self, servers: Sequence[Redis], limits: Quotas, most_of_key: int, *, shared: bool) -> None:
        """``most_of_key``: bytes of a key, 0: its share; ``shared``: there are several keys."""
        self._servers = servers
        self._limits = limits
        self._most_of_key = most_of_key
        self._shared = shared
        limits.most_bytes = most_of_key
        self.used = 0.0
        """Of the fullest server: 1 is full, 0: it has no bound."""

    @property
    def is_full(self) -> bool:
        """Whether creates are refused."""
        return self.used >= FULL

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look once. A server that does not answer is as it was."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                told = [memory for server in self._servers for memory in await memory_of(server)]
        except (*AWAY, RedisError) as error:
            log.debug("memory_not_told", error=type(error).__name__)
            return
        bounded = [(used, most) for used, most in told if most]
        was_full, self.used = self.is_full, max((used / most for used, most in bounded), default=0.0)
        if self.is_full != was_full:
            log.warning("redis_full" if self.is_full else "redis_has_room", used=round(self.used, 3))
        free = [max(1, int(FULL * most) - used) for used, most in bounded] if self._shared else []
        # 0 is no limit.
        most = min((most for most in (self._most_of_key, *free) if most), default=0)
        self._limits.most_bytes = NOTHING if self.is_full else most
