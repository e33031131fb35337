"""Whether a Redis server (or each master of a cluster) answers and takes writes."""

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import NoPermissionError, ReadOnlyError


async def check_masters(client: Redis) -> None:
    """Ask the server, or all masters of the cluster at once.

    Raises one of :data:`shared.connections.AWAY`, or a RedisError: also for a server that is a replica just now. A
    user without the right to ask for INFO learns only that the server answers.
    """
    if isinstance(client, RedisCluster):
        await client.initialize()
        await client.ping(target_nodes=client.get_primaries())
        return
    try:
        told = await client.info("replication")
    except NoPermissionError:
        await client.ping()
        return
    if told.get("role") == "slave":
        raise ReadOnlyError("the server is a replica")
