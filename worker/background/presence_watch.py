"""The presence watch: which streams with ``flow: "client"`` have a viewer, asked once a second for all of them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from redis.exceptions import RedisError

from shared.redis import AWAY
from shared.store.presence import PresenceKeys

TICK_S: Final = 1.0

log = structlog.get_logger("worker.watchers")


class Watched:
    """Whether somebody watches one stream. While this is unknown, the answer is yes: an outage pauses no stream."""

    def __init__(self) -> None:
        self.somebody = asyncio.Event()
        self.somebody.set()

    def tell(self, there: bool) -> None:
        if there:
            self.somebody.set()
        else:
            self.somebody.clear()


class PresenceWatch:
    """Asks Redis for all streams of one worker that pause without viewers."""

    def __init__(self, presence: PresenceKeys) -> None:
        self._presence = presence
        self._watched: dict[str, Watched] = {}

    @contextmanager
    def watch(self, stream_id: str) -> Iterator[Watched]:
        """Ask for this stream each second, as long as the block lasts."""
        watched = self._watched[stream_id] = Watched()
        try:
            yield watched
        finally:
            if self._watched.get(stream_id) is watched:
                del self._watched[stream_id]

    async def tick(self) -> None:
        """Ask once, for all streams."""
        watched = dict(self._watched)
        if not watched:
            return
        try:
            present = await self._presence.present(list(watched))
        except (*AWAY, RedisError) as error:
            log.info("watchers_not_asked", error=type(error).__name__)
            return
        for one, there in zip(watched.values(), present, strict=True):
            one.tell(there)
