"""The parts that the routes use: made by the composition root, handed over in ``app.state``."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from api.http.rate_limiter import OpenLimits
from api.http.sse_response import SendWatch
from api.http.unsent import Unsent
from api.streams.admission import Admission
from api.streams.cancellation import Cancellation
from api.streams.creation import Creation
from api.streams.links import ReadLinks
from api.streams.memory import Memory
from api.streams.records import Records
from api.viewing.hub import Hub
from api.viewing.presence import Presence
from api.viewing.viewer_quota import ViewerQuota
from shared.config.providers import Provider
from shared.config.settings import Settings
from shared.process.rights_watch import RightsWatch
from shared.store.chats import Chats
from shared.store.queue import Queue
from shared.store.streams import Streams


class Viewing:
    """The viewers of this process: how many there are, and whether they should leave."""

    def __init__(self, hub: Hub, most: int, most_of_key: int, *, shared: bool) -> None:
        """``most``: viewers of this process. ``most_of_key``: viewers of one key's streams (0: its share).
        ``shared``: there are several keys."""
        self._hub = hub
        self._most = most
        self._most_of_key = most_of_key
        self._shared = shared
        self._stopping = False
        self._of_key: Counter[str] = Counter()
        self.viewers = 0

    def full(self, owner: str | None) -> bool:
        """Whether this process takes no more viewers for a stream of this owner (None: of any owner).

        A key's streams get another viewer as long as they have fewer than there is room left: one key alone fills a
        half of the process, two fill a third each (the rule by which workers share their places).
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

    @contextmanager
    def counted(self, owner: str) -> Iterator[None]:
        """Count one more viewer of this owner's streams, as long as the block lasts."""
        self.viewers += 1
        self._of_key[owner] += 1
        try:
            yield
        finally:
            self.viewers -= 1
            self._of_key[owner] -= 1
            if not self._of_key[owner]:
                del self._of_key[owner]


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one API process."""

    settings: Settings
    providers: Mapping[str, Provider]
    streams: Streams
    queue: Queue
    hub: Hub
    viewing: Viewing
    creation: Creation
    cancellation: Cancellation
    admission: Admission
    chats: Chats
    read_links: ReadLinks
    records: Records
    unsent: Unsent
    viewer_quota: ViewerQuota
    presence: Presence
    servers: tuple[Redis, ...]
    """The clients of the log's and the queue's server; one where both are the same."""
    memory: Memory
    rights: RightsWatch
    watch: SendWatch
    opens: OpenLimits
