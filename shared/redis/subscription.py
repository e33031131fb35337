"""A subscription to one channel, with nothing between us and the socket.

Theory of operation. redis-py connects, authenticates and selects; then its transport is taken over, and a message
goes from the socket to whoever listens in one call: no task wakes up for it, and no timer is set and taken back. It
is lost for good at the first failure of any kind; whoever listens subscribes anew, and what was said meanwhile is
lost too, so a message may only be a hint.

(A message costs 3 µs of CPU so, in a quiet process, and 55 by redis-py's ``get_message`` with a time-out.)
"""

import asyncio
from collections.abc import Callable
from typing import Self

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.redis.commands import command
from shared.redis.connection import EXCHANGE_TIMEOUT_S, unopened
from shared.redis.multiplexer import take_over


class Subscription(asyncio.Protocol):
    """Open as long as its block lasts."""

    def __init__(self, url: str, channel: str, said: Callable[[bytes], None]) -> None:
        """``said`` is called with each message."""
        self._url = url
        self._writer: asyncio.StreamWriter | None = None
        self._channel = channel
        self._said = said
        self._replies = hiredis.Reader()
        self._error: RedisConnectionError | None = None
        self._turn: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        """Connect and subscribe. Raises one of :data:`shared.redis.connection.AWAY`, or a RedisError."""
        try:
            self._writer = await take_over(unopened(self._url), self)
            self._writer.transport.write(command(None, "SUBSCRIBE", self._channel).packed)
            async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
                await self._turned()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    async def lost(self) -> None:
        """Wait until it is lost, and raise a ``ConnectionError`` then."""
        while True:
            await self._turned()

    def data_received(self, data: bytes) -> None:
        """Messages came, or the word that we are subscribed."""
        self._replies.feed(data)
        while reply := self._replies.gets():
            match reply:
                case [b"message", _, message]:
                    self._said(message)
                case [b"subscribe", *_]:
                    self._turn_on()
                case _:
                    self.connection_lost(RedisConnectionError(f"no subscription: {reply}"))

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing comes any more."""
        self._error = RedisConnectionError(f"the subscription was lost: {error or 'closed by the server'}")
        self._turn_on()

    async def _turned(self) -> None:
        if self._error is None:
            self._turn = asyncio.get_running_loop().create_future()
            await self._turn
        if self._error is not None:
            raise self._error

    def _turn_on(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)
