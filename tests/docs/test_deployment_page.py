"""docs/deployment.md has every metric with its labels."""

import re

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import ApiMetrics
from shared.process.metrics import Read, common, gauge, rendered
from shared.store.claims import Claim
from tests.support.documents import document
from worker.metrics import WorkerMetrics

PAGE = document("docs/deployment.md")


def names(text: str) -> set[str]:
    """The metrics of such a text, by the names under which they are asked for."""
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(text)
        if not family.name.endswith("_created")
    }


async def of_an_api() -> set[str]:
    class Counting:
        async def counts(self) -> tuple[int, int, int]:
            return 1, 2, 3

    metrics = ApiMetrics()
    metrics.watch(Counting(), lambda: 1, lambda: 2, lambda: 3)  # type: ignore[arg-type]
    common(metrics.registry, lambda: 4, dict)
    return names((await metrics.render()).decode())


def of_a_worker() -> set[str]:
    registry = CollectorRegistry()
    WorkerMetrics(registry)
    registry.register(Read(lambda: [gauge("headrace_running_streams", "x", 1)]))
    common(registry, lambda: 4, dict)
    return names(rendered(registry).decode())


async def test_the_docs_name_every_metric_and_no_other_with_whose_it_is() -> None:
    api, worker = await of_an_api(), of_a_worker()
    told = dict(re.findall(r"^\| `(headrace_\w+)` \| (API|worker|both) \|", PAGE, re.MULTILINE))
    found = {name: "both" if name in api & worker else "API" if name in api else "worker" for name in api | worker}
    assert told == found


async def test_the_docs_name_the_labels() -> None:
    metrics = ApiMetrics()
    metrics.created("exists")
    metrics.cancelled("local/smollm2")
    metrics.refused("not_found")
    registry = CollectorRegistry()
    worker = WorkerMetrics(registry)
    claim = Claim("run", "started", attempt=1, queued_ms=50)
    worker.claimed(claim)
    worker.began_to_answer(claim, "local", 0.5)
    worker.used("local", "smollm2", 3, None)
    worker.ended("failed", "worker_lost", "local", "smollm2")
    worker.asked("local")
    worker.refused("local", "provider_unreachable")
    worker.asks_again("local", "provider_unreachable")
    common(registry, lambda: 0, lambda: {"TimeoutError": 2})
    text = (await metrics.render()).decode() + rendered(registry).decode()
    rows = dict(re.findall(r"^\| `(headrace_\w+?)(?:_total)?` \| \w+ \| (.*?) \|", PAGE, re.MULTILINE))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sorted(set(sample.labels) - {"le"})
            if not family.name.endswith("_created") and labels:
                assert sorted(re.findall(r"\w+", rows[family.name])) == labels, family.name
