"""Learns of cancelled streams at once: a worker whose upstream is silent writes nothing that could be refused.

Only a hint: without it the lease tick stops the stream within a second, and the next append at once.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.redis import AWAY

BACKOFF_S: Final = 1.0
POLL_S: Final = 5.0

log = structlog.get_logger("worker.cancellations")


async def listen(client: Redis, channel: str, stopped: Callable[[str], None]) -> None:
    """Call ``stopped`` with each stream id that the channel names, until cancelled."""
    while True:
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.subscribe(channel)
                while True:
                    message = await pubsub.get_message(timeout=POLL_S)
                    if message is not None:
                        stopped(message["data"].decode())
        except (*AWAY, RedisError) as error:
            log.warning("cancellations_away", error=type(error).__name__)
            await asyncio.sleep(BACKOFF_S)
