"""The client for scripts and plain keys: redis-py's, over one multiplexer (see :mod:`shared.redis.multiplexer`).

redis-py's pool only makes the multiplexer's connection, and serves WATCH. A call that blocks needs its own client.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ExecAbortError, NoPermissionError, NoScriptError, ReadOnlyError, RedisError

from shared.redis.cluster import open_cluster_client
from shared.redis.commands import Command, command
from shared.redis.connection import EXCHANGE_TIMEOUT_S, described
from shared.redis.multiplexer import Multiplexer, open_multiplexer
from shared.redis.urls import read_url

POOL_SIZE = 8
"""The pool's size. On one server only WATCH would use the pool. (On a cluster each call takes a connection.
Scripts take well under a millisecond, so a few connections carry thousands a second.) The number is the same for
ten viewers and for ten thousand."""


def open_client(url: str, timeout_s: float = EXCHANGE_TIMEOUT_S) -> Redis:
    """A client for scripts and plain keys, of a server (over one shared connection) or a cluster (over pools).
    It connects when it is first used. Raises ``ValueError`` for a bad URL.

    A call waits at most ``timeout_s`` for a connection, and as long for its reply. No call is repeated silently: a
    caller that can repeat safely does so itself, with the same nonce. Replies about Redis streams stay raw, because
    :mod:`shared.store.log` decodes them.
    """
    place = read_url(url)
    kind, settings = described(url)
    client: Redis
    if place.kind == "cluster":
        nodes = [described(node)[1] for node in place.nodes]
        addresses = [(found.get("host", "localhost"), found.get("port", 6379)) for found in nodes]
        client = open_cluster_client(
            addresses, kind, **settings, socket_timeout=timeout_s, max_connections=POOL_SIZE
        )
    else:
        pool = BlockingConnectionPool(
            connection_class=kind,
            max_connections=POOL_SIZE,
            timeout=timeout_s,  # type: ignore[arg-type]
            socket_timeout=timeout_s,
            **settings,
        )
        client = MultiplexedRedis(connection_pool=pool)
        client.auto_close_connection_pool = True
    leave_streams_raw(client)
    return client


def errors_of(*clients: Redis) -> Counter[str]:
    """How often calls of these clients failed, by the error's name. (A cluster's client does not count.)"""
    total: Counter[str] = Counter()
    for client in set(clients):
        if isinstance(client, MultiplexedRedis):
            total += client.errors
    return total


def leave_streams_raw(client: Redis) -> None:
    """Let the client return the replies of stream commands (their names begin with X) undecoded."""
    for name in [name for name in client.response_callbacks if str(name).startswith("X")]:
        del client.response_callbacks[name]


async def memory_of(client: Redis) -> list[tuple[int, int]]:
    """(Used bytes, ``maxmemory``; 0: no limit) of this server, or of each master of this cluster.

    Raises one of AWAY, or a RedisError, also where the user may not run ``INFO``.
    """
    info: Any = await client.info("memory")
    each = [info] if "used_memory" in info else [one for one in info.values() if isinstance(one, dict)]
    return [(int(one["used_memory"]), int(one["maxmemory"])) for one in each]


async def check_masters(client: Redis) -> None:
    """Check that the server, or each master of the cluster, replies and takes writes.

    Raises one of :data:`shared.redis.connection.AWAY`, or a RedisError, also for a server that is a replica now.
    For a user without the right to INFO this checks only that the server replies.
    """
    if isinstance(client, RedisCluster):
        await client.initialize()
        await client.ping(target_nodes=client.get_primaries())
        return
    try:
        info = await client.info("replication")
    except NoPermissionError:
        await client.ping()
        return
    if info.get("role") == "slave":
        raise ReadOnlyError("the server is a replica")


class Reopening:
    """The current multiplexer: opened when it is first needed, and opened again after it was lost."""

    def __init__(self, pool: ConnectionPool) -> None:
        """``pool``: its arguments tell how to connect, and how long a call may take."""
        self._pool = pool
        self._multiplexer: Multiplexer | None = None
        self._opening: asyncio.Task[Multiplexer] | None = None
        self.errors: Counter[str] = Counter()
        """How often a call failed, by the error's name."""

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """As :meth:`Multiplexer.ask`; also raises the errors of opening a multiplexer."""
        try:
            multiplexer = self._multiplexer
            if multiplexer is None or multiplexer.closed:
                # The first call opens it; calls that come meanwhile wait for that, and share its failure.
                if self._opening is None:
                    self._opening = asyncio.create_task(self._open())
                multiplexer = await asyncio.shield(self._opening)
            return await multiplexer.ask(commands)
        except (RedisError, OSError) as error:
            self.errors[type(error).__name__] += 1
            raise

    async def _open(self) -> Multiplexer:
        try:
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            self._multiplexer = await open_multiplexer(connection, self._pool.connection_kwargs["socket_timeout"])
            return self._multiplexer
        finally:
            self._opening = None

    def close(self) -> None:
        """Close at once; the next call opens another multiplexer."""
        if self._opening is not None:
            self._opening.cancel()
        if self._multiplexer is not None:
            self._multiplexer.close()


class MultiplexedRedis(Redis):
    """The client. A subclass of redis-py's :class:`Redis` can be combined with it, by inheriting from both."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shared = Reopening(self.connection_pool)

    @property
    def errors(self) -> Counter[str]:
        """How often a call failed or was refused, by the error's name."""
        return self._shared.errors

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command. Raises the server's refusal, or one of :data:`shared.redis.connection.AWAY`."""
        (reply,) = await self._shared.ask([_words(args)])
        if isinstance(reply, Exception):
            if not isinstance(reply, NoScriptError):  # no failure: the script's text must be sent
                self.errors[type(reply).__name__] += 1
            raise reply
        return _read(self, args[0], reply, options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "MultiplexedPipeline":
        """Several commands in one write."""
        return MultiplexedPipeline(self, self._shared, transaction=transaction)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the multiplexer and the pool."""
        self._shared.close()
        await super().aclose(close_connection_pool)


class MultiplexedPipeline(Pipeline):
    """A pipeline, or a transaction. One that watches keys uses a connection of the pool."""

    def __init__(self, client: Redis, shared: Reopening, *, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._shared = shared

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send the commands. Out: their replies, in order. Raises the first refusal among them."""
        if self.connection is not None:
            return await super().execute(raise_on_error)
        stack, self.command_stack = self.command_stack, []
        if not stack:
            return []
        commands = [_words(args) for args, _ in stack]
        if self.is_transaction:
            *queued, replies = await self._shared.ask([command(None, "MULTI"), *commands, command(None, "EXEC")])
            if isinstance(replies, ExecAbortError):
                # The refusal of the queued command tells more than EXECABORT.
                raise next((one for one in queued if isinstance(one, Exception)), replies)
            if isinstance(replies, Exception):
                raise replies
        else:
            replies = await self._shared.ask(commands)
        for reply in replies:
            if raise_on_error and isinstance(reply, Exception):
                raise reply
        return [
            reply if isinstance(reply, Exception) else _read(self, args[0], reply, options)
            for (args, options), reply in zip(stack, replies, strict=True)
        ]


def _words(args: Any) -> Command:
    """A command for the wire: some of redis-py's names are two words."""
    name = args[0]
    return command(None, *name.split(), *args[1:]) if " " in name else command(None, *args)


def _read(client: Redis, name: Any, reply: Any, options: Mapping[str, Any]) -> Any:
    """A reply in the form that redis-py's callers expect."""
    read = client.response_callbacks.get(name)
    if read is None:
        return reply
    # The option ``keys`` is only for redis-py's cache.
    return read(reply, **{name: value for name, value in options.items() if name != "keys"})
