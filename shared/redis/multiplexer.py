"""A multiplexer: one connection to Redis that many calls share, each of which waits only for its own replies.

Theory of operation. redis-py connects, authenticates and selects. Then its transport is taken over, and bytes go
from the socket straight to the parser: there is no stream reader, no task that wakes up, and no coroutine for each
reply, of which every append has one. A server replies in the order in which it is asked, so a queue of the calls in
flight is enough to tell which call a reply belongs to.

Group commit: while one write is in flight (sent, and without its replies yet), later calls are gathered. They leave
together, as the next write, when the replies of the first have arrived. With nothing in flight a call leaves in the
same turn of the event loop, together with all others of that turn. A server that syncs its file before it replies
(``appendfsync always``) makes one fsync for each turn of its own loop, so calls that reach it together share one.
300 calls that come 0.1 ms apart (a script each) take 32 to 42 ms either way. With ``always`` the server's turns
fall from 85 to 36, and its CPU for a call from 33 to 25 µs; with ``everysec`` from 240 to 150, and from 22 to 17
µs. The price: a call may wait for the round trip before its own.

The gathered bytes are bounded: at :data:`MAX_GATHERED` they leave at once. A call that is cancelled before it left
is not sent. A call that is cancelled later keeps its place in the queue, because its replies still come. Time-outs
count from the call, gathered or not.

If the oldest call has no reply within the time-out, the server counts as lost: the connection is closed, and every
call on it fails. The same happens at a reply that no call asked for. Nothing is ever sent again here; a caller that
can repeat safely does so itself. The number of calls without a reply is bounded by the callers, each of which
waits, and by that time-out.

With redis-py's pool (one connection for each call, with its lock, its time-out, its retry and a stream reader) one
call costs 53-68 µs of a quiet process, and a pipeline 81-94; over a multiplexer 15 and 20, and 5 and 9 with many
calls at once. In a burst of creates, where no cache is warm, that is four times as much, and a stream takes a dozen
calls. The loop's own transport gathers nothing (uvloop sends at once): a write for each call costs the client 5 µs
more, and the server three reads more for each stream. Each reply of a flush costs 1 µs less than with redis-py's
parser.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis.commands import Command

_MISSING: Final = object()

MAX_GATHERED: Final = 64 * 1024
"""A server reads this much from one connection in a few turns of its loop (16 KiB each). A larger write would share
no more fsyncs, and would only delay the calls behind it."""


async def take_over(connection: AbstractConnection, protocol: asyncio.BaseProtocol) -> asyncio.StreamWriter:
    """Open a connection by redis-py; from then on its bytes come straight to this protocol.

    Out: the stream writer, which owns the transport: dropping it closes the transport. Raises one of
    :data:`shared.redis.connection.AWAY`, or a RedisError; then nothing is open.
    """
    try:
        await connection.connect()  # type: ignore[no-untyped-call]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    made: Any = connection
    writer: asyncio.StreamWriter = made._writer
    made._writer = made._reader = None
    writer.transport.set_protocol(protocol)
    return writer


async def open_multiplexer(connection: AbstractConnection, timeout_s: float) -> "Multiplexer":
    """A multiplexer over this connection, which must not be open. Raises as :func:`take_over` does."""
    multiplexer = Multiplexer(timeout_s)
    async with asyncio.timeout(timeout_s):
        multiplexer.writer = await take_over(connection, multiplexer)
        multiplexer.connection_made(multiplexer.writer.transport)
    return multiplexer


def _refusal(text: str) -> ResponseError:
    """A refusal as one of redis-py's error classes. Raises the errors that redis-py counts as a lost connection
    (LOADING, NOAUTH), because the server gives them to every command, not only to this one. READONLY is raised as
    well: the server is a replica now, and a new connection finds the master (behind Sentinel, behind a host
    name)."""
    error: Exception = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call]
    if isinstance(error, ReadOnlyError):
        raise RedisConnectionError(f"the server is a replica, and takes no writes: {error}")
    if not isinstance(error, ResponseError):
        raise error
    return error


@dataclass(slots=True)
class _Asked:
    """The commands of one call. ``at``: when the call came (loop time, s). ``replies``: those that came so far."""

    packed: bytes
    count: int
    at: float
    done: asyncio.Future[list[Any]]
    replies: list[Any] = field(default_factory=list)


class Multiplexer(asyncio.Protocol):
    """The only user of an open transport, until its first failure."""

    def __init__(self, timeout_s: float) -> None:
        """``timeout_s``: how long a call may wait for its replies."""
        self.writer: asyncio.StreamWriter | None = None
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._gathered: list[_Asked] = []
        self._gathered_bytes = 0
        self._in_flight: deque[_Asked] = deque()
        self._sending: asyncio.Handle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._transport: Any = None
        self._reader = hiredis.Reader(InvalidResponse, _refusal, notEnoughData=_MISSING)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is open, and belongs to this multiplexer."""
        self._transport = transport

    @property
    def closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def ask(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        """Send commands. Out: a future of their replies in one list (several for a transaction); a refused command
        has a ``ResponseError`` in its place. The future fails with one of :data:`shared.redis.connection.AWAY`
        where the connection is lost: then it is unknown which of the commands were carried out."""
        if self.closed:
            raise RedisConnectionError("this connection is closed")
        packed = b"".join([command.packed for command in commands])
        count = sum([command.replies for command in commands])
        asked = _Asked(packed, count, self._loop.time(), self._loop.create_future())
        self._gathered.append(asked)
        self._gathered_bytes += len(packed)
        if self._sending is None and (not self._in_flight or self._gathered_bytes >= MAX_GATHERED):
            self._sending = self._loop.call_soon(self._send)
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        return asked.done

    def close(self) -> None:
        """Close at once: gathered calls are not sent any more. Safe to call again."""
        self._lose(RedisConnectionError("this connection was closed"))

    def data_received(self, data: bytes) -> None:
        """Replies came."""
        self._reader.feed(data)
        gets, waiting = self._reader.gets, self._in_flight
        try:
            while (reply := gets()) is not _MISSING:
                asked = waiting[0]
                asked.replies.append(reply)
                if len(asked.replies) == asked.count:
                    waiting.popleft()
                    if not asked.done.done():
                        asked.done.set_result(asked.replies)
        except RedisError as error:
            self._lose(error)
        except IndexError:
            self._lose(RedisConnectionError("the server sent an unexpected reply"))
        if self._gathered and not waiting and self._sending is None:
            # Later in this turn, after the callers that just got their replies: their next calls leave with the
            # others.
            self._sending = self._loop.call_soon(self._send)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._lose(RedisConnectionError(f"the connection was closed: {exc or 'by the server'}"))

    def _send(self) -> None:
        self._sending = None
        leaving = [asked for asked in self._gathered if not asked.done.cancelled()]
        self._gathered.clear()
        self._gathered_bytes = 0
        if self._transport is not None and leaving:
            self._in_flight += leaving
            self._transport.write(b"".join([asked.packed for asked in leaving]))

    def _look(self) -> None:
        """Check whether the oldest call has waited for too long."""
        self._watch = None
        oldest = next(iter(self._in_flight or self._gathered), None)
        if oldest is None:
            return
        left_s = oldest.at + self._timeout_s - self._loop.time()
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
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        waiting = [*self._in_flight, *self._gathered]
        self._in_flight.clear()
        self._gathered.clear()
        for asked in waiting:
            if not asked.done.done():
                asked.done.set_exception(error)
                # Marks the error as retrieved: a caller that was cancelled in this moment does not look at it.
                asked.done.exception()
