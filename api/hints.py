"""Wake-ups: the names of the logs that workers touched, as a subscription that comes back by itself."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY, Subscription

FIRST_BACKOFF_S: Final = 0.05
MAX_BACKOFF_S: Final = 1.0

log = structlog.get_logger("api.hints")


class Hints:
    """Listens to one channel."""

    def __init__(self, url: str, channel: str) -> None:
        """``url``: the channel's server."""
        self._url = url
        self._channel = channel

    async def listen(self, hinted: Callable[[bytes], None], subscribed: Callable[[], None]) -> None:
        """Call ``hinted`` with each message, and ``subscribed`` whenever hints may have been missed."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                async with Subscription(self._url, self._channel, hinted) as subscription:
                    backoff_s = FIRST_BACKOFF_S
                    subscribed()
                    await subscription.lost()
            except (*AWAY, RedisError) as error:
                log.warning("hints_away", error=type(error).__name__)
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
