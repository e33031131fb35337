"""What is sent and answered on one open connection to Redis, with nothing between us and the socket.

Theory of operation. redis-py connects, authenticates and selects; then its transport is taken over, and what
arrives goes from the socket to the parser at once: no stream, no task that wakes for it, and no coroutine for each
reply, of which there is one for every append. One exchange at a time, so the next replies are its own. What cannot
be told (replies that nobody asked for, a connection that was lost) ends the transport, never the doubt.

(An exchange of one command: 169 µs of CPU by redis-py's stream and parser, 153 so; each further reply: 1 µs less.)
"""

import asyncio
from typing import Any, Final

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError

_MISSING: Final = object()


def _refusal(text: str) -> ResponseError:
    """What the server refused, by redis-py's own classes. Raises those that it takes for a lost connection
    (LOADING, NOAUTH): they answer everything, and not this command."""
    error: Exception = DefaultParser.parse_error(text)  # type: ignore[no-untyped-call]
    if not isinstance(error, ResponseError):
        raise error
    return error


class Wire(asyncio.Protocol):
    """The only user of an open transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reader = hiredis.Reader(InvalidResponse, _refusal, notEnoughData=_MISSING)
        self._replies: list[Any] = []
        self._wanted = 0
        self._answered: asyncio.Future[None] | None = None
        transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        return not self._transport.is_closing()

    async def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Write, and wait for so many replies. Raises ``ConnectionError`` or ``InvalidResponse``."""
        self._replies, self._wanted = [], count
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(packed)
        try:
            await self._answered
        finally:
            self._answered = None
        return self._replies

    def close(self) -> None:
        """Close at once: what is not sent yet is not sent any more. Safe to call again."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        replies, gets = self._replies, self._reader.gets
        try:
            while (reply := gets()) is not _MISSING:
                replies.append(reply)
        except RedisError as error:
            self._fail(error)
        else:
            if len(replies) > self._wanted:
                self._fail(RedisConnectionError("the server says more than it was asked"))
            elif len(replies) == self._wanted and self._answered is not None and not self._answered.done():
                self._answered.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(RedisConnectionError(f"the connection was closed: {error or 'by the server'}"))

    def _fail(self, error: Exception) -> None:
        self._transport.abort()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)
