"""Redis Cluster: the logs, spread over masters by their hash tags, behind the interface of one owned connection.

Theory of operation. All keys of a stream share the tag ``{id}``, so each command goes whole to one master. Commands
for the same master keep their order, which is all that a log needs. The nodes are asked at the same time. Any reply
which shows that the map of slots has changed (MOVED, ASK, CLUSTERDOWN, a master that is a replica now) closes the
connection like a loss: its owner opens a new one, which reads the map again, and reconciles. A fail-over may lose
entries that were not replicated yet, exactly as a restart may. They are written again.

Rejected: following redirections one by one (the replies of a half redirected batch have no order to reason about),
and a client library's cluster pipeline (it retries silently).

The pooled client. redis-py's client learns the map of slots from the nodes that it knows, and drops each node that
failed. In its pools, a connection that could not be opened keeps its place, and so does one whose call is cancelled
while it opens. So redis-py would find no node again after some seconds with all nodes away, and would have no free
connection to a node that did not reply for a while. Here each reading of the map asks all known nodes, over new
connections. A call whose caller was cancelled runs on until its own time-out.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, ClusterPipeline, NodesManager, RedisCluster
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from shared.redis.commands import Command, command, is_trouble
from shared.redis.connection import AWAY, OwnedConnection
from shared.redis.urls import arguments, read_url, with_address

SLOTS: Final = 16384
_NOWHERE: Final = (None, b"", b"?")
"""How a node reports a host name that it does not know. The address of this node itself is used instead."""


class ClusterConnection:
    """Owned connections to all masters, used as one. See :class:`shared.redis.connection.OwnedConnection`."""

    one_log_a_read = True

    def __init__(self, seeds: Sequence[str], connect: Callable[[str], OwnedConnection]) -> None:
        """``seeds``: URLs of some nodes. ``connect``: makes an unopened connection to a node's URL."""
        self._seeds = seeds
        self._connect = connect
        self._nodes: list[OwnedConnection] = []
        self._owners: list[int] = []
        self._closed = False

    async def open(self) -> None:
        """Read the map of slots from the first seed that replies, and connect to every master."""
        error: Exception = RedisConnectionError("no seed of the cluster answers")
        for seed in self._seeds:
            try:
                masters = await self._masters(seed)
                await self._connect_all(masters)
            except (*AWAY, ResponseError) as failure:
                error = failure
                await self._close_nodes()
            else:
                return
        await self.close()
        raise error

    async def _masters(self, seed: str) -> list[tuple[str, list[tuple[int, int]]]]:
        found: dict[str, list[tuple[int, int]]] = {}
        for first, last, (master, *_) in _slot_ranges(await _slots(self._connect(seed)), seed):
            found.setdefault(master, []).append((first, last))
        if sum(last - first + 1 for ranges in found.values() for first, last in ranges) != SLOTS:
            raise RedisConnectionError("the cluster does not serve all slots")
        return list(found.items())

    async def _connect_all(self, masters: list[tuple[str, list[tuple[int, int]]]]) -> None:
        self._owners = [0] * SLOTS
        for number, (url, ranges) in enumerate(masters):
            node = self._connect(url)
            self._nodes.append(node)
            await node.open()
            for first, last in ranges:
                self._owners[first : last + 1] = [number] * (last + 1 - first)

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send each command to the master of its key. A command without a key goes to all masters: the first reply
        counts, unless one of them refuses. Out and raises: as an owned connection."""
        if self._closed or not self._nodes:
            raise RedisConnectionError("this connection is closed")
        places: list[list[int]] = [[] for _ in self._nodes]
        for index, targets in enumerate(self._route(commands)):
            for number in targets:
                places[number].append(index)
        try:
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(node.exchange([commands[index] for index in wanted]))
                    for node, wanted in zip(self._nodes, places, strict=True)
                    if wanted
                ]
        except BaseExceptionGroup as failures:
            await self.close()
            raise failures.exceptions[0] from None
        except BaseException:
            await self.close()
            raise
        replies: list[Any] = [None] * len(commands)
        for wanted, task in zip([wanted for wanted in places if wanted], asked, strict=True):
            for index, reply in zip(wanted, task.result(), strict=True):
                for one in reply if isinstance(reply, list) else (reply,):
                    if isinstance(one, ResponseError) and is_trouble(one):
                        await self.close()
                        raise RedisConnectionError(f"the cluster has changed: {one}")
                if replies[index] is None or isinstance(reply, ResponseError):
                    replies[index] = reply
        return replies

    def _route(self, commands: Sequence[Command]) -> list[list[int]]:
        """The nodes of each command."""
        everywhere = list(range(len(self._nodes)))
        return [everywhere if one.key is None else [self._owners[_slot(one.key)]] for one in commands]

    async def close(self) -> None:
        """Close all connections; safe to call again."""
        self._closed = True
        await self._close_nodes()

    async def _close_nodes(self) -> None:
        nodes, self._nodes = self._nodes, []
        for node in nodes:
            await node.close()


async def _slots(connection: OwnedConnection) -> Any:
    await connection.open()
    try:
        (reply,) = await connection.exchange([command(None, "CLUSTER", "SLOTS")])
    finally:
        await connection.close()
    return reply


def _slot(key: str | bytes) -> int:
    return key_slot(key if isinstance(key, bytes) else key.encode())


def _slot_ranges(reply: Any, seed: str) -> Iterator[tuple[int, int, list[str]]]:
    """The reply of CLUSTER SLOTS as first slot, last slot, and URLs of the master and its replicas (with the seed's
    login)."""
    if isinstance(reply, ResponseError):
        raise reply
    own = arguments(seed).get("host", "localhost")
    for first, last, *nodes in reply:
        yield (
            first,
            last,
            [with_address(seed, own if host in _NOWHERE else host.decode(), port) for host, port, *_ in nodes],
        )


async def node_urls(url: str) -> list[str]:
    """The URLs of all nodes of a cluster that serve slots, masters and replicas; for any other URL, that URL.

    Raises one of :data:`shared.redis.connection.AWAY`, or a RedisError.
    """
    place = read_url(url)
    if place.kind != "cluster":
        return [url]
    error: Exception = RedisConnectionError("no seed of the cluster answers")
    for seed in place.nodes:
        try:
            reply = await _slots(OwnedConnection(seed))
            return sorted({node for *_, nodes in _slot_ranges(reply, seed) for node in nodes})
        except (*AWAY, ResponseError) as failure:
            error = failure
    raise error


LogConnection = OwnedConnection | ClusterConnection


def connect_to_logs(url: str) -> LogConnection:
    """A new, unopened connection to the logs: to a server, or to a cluster (``redis+cluster://``)."""
    place = read_url(url)
    return ClusterConnection(place.nodes, OwnedConnection) if place.kind == "cluster" else OwnedConnection(url)


class _Node(ClusterNode):
    """A node whose map of slots has no unknown hosts."""

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """As redis-py's; in the map, the host at which this node was reached stands for each unknown host."""
        reply = await super().execute_command(*args, **kwargs)
        if args[0] == "CLUSTER SLOTS":
            for _, _, *nodes in reply:
                for node in nodes:
                    if node[0] in _NOWHERE:
                        node[0] = self.host
        return reply


class _Nodes(NodesManager):
    """The nodes; a node is forgotten only when the map no longer has it."""

    def __init__(self, seeds: Sequence[tuple[str, int]], arguments: dict[str, Any]) -> None:
        self._seeds: list[ClusterNode] = [_Node(host, port, **arguments) for host, port in seeds]
        super().__init__(self._seeds, require_full_coverage=True, connection_kwargs=arguments)

    async def initialize(self) -> None:
        """Read the map; nodes that did not fail are asked first. Raises as a client's call does."""
        known = {**self.startup_nodes, **self.nodes_cache, **{node.name: node for node in self._seeds}}
        self.startup_nodes = {
            name: _Node(node.host, node.port, **self.connection_kwargs) for name, node in known.items()
        }
        try:
            await super().initialize()
        except RuntimeError as error:  # a node failed meanwhile, and was dropped from the dict under iteration
            raise RedisConnectionError(f"the cluster changed while it was asked: {error}") from error


class _Client(RedisCluster):
    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        call = asyncio.ensure_future(super().execute_command(*args, **kwargs))
        call.add_done_callback(_seen)
        return await asyncio.shield(call)

    def pipeline(self, transaction: Any | None = None, shard_hint: Any | None = None) -> ClusterPipeline:
        return _Pipeline(self)  # type: ignore[abstract]


class _Pipeline(ClusterPipeline):
    async def execute(self, *args: Any, **kwargs: Any) -> list[Any]:
        try:
            return await super().execute(*args, **kwargs)
        except (AttributeError, KeyError, RuntimeError) as error:
            # The map is being read again, and redis-py looks for a node that it has just forgotten.
            raise RedisConnectionError(f"the cluster changed while it was asked: {error}") from error


def _seen(call: asyncio.Future[Any]) -> None:
    """Mark the error as retrieved: its caller may be gone."""
    if not call.cancelled():
        call.exception()


def open_cluster_client(
    seeds: Sequence[tuple[str, int]], kind: type[AbstractConnection], **arguments: Any
) -> Redis:
    """A client of a cluster, which connects when it is first used. In: the hosts and ports of some nodes; the class
    of the connections, and their arguments."""
    # A map that was wrong once is read again at once: a redirection may lack the new node's host.
    client = _Client(**arguments, ssl=issubclass(kind, SSLConnection), reinitialize_steps=1)
    client.connection_kwargs["connection_class"] = kind
    client.nodes_manager = _Nodes(seeds, client.connection_kwargs)
    # It has all methods of a single server's client that are used here: scripts, hashes, plain keys, pipelines.
    return cast(Redis, client)
