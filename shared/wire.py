"""A wire: one connection that many calls share, each waiting for its own replies alone.

Theory of operation. A server answers in the order in which it is asked, so a queue of what was asked is all that
tells whose a reply is, and nobody waits for anybody else's round trip. Calls of one moment (one turn of the event
loop) leave in one write, reach the server in one read, and their replies come back in one, too. A call that is
given up leaves its place in the queue, for its replies still come.

A server that leaves the oldest call without an answer for the time-out is taken for lost: the wire is closed, and
everybody on it is told. Nothing is ever sent again here; whoever can repeat safely does so itself. What waits
unanswered is bounded by the callers, each of whom waits, and by that time-out.

With redis-py's pool (a connection a call, with its lock, its time-out, its retry and a stream reader) one call
costs 53-68 µs of a quiet process, and a pipeline 81-94; over a wire 15 and 20, and 5 and 9 in a crowd. In a burst
of creates, where nothing is warm, that is four times as much, and a stream takes a dozen calls. The loop's own
transport gathers nothing (uvloop sends at once): a write for each call costs the client 5 µs more, and the server
three reads more a stream.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.resp import Command, pack


@dataclass(slots=True)
class _Asked:
    """Commands that were sent together, and the replies that came so far."""

    count: int
    at: float
    done: asyncio.Future[list[Any]]
    replies: list[Any] = field(default_factory=list)


class Wire(asyncio.Protocol):
    """One connection, from its opening to its first failure."""

    def __init__(self, connection: AbstractConnection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._asked: deque[_Asked] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._transport: Any = None
        self._writer: Any = None
        self._reader: Any = None

    async def open(self) -> None:
        """Connect, authenticate and select. Raises one of :data:`shared.connections.AWAY`, or a RedisError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise
        # From here on the socket's bytes come straight to this object, and no stream reader stands in between.
        made: Any = self._connection
        self._reader = made._parser._reader
        self._writer, made._writer, made._reader = made._writer, None, None
        self._transport = self._writer.transport
        self._transport.set_protocol(self)

    @property
    def closed(self) -> bool:
        return self._transport is None

    def ask(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        """Send commands. Out: what becomes a list of one reply each; what the server refused stands in its place as
        an error. It fails with one of :data:`shared.connections.AWAY` where the wire is lost: nobody knows then
        which of the commands were carried out."""
        asked = _Asked(len(commands), self._loop.time(), self._loop.create_future())
        if self._transport is None:
            raise RedisConnectionError("this connection is closed")
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(pack(commands))
        self._asked.append(asked)
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        return asked.done

    def _send(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """Replies came."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not NOT_ENOUGH_DATA:
                asked = self._asked[0]
                asked.replies.append(reply)
                if len(asked.replies) == asked.count:
                    self._asked.popleft()
                    if not asked.done.done():
                        asked.done.set_result(asked.replies)
        except (RedisError, IndexError) as error:
            # No reply, or one that nobody asked for: what follows is nobody's.
            self._lose(RedisConnectionError(f"the server spoke out of turn: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._lose(RedisConnectionError(f"the connection was lost: {exc or 'closed by the server'}"))

    def _look(self) -> None:
        """Whether the oldest call waits for too long."""
        self._watch = None
        if not self._asked:
            return
        left_s = self._asked[0].at + self._timeout_s - self._loop.time()
        if left_s > 0:
            self._watch = self._loop.call_later(left_s, self._look)
        else:
            self._lose(RedisTimeoutError(f"the server said nothing for {self._timeout_s:g} s"))

    def _lose(self, error: RedisError) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        waiting, self._asked = self._asked, deque()
        for asked in waiting:
            if not asked.done.done():
                asked.done.set_exception(error)
                # Whoever gave up in this very moment does not look any more.
                asked.done.exception()

    def close(self) -> None:
        """Close at once; safe to call again."""
        self._lose(RedisConnectionError("this connection was closed"))
