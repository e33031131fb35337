"""Presence: a stream with ``flow: "client"`` learns that somebody watches it here.

The key lives for the stream's own ``pause_after``; it is set when a viewer comes and once a second while one is
there. An API process that dies leaves nothing behind but a key that runs out.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY
from shared.store.presence import PresenceKeys

SHOW_S: Final = 1.0
"""``pause_after`` is at least two seconds: one showing may be lost."""

log = structlog.get_logger("api.presence")


class Presence:
    """The watched streams of this process that want to know."""

    def __init__(self, keys: PresenceKeys) -> None:
        self._keys = keys
        self._viewers: Counter[str] = Counter()
        self._life_ms: dict[str, int] = {}

    @asynccontextmanager
    async def shown(self, stream_id: str, pause_after_ms: str | None) -> AsyncIterator[None]:
        """Somebody watches as long as the block lasts. ``pause_after_ms``: the record's field."""
        if pause_after_ms is None:
            yield
            return
        self._life_ms[stream_id] = int(pause_after_ms)
        self._viewers[stream_id] += 1
        try:
            await self._show({stream_id: self._life_ms[stream_id]})
            yield
        finally:
            self._viewers[stream_id] -= 1
            if not self._viewers[stream_id]:
                del self._viewers[stream_id], self._life_ms[stream_id]

    async def beat(self, stream_id: str, pause_after_ms: str | None) -> None:
        """A sign of life. Raises one of AWAY, or a RedisError."""
        if pause_after_ms is not None:
            await self._keys.show({stream_id: int(pause_after_ms)})

    async def run(self) -> None:
        """Show who is here, until cancelled."""
        while True:
            await asyncio.sleep(SHOW_S)
            await self._show(dict(self._life_ms))

    async def _show(self, life_ms: dict[str, int]) -> None:
        try:
            await self._keys.show(life_ms)
        except (*AWAY, RedisError) as error:
            log.info("presence_not_shown", error=type(error).__name__)
