"""What the routes work with: made by the composition root, handed over in ``app.state``."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from redis.asyncio import Redis

from api.dialects.base import Dialect
from api.http.bodies import Bodies
from api.http.rates import Opens
from api.http.responses import SendWatch
from api.metrics import ApiMetrics
from api.streams.admission import Admission
from api.streams.creation import Creation
from api.streams.memory import Memory
from api.streams.read_tokens import ReadTokens
from api.viewing.followed_log import FollowedLog
from api.viewing.hub import Hub
from api.viewing.presence import Presence
from api.viewing.seats import Seats
from api.viewing.snapshots import Flights
from shared.config.providers import Provider
from shared.config.settings import Settings
from shared.process.rights_watch import RightsWatch
from shared.protocol.ids import Cursor
from shared.store.erasures import Erasures
from shared.store.limits import Ended, Limits
from shared.store.queue import Queue
from shared.store.streams import Streams

log = structlog.get_logger("api")

LOAD_TIMEOUT_S: Final = 5.0


class Viewing:
    """The viewers of this process: how many there are, and whether they should leave."""

    def __init__(self, hub: Hub, most: int, most_of_key: int = 0, *, shared: bool = False) -> None:
        """``most_of_key``: viewers of one key's streams, 0: its share; ``shared``: there are several keys."""
        self._hub = hub
        self._most = most
        self._most_of_key = most_of_key
        self._shared = shared
        self._stopping = False
        self._of_key: Counter[str] = Counter()
        self.viewers = 0

    def full(self, owner: str | None) -> bool:
        """Whether nobody more can watch here a stream of this owner's (None: of anybody's).

        A key's streams have viewers here as long as they have fewer than there is room for: one key alone takes a
        half of the process, two a third each (the rule by which workers share their places).
        """
        room = self._most - self.viewers
        if room <= 0 or not owner or not (self._shared or self._most_of_key):
            return room <= 0
        return self._of_key[owner] >= (self._most_of_key or room)

    def is_stopping(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """Let every viewer end its response cleanly."""
        self._stopping = True
        self._hub.wake_viewers()

    def follow(
        self, stream_id: str, dialect: Dialect, text_from: Cursor, created_ms: int
    ) -> AbstractContextManager[FollowedLog]:
        return self._hub.follow(stream_id, dialect, text_from, created_ms)

    async def loaded(self, follow: FollowedLog) -> None:
        """Wait until the log was read once. Raises TimeoutError while Redis is away."""
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            await follow.loaded.wait()

    @contextmanager
    def counted(self, owner: str) -> Iterator[None]:
        """One viewer more of this owner's streams, as long as the block lasts."""
        self.viewers += 1
        self._of_key[owner] += 1
        try:
            yield
        finally:
            self.viewers -= 1
            self._of_key[owner] -= 1
            if not self._of_key[owner]:
                del self._of_key[owner]


class Cancellation:
    """Cancels and erases streams."""

    def __init__(
        self,
        settings: Settings,
        streams: Streams,
        queue: Queue,
        limits: Limits,
        erasures: Erasures,
        metrics: ApiMetrics,
    ) -> None:
        self._limits = limits
        self._retention_ms = int(settings.retention_s * 1000)
        self._keep_prompt = settings.keep_prompt
        self._erasures = erasures
        self._streams = streams
        self._queue = queue
        self._metrics = metrics

    async def cancel(self, stream_id: str, data: bytes) -> tuple[str, ...]:
        """Write the terminal event, and tell the worker and the readers. Out: the script's answer
        (``cancel.lua``)."""
        await self._erasures.note()
        answer = await self._streams.cancel(stream_id, data, self._retention_ms, self._keep_prompt)
        if answer[0] == "cancelled":
            await self._queue.cancelled(stream_id)
            (model,) = await self._streams.fields(stream_id, "model")
            self._metrics.cancelled(model or "")
            log.info("stream_ended", stream=stream_id, status="cancelled", model=model)
        return answer

    async def erase(self, stream_id: str, owner: str) -> bool:
        """Delete everything of a stream, running or not. Out: whether it was there."""
        await self._erasures.note()
        erased = await self._streams.erase(stream_id)
        if erased:
            await self._queue.cancelled(stream_id)
            # At once, for a sweep that comes later would take out one that the same Idempotency-Key makes.
            await self._limits.settle([Ended(stream_id, owner)], self._retention_ms)
        return erased


@dataclass(frozen=True, slots=True)
class Services:
    """One API process's parts."""

    settings: Settings
    providers: Mapping[str, Provider]
    streams: Streams
    queue: Queue
    hub: Hub
    viewing: Viewing
    creation: Creation
    cancellation: Cancellation
    admission: Admission
    tokens: ReadTokens
    records: Flights[str, bytes | None]
    """The records of streams as JSON, by id; None where there is none."""
    seats: Seats
    presence: Presence
    servers: tuple[Redis, ...]
    """The log's and the queue's; one where both are the same."""
    memory: Memory
    rights: RightsWatch
    watch: SendWatch
    bodies: Bodies
    opens: Opens
