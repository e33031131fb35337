"""redis-py's client over one wire (see :mod:`shared.wire`): its commands and its pipelines, without its pool.

The pool stays for what needs a connection of its own: subscriptions, blocking reads, and WATCH.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ExecAbortError

from shared.resp import Command, command
from shared.wire import Wire, open_wire


class Wires:
    """The wire of the moment: opened when it is needed, and anew when it was lost."""

    def __init__(self, pool: ConnectionPool) -> None:
        """``pool`` tells how to connect, and how long a call may take."""
        self._pool = pool
        self._wire: Wire | None = None
        self._opening: asyncio.Task[Wire] | None = None

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """As :meth:`Wire.ask`; also raises what opening a wire raises."""
        wire = self._wire
        if wire is None or wire.closed:
            # One opens; whoever comes meanwhile waits for that one, and shares its failure.
            if self._opening is None:
                self._opening = asyncio.create_task(self._open())
            wire = await asyncio.shield(self._opening)
        return await wire.ask(commands)

    async def _open(self) -> Wire:
        try:
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            self._wire = await open_wire(connection, self._pool.connection_kwargs["socket_timeout"])
            return self._wire
        finally:
            self._opening = None

    def close(self) -> None:
        """Close at once; the next call opens another."""
        if self._opening is not None:
            self._opening.cancel()
        if self._wire is not None:
            self._wire.close()


class Wired(Redis):
    """The client. What a class of redis-py's adds to :class:`Redis` can be had with it, by inheriting both."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wires = Wires(self.connection_pool)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """One command. Raises what the server refused, or one of :data:`shared.connections.AWAY`."""
        (reply,) = await self._wires.ask([_words(args)])
        if isinstance(reply, Exception):
            raise reply
        return _read(self, args[0], reply, options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> "WiredPipeline":
        """Several commands in one write."""
        return WiredPipeline(self, self._wires, transaction=transaction)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the wire and the pool."""
        self._wires.close()
        await super().aclose(close_connection_pool)


class WiredPipeline(Pipeline):
    """A pipeline, or a transaction. One that watches keys has a connection of the pool."""

    def __init__(self, client: Redis, wires: Wires, *, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._wires = wires

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """The replies, in order. Raises the first that is a refusal."""
        if self.connection is not None:
            return await super().execute(raise_on_error)
        stack, self.command_stack = self.command_stack, []
        if not stack:
            return []
        commands = [_words(args) for args, _ in stack]
        if self.is_transaction:
            *queued, replies = await self._wires.ask([command(None, "MULTI"), *commands, command(None, "EXEC")])
            if isinstance(replies, ExecAbortError):
                # What made it so says more.
                raise next((one for one in queued if isinstance(one, Exception)), replies)
            if isinstance(replies, Exception):
                raise replies
        else:
            replies = await self._wires.ask(commands)
        for reply in replies:
            if raise_on_error and isinstance(reply, Exception):
                raise reply
        return [
            reply if isinstance(reply, Exception) else _read(self, args[0], reply, options)
            for (args, options), reply in zip(stack, replies, strict=True)
        ]


def _words(args: Any) -> Command:
    """A command as it goes over the wire: redis-py names some by two words."""
    name = args[0]
    return command(None, *name.split(), *args[1:]) if " " in name else command(None, *args)


def _read(client: Redis, name: Any, reply: Any, options: Mapping[str, Any]) -> Any:
    """A reply as redis-py's callers expect it."""
    read = client.response_callbacks.get(name)
    if read is None:
        return reply
    # ``keys`` is for redis-py's cache.
    return read(reply, **{name: value for name, value in options.items() if name != "keys"})
