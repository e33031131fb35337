"""What Prometheus sees of an API process. Gauges read the parts when they are scraped: nothing is counted on
the hot path."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.services import Viewing
from api.viewing.hub import Hub


class ApiCollector(Collector):
    """Reads this process's parts."""

    def __init__(self, hub: Hub, viewing: Viewing) -> None:
        self._hub = hub
        self._viewing = viewing

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("headrace_viewers", "Open SSE responses", self._viewing.viewers)
        yield GaugeMetricFamily("headrace_followed_logs", "Logs read for viewers", self._hub.following)


def make_registry(hub: Hub, viewing: Viewing) -> CollectorRegistry:
    """A registry of this process alone (prometheus-client's own one is global)."""
    registry = CollectorRegistry()
    registry.register(ApiCollector(hub, viewing))
    return registry
