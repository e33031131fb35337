"""A subscription to one channel that reconnects by itself, with no layer between the listener and the socket.

Theory of operation. redis-py connects, authenticates and selects. Then its transport is taken over, and a message
goes from the socket to the listener in one call: no task wakes up for it, and no timer is set and cancelled. At the
first failure of any kind the connection is closed, and another one is opened, with a growing backoff. Messages that
are published meanwhile are lost, so a message may only be a hint. ``subscribed`` tells the listener, at the
beginning and after each reconnection, that it may have missed some.

A server that stops without closing its connections (its machine lost power, its process hangs) would not be
noticed. So the subscription sends a PING every :data:`PING_S` seconds, and a PING without a reply for as long again
counts as a loss.

(A message costs 3 µs of CPU this way, in a quiet process, and 55 by redis-py's ``get_message`` with a time-out.)
"""

import asyncio
from collections.abc import Callable
from typing import Final, Never

import hiredis
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from shared.redis.commands import command
from shared.redis.connection import AWAY, EXCHANGE_TIMEOUT_S, unopened
from shared.redis.multiplexer import take_over

FIRST_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 1.0
PING_S: Final = EXCHANGE_TIMEOUT_S

log = structlog.get_logger("redis.subscription")


async def listen(
    url: str, channel: str, on_message: Callable[[bytes], None], subscribed: Callable[[], None] | None = None
) -> Never:
    """Call ``on_message`` with each message of the channel, until cancelled.

    ``subscribed`` is called after each subscription, the first and every later one: messages may have been missed
    before it.
    """
    backoff_s = FIRST_BACKOFF_S
    while True:
        heard = _Heard(on_message)
        try:
            await heard.open(url, channel)
            backoff_s = FIRST_BACKOFF_S
            if subscribed is not None:
                subscribed()
            await heard.lost
        except (*AWAY, RedisError) as error:
            log.warning("subscription_lost", channel=channel, error=type(error).__name__)
        finally:
            heard.close()
        await asyncio.sleep(backoff_s)
        backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)


class _Heard(asyncio.Protocol):
    """One connection of a subscription, from its opening to its first failure."""

    def __init__(self, on_message: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = loop.create_future()
        """Fails with a ``ConnectionError`` when the connection is lost."""
        self._loop = loop
        self._on_message = on_message
        self._subscribed = asyncio.Event()
        self._replies = hiredis.Reader()
        self._writer: asyncio.StreamWriter | None = None
        self._alive = True
        self._watch: asyncio.TimerHandle | None = None

    async def open(self, url: str, channel: str) -> None:
        """Connect and subscribe. Raises one of :data:`shared.redis.connection.AWAY`, or a RedisError."""
        async with asyncio.timeout(EXCHANGE_TIMEOUT_S):
            self._writer = await take_over(unopened(url), self)
            self._writer.transport.write(command(None, "SUBSCRIBE", channel).packed)
            waiting = asyncio.ensure_future(self._subscribed.wait())
            try:
                await asyncio.wait((waiting, self.lost), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
        if self.lost.done():
            self.lost.result()
        self._watch = self._loop.call_later(PING_S, self._ask)

    def close(self) -> None:
        """Close at once."""
        if self._watch is not None:
            self._watch.cancel()
        if self._writer is not None:
            self._writer.transport.abort()
        self.lost.cancel()

    def data_received(self, data: bytes) -> None:
        """Messages came, or the confirmation of the subscription, or the reply to a PING."""
        self._alive = True
        self._replies.feed(data)
        while reply := self._replies.gets():
            match reply:
                case [b"message", _, message]:
                    self._on_message(message)
                case [b"subscribe", *_]:
                    self._subscribed.set()
                case [b"pong", *_]:
                    pass
                case _:
                    self._lose(f"no subscription: {reply}")

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is closed."""
        self._lose(f"the subscription was lost: {error or 'closed by the server'}")

    def _ask(self) -> None:
        if not self._alive:
            self._lose(f"the server said nothing for {PING_S:g} s")
        elif self._writer is not None:
            self._alive = False
            self._writer.transport.write(command(None, "PING").packed)
            self._watch = self._loop.call_later(PING_S, self._ask)

    def _lose(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_exception(RedisConnectionError(why))
            self.lost.exception()  # marks it as retrieved: a listener that was cancelled now does not look at it
