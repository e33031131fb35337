"""A pooled client for scripts and plain keys on Redis Cluster: redis-py's, made to come back from anything.

Theory of operation. redis-py's client learns the map of slots from the nodes that it knows, and drops each node
that failed. A connection that could not be opened keeps its place in its node's pool, and so does one whose call
was cancelled while it was opened. Once all nodes were away for some seconds it would find none of them ever again,
and a node that stood still for a while would have no connection left for anybody. Here each look at the map asks
all nodes that are known, over new connections, and a call that is given up ends by itself, within its time-outs.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, NodesManager, RedisCluster
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError


class _Nodes(NodesManager):
    """The nodes, none of which is forgotten before the map says so."""

    def __init__(self, seeds: Sequence[tuple[str, int]], arguments: dict[str, Any]) -> None:
        self._seeds = [ClusterNode(host, port, **arguments) for host, port in seeds]
        super().__init__(self._seeds, require_full_coverage=True, connection_kwargs=arguments)

    async def initialize(self) -> None:
        """Learn the map; those nodes that did not fail are asked first. Raises what a client's call raises."""
        known = {**self.startup_nodes, **self.nodes_cache, **{node.name: node for node in self._seeds}}
        self.startup_nodes = {
            name: ClusterNode(node.host, node.port, **self.connection_kwargs) for name, node in known.items()
        }
        try:
            await super().initialize()
        except RuntimeError as error:  # a node failed meanwhile, and was dropped from what is gone through here
            raise RedisConnectionError(f"the cluster changed while it was asked: {error}") from error


class _Client(RedisCluster):
    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        call = asyncio.ensure_future(super().execute_command(*args, **kwargs))
        call.add_done_callback(_seen)
        return await asyncio.shield(call)


def _seen(call: asyncio.Future[Any]) -> None:
    """Nobody may be there any more to be told of its failure."""
    if not call.cancelled():
        call.exception()


def open_cluster_client(
    seeds: Sequence[tuple[str, int]], kind: type[AbstractConnection], raw: Iterable[str], **arguments: Any
) -> Redis:
    """In: the hosts and ports of some nodes; the kind of connection, and its arguments; the commands whose replies
    are left as they come. It connects when it is used."""
    client = _Client(**arguments, ssl=issubclass(kind, SSLConnection))
    client.connection_kwargs["connection_class"] = kind
    for name in raw:
        client.response_callbacks.pop(name, None)
    client.nodes_manager = _Nodes(seeds, client.connection_kwargs)
    # It offers what is used of a single server's client: scripts, hashes, plain keys, pipelines.
    return cast(Redis, client)
