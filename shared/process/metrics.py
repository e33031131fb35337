"""A process's metrics for Prometheus, and the small server that shows them.

Theory of operation. Each process has its own registry; processes share nothing, and Prometheus adds up their
numbers. Several API processes may share one port, and a request reaches any of them. So each process, an API or a
worker, can also serve its metrics on a port of its own (``HEADRACE_METRICS_PORT``; if another process of this
machine has taken that port, the next free one).

Nothing is counted for each token: the units are a flush, a read, a request, an attempt, a stream. Numbers that the
parts keep anyway (viewers, dropped log lines) are read from them at each scrape.

Labels are bounded: providers by the settings, codes by the table of errors, models by :class:`Names`.
"""

import asyncio
import contextlib
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate
from typing import Final

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

FAST_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Buckets for the times of machines (s)."""
SLOW_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Buckets for the times that a person waits (s)."""

MOST_NAMES: Final = 100
OTHER: Final = "other"

PORTS: Final = 64
"""The number of ports that are tried, from the named one on: more than the processes of one kind on a machine."""
MOST_CONNECTIONS: Final = 16
REQUEST_S: Final = 5.0
"""A scraper sends its request at once, and reads the response at once."""
MOST_HEAD: Final = 8 * 1024

log = structlog.get_logger("metrics")


class Names:
    """Bounds a label: the first :data:`MOST_NAMES` names are labels, all others become :data:`OTHER`."""

    def __init__(self, most: int = MOST_NAMES) -> None:
        self._most = most
        self._known: set[str] = set()

    def told(self, name: str) -> str:
        """The label for this name."""
        if name not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(name)
        return name


class Timings:
    """A histogram for events that happen a hundred times a second. An observation takes 0.3 µs. With
    prometheus-client's own histogram it takes 1.2 to 2.5 µs; that and its counter would be 2 % of a flush with one
    token."""

    def __init__(self, bounds: Sequence[float] = FAST_S) -> None:
        """``bounds``: the upper ends of the buckets (s)."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Add one observation."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum_s += seconds

    def told(self, name: str, about: str) -> Metric:
        """The histogram as Prometheus reads it."""
        ends = [floatToGoString(end) for end in (*self._bounds, float("inf"))]  # type: ignore[no-untyped-call]
        buckets = list(zip(ends, accumulate(self._counts), strict=True))
        return HistogramMetricFamily(name, about, buckets, self._sum_s)


class Read(Collector):
    """Metrics that are read from the parts at each scrape."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield from self._read()


def gauge(name: str, about: str, value: float) -> Metric:
    """A number that goes up and down."""
    return GaugeMetricFamily(name, about, value)


def counter(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    """Numbers that only grow, one for each value of the label."""
    family = CounterMetricFamily(name, about, labels=[label])
    for text, value in values.items():
        family.add_metric([text], value)
    return family


def common(
    registry: CollectorRegistry, dropped: Callable[[], int], errors: Callable[[], Mapping[str, int]]
) -> None:
    """Add the metrics that every process has: ``dropped`` log lines, and ``errors`` of Redis by their names."""

    def read() -> Iterable[Metric]:
        yield CounterMetricFamily(
            "headrace_log_lines_dropped", "Log lines that could not be written", value=dropped()
        )
        yield counter("headrace_redis_errors", "Calls to Redis that failed, by error", "error", errors())

    registry.register(Read(read))


@asynccontextmanager
async def served(host: str, port: int, render: Callable[[], Awaitable[bytes]]) -> AsyncIterator[None]:
    """Serve the output of ``render`` at ``/metrics`` while the block lasts; port 0: don't serve.

    A process that finds no free port logs that, and runs without its metrics port.
    """
    open_connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_connections
        open_connections += 1
        try:
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(REQUEST_S):
                    if open_connections <= MOST_CONNECTIONS:
                        writer.write(await _response(await reader.readuntil(b"\r\n\r\n"), render))
                        await writer.drain()
        finally:
            open_connections -= 1
            writer.close()

    server = await _listen(host, port, handle) if port else None
    try:
        yield
    finally:
        if server is not None:
            server.close()


async def _response(head: bytes, render: Callable[[], Awaitable[bytes]]) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    status, kind, body = "200 OK", CONTENT_TYPE_LATEST, b""
    if method not in (b"GET", b"HEAD"):
        status, kind = "405 Method Not Allowed", "text/plain"
    elif path != b"/metrics":
        status, kind, body = "404 Not Found", "text/plain", b"The metrics are at /metrics.\n"
    else:
        body = await render()
    lines = (
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode() + (b"" if method == b"HEAD" else body)


async def _listen(
    host: str, port: int, handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> asyncio.Server | None:
    error: OSError | None = None
    for one in range(port, min(port + PORTS, 65536)):
        try:
            server = await asyncio.start_server(
                handle, host, one, limit=MOST_HEAD, reuse_address=True, reuse_port=False
            )
        except OSError as refused:
            error = refused
        else:
            log.info("metrics_served", url=f"http://{host}:{one}/metrics")
            return server
    log.error("metrics_not_served", host=host, port=port, error=str(error))
    return None


def rendered(registry: CollectorRegistry) -> bytes:
    """The registry as Prometheus reads it."""
    return generate_latest(registry)
