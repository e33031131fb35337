"""How young a server is: one that restarted lately may have lost what it said before."""

import asyncio

from redis.asyncio import Redis


async def up_s(*clients: Redis) -> int:
    """For how many whole seconds the youngest of these servers (or of a cluster's nodes) has been up.

    Raises one of :data:`shared.connections.AWAY`, or a RedisError.
    """
    told = await asyncio.gather(*(client.info("server") for client in clients))
    # Of a cluster each node answers for itself.
    servers = [info for answer in told for info in ([answer] if "redis_version" in answer else answer.values())]
    return min(int(info["uptime_in_seconds"]) for info in servers)
