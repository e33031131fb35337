"""Redis's memory: checked once a second, so that creates are refused before it is full.

Theory of operation. At ``maxmemory`` a server refuses writes, also those of running streams. So creates are refused
earlier, at :data:`FULL` of it: the rest is for the existing streams. Where there are several keys, each may store
as many bytes as are free: one key alone fills a half of the server, two fill a third each (the rule by which
workers share their places, see :mod:`shared.store.queue`). :mod:`shared.store.quotas` counts the bytes of a key;
the number of free bytes is as old as the last look. A server without ``maxmemory``, or one that refuses ``INFO``,
is never full.
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
"""Above this part of ``maxmemory`` no stream is created. At 1 GB the rest is enough for 5,000 answers of 30 kB."""

log = structlog.get_logger("api.memory")


class Memory:
    """The memory of one deployment's servers."""

    def __init__(self, servers: Sequence[Redis], quotas: Quotas, most_of_key: int, *, shared: bool) -> None:
        """``most_of_key``: bytes of a key (0: its share). ``shared``: there are several keys."""
        self._servers = servers
        self._quotas = quotas
        self._most_of_key = most_of_key
        self._shared = shared
        quotas.most_bytes = most_of_key
        self.used = 0.0
        """The used part of the fullest server: 1 is full; 0: no server has a bound."""

    @property
    def is_full(self) -> bool:
        """Whether creates are refused."""
        return self.used >= FULL

    async def run(self) -> None:
        """Look every LOOK_S, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look once. If a server does not reply, the last numbers stay."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                found = [memory for server in self._servers for memory in await memory_of(server)]
        except (*AWAY, RedisError) as error:
            log.debug("memory_not_told", error=type(error).__name__)
            return
        bounded = [(used, most) for used, most in found if most]
        was_full, self.used = self.is_full, max((used / most for used, most in bounded), default=0.0)
        if self.is_full != was_full:
            log.warning("redis_full" if self.is_full else "redis_has_room", used=round(self.used, 3))
        free = [max(1, int(FULL * most) - used) for used, most in bounded] if self._shared else []
        # 0 means no limit.
        most = min((most for most in (self._most_of_key, *free) if most), default=0)
        self._quotas.most_bytes = NOTHING if self.is_full else most
