"""The metrics of an API process: creates, cancels, refused requests, reads of the logs, numbers of its parts."""

import asyncio
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, Metric
from redis.exceptions import RedisError

from shared.process.metrics import Names, Read, Timings, gauge, rendered
from shared.redis import AWAY
from shared.store.queue import Queue

QUEUE_TIMEOUT_S = 1.0
"""While Redis is away, its numbers are left out, and all others are shown."""


class ApiMetrics:
    """The counters of one API process. Its parts call a method for each event; none is called for a token."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._models = Names()
        self._created = Counter(
            "headrace_creates",
            "Creates that were answered with a stream: created, or exists (by its Idempotency-Key)",
            ["outcome"],
            registry=self.registry,
        )
        self._ended = Counter(
            "headrace_streams_ended",
            "Streams that ended here (those that were cancelled), by status and code",
            ["status", "code", "provider", "model"],
            registry=self.registry,
        )
        self._refused = Counter(
            "headrace_refused_requests", "Requests that were refused, by code", ["code"], registry=self.registry
        )
        self._read = Timings()
        self.was_read = self._read.observe
        """Call it after each read of logs with new entries. In: how long it took (s)."""
        self._queue: Queue | None = None
        self._waiting: list[Metric] = []

    def watch(
        self, queue: Queue, viewers: Callable[[], int], following: Callable[[], int], snapshots: Callable[[], int]
    ) -> None:
        """Read the numbers of these parts at each scrape."""
        self._queue = queue

        def read() -> Iterable[Metric]:
            yield gauge("headrace_viewers", "Open SSE responses", viewers())
            yield gauge("headrace_followed_logs", "Logs read for viewers", following())
            yield CounterMetricFamily("headrace_snapshots_sent", "Snapshots sent to viewers", value=snapshots())
            yield self._read.told(
                "headrace_read_seconds",
                "From a wake-up to the bytes for the viewers: what an API process adds to a token",
            )
            yield from self._waiting

        self.registry.register(Read(read))

    def created(self, outcome: str) -> None:
        """A create led to a stream: ``created`` or ``exists``."""
        self._created.labels(outcome).inc()

    def cancelled(self, full_name: str) -> None:
        """A stream was cancelled here. In: its model, ``provider/name``."""
        provider, _, model = full_name.partition("/")
        self._ended.labels("cancelled", "", provider, self._models.told(model)).inc()

    def refused(self, code: str) -> None:
        """A request was refused. In: the error's code."""
        self._refused.labels(code).inc()

    async def render(self) -> bytes:
        """All metrics as Prometheus reads them, with the present numbers of the queue."""
        self._waiting = await self._ask_queue()
        return rendered(self.registry)

    async def _ask_queue(self) -> list[Metric]:
        if self._queue is None:
            return []
        try:
            async with asyncio.timeout(QUEUE_TIMEOUT_S):
                jobs, unfinished, workers = await self._queue.counts()
        except (*AWAY, RedisError):
            return []
        return [
            gauge("headrace_queue_jobs", "Jobs that wait for a worker", jobs),
            gauge("headrace_unfinished_streams", "Streams that are queued or running", unfinished),
            gauge("headrace_workers", "Workers that gave a sign of life within 5 s", workers),
        ]
