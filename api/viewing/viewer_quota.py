"""ViewerQuota: how many viewers a stream may have, on all API processes together (see :mod:`shared.store.quotas`).

A viewer that is refused is not sent away forever: it is told to come back.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from redis.exceptions import RedisError, ResponseError

from shared.redis import AWAY, is_out_of_memory
from shared.store.queue import Queue
from shared.store.quotas import Quotas

GIVE_BACK_S: Final = 1.0
"""How late a seat that became free is seen by other processes."""
RENEW_S: Final = 5.0
"""A third of a seat's life: two renewals may fail."""

log = structlog.get_logger("api.seats")


class ViewerQuota:
    """The seats that this process holds."""

    def __init__(self, limits: Quotas, queue: Queue, most: int) -> None:
        """``most``: viewers of one stream; 0: any number."""
        self._limits = limits
        self._queue = queue
        self._most = most
        self._block = max(1, most // 50)
        self._process = secrets.token_hex(6)
        self._taken: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._freed: set[str] = set()

    @asynccontextmanager
    async def taken(self, stream_id: str) -> AsyncIterator[bool]:
        """A seat as long as the block lasts; False: there is none. Raises one of AWAY, or a RedisError."""
        if not self._most:
            yield True
            return
        self._taken[stream_id] = self._taken.get(stream_id, 0) + 1
        try:
            yield await self._find(stream_id)
        finally:
            self._taken[stream_id] -= 1
            self._freed.add(stream_id)

    async def _find(self, stream_id: str) -> bool:
        needed = self._taken[stream_id]
        if needed <= self._held.get(stream_id, 0):
            return True
        try:
            given = await self._limits.take_seats(
                stream_id, self._process, needed + self._block - 1, needed, self._most
            )
        except ResponseError as error:
            if not is_out_of_memory(error):
                raise
            return True  # a full server can't count them, but what is in it can be read
        if given:
            self._held[stream_id] = given
        return given > 0

    async def run(self) -> None:
        """Give back what is not used and renew the rest, until cancelled."""
        loop = asyncio.get_running_loop()
        renewed_at = loop.time()
        while True:
            await asyncio.sleep(GIVE_BACK_S)
            due = loop.time() - renewed_at >= RENEW_S
            if not due and not self._freed:
                continue
            freed, self._freed = self._freed, set()
            for stream_id in freed:
                # A viewer that is only asking just now holds nothing yet.
                self._held[stream_id] = min(self._held.get(stream_id, 0), self._taken.get(stream_id, 0))
            told = dict(self._held) if due else {stream_id: self._held[stream_id] for stream_id in freed}
            for stream_id in [name for name in freed if not self._taken.get(name)]:
                self._taken.pop(stream_id, None)
                self._held.pop(stream_id, None)
            try:
                await self._limits.keep_seats(self._process, told, await self._queue.now_ms())
            except (*AWAY, RedisError) as error:
                # What is not renewed runs out; the next renewal tells all of it again.
                log.warning("seats_not_kept", error=type(error).__name__)
            if due:
                renewed_at = loop.time()
