"""How young the servers are: one that restarted lately may have lost what it said before."""

import asyncio
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError

SETTLED_S: Final = 5
"""Whoever wrote is back within a second (its longest backoff) and writes again what was lost (``prelude.lua``)."""


class Uptime:
    """The age of the youngest of some servers (or of a cluster's nodes)."""

    def __init__(self, *clients: Redis) -> None:
        self._clients = clients

    async def up_s(self) -> int:
        """For how many whole seconds it has been up.

        Raises one of :data:`shared.connections.AWAY`, or a RedisError: also for a server that is a replica just
        now, and takes no writes.
        """
        told = await asyncio.gather(*(client.info("server", "replication") for client in self._clients))  # type: ignore[arg-type]
        if any(answer.get("role") == "slave" for answer in told):
            raise ReadOnlyError("the server is a replica")
        # Of a cluster each node answers for itself.
        servers = [info for answer in told for info in ([answer] if "redis_version" in answer else answer.values())]
        return min(int(info["uptime_in_seconds"]) for info in servers)

    async def is_settled(self) -> bool:
        """Whether what is missing now stays missing. Raises as :meth:`up_s`."""
        return await self.up_s() >= SETTLED_S
