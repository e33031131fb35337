"""How young the servers are, and how calm: one that restarted lately may have lost what it said before."""

import asyncio
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.redis import AWAY, masters_info, read_facts

SETTLED_S: Final = 5
"""Whoever wrote is back within a second (its longest backoff) and writes again what was lost (``prelude.lua``)."""
LOOK_S: Final = 0.5
SLOW_S: Final = 1.0
"""An answer that takes longer comes from a server that stood still."""

log = structlog.get_logger("uptime")


CALM_MS: Final = 3_600_000
"""Calm for so long is calm for ever."""


class Trouble:
    """When a server was away, slow, or refused to write, as one process saw it."""

    def __init__(self) -> None:
        self._at: float | None = None

    @property
    def known(self) -> bool:
        return self._at is not None

    def note(self) -> None:
        """There is some now."""
        self._at = asyncio.get_running_loop().time()

    def calm_ms(self) -> int:
        """For how long there was none; a new process has seen none."""
        if self._at is None:
            return CALM_MS
        return min(CALM_MS, int((asyncio.get_running_loop().time() - self._at) * 1000))


class Uptime:
    """The age of the youngest of some servers (of a cluster: of its masters), and when one of them gave trouble."""

    def __init__(self, *clients: Redis) -> None:
        self._clients = clients
        for client in clients:
            # redis-py's own takes all values apart, twice a second, and leaves a circle behind each time
            # (:mod:`shared.collector`).
            client.set_response_callback("INFO", read_facts)
        self.trouble = Trouble()
        self._asked_at: float | None = None

    async def up_s(self) -> int:
        """For how many whole seconds it has been up.

        Raises one of :data:`shared.redis.connection.AWAY`, or a RedisError: also for a server that is a replica
        just now, and takes no writes.
        """
        told = await asyncio.gather(*(masters_info(client) for client in self._clients))
        return min(int(info["uptime_in_seconds"]) for masters in told for info in masters)

    async def is_settled(self) -> bool:
        """Whether what is missing now stays missing. Raises as :meth:`up_s`."""
        loop = asyncio.get_running_loop()
        # Whose answer is read first, this one's or that of a look under way, is chance.
        asked_at = self._asked_at or loop.time()
        up_s = await self.up_s()
        stood_still = loop.time() - asked_at > SLOW_S
        return not stood_still and self.trouble.calm_ms() >= SETTLED_S * 1000 and up_s >= SETTLED_S

    async def run(self) -> None:
        """Notice trouble, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._asked_at = loop.time()
            try:
                await self.up_s()
                if loop.time() - self._asked_at > SLOW_S:
                    self.trouble.note()
            except (*AWAY, RedisError) as error:
                log.info("server_not_ready", error=type(error).__name__)
                self.trouble.note()
            self._asked_at = None
            await asyncio.sleep(LOOK_S)
