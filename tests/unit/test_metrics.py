"""Metrics: each stands in the docs, labels are bounded, and the port of a process serves nothing else."""

import asyncio
import re

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import ApiMetrics
from cli.up.sockets import free_port
from shared.process.metrics import MOST_NAMES, OTHER, Names, Read, Timings, common, gauge, rendered, served
from shared.store.claims import Claim
from tests.support.processes import ROOT
from worker.metrics import WorkerMetrics

PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")


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


def test_models_are_bounded() -> None:
    bounded = Names()
    assert [bounded.told(f"m{n}") for n in range(MOST_NAMES)] == [f"m{n}" for n in range(MOST_NAMES)]
    assert bounded.told("one more") == OTHER
    assert bounded.told("m3") == "m3"


async def asked(port: int, head: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode())
    try:
        async with asyncio.timeout(10):
            return (await reader.read()).decode()
    finally:
        writer.close()


async def render() -> bytes:
    return b"x 1\n"


async def test_a_second_process_takes_the_next_port(capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    async with served("127.0.0.1", port, render), served("127.0.0.1", port, render):
        urls = re.findall(r"http://127.0.0.1:(\d+)/metrics", capfd.readouterr().out)
        assert len(set(urls)) == 2
        for one in urls:
            assert (await asked(int(one), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).endswith("\r\n\r\nx 1\n")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /metrics?x=1 HTTP/1.1\r\n\r\n", "200"),
        ("HEAD /metrics HTTP/1.1\r\n\r\n", "200"),
        ("GET /v1/streams HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", "405"),
        ("GET /" + "x" * 100_000, ""),
        ("nonsense\r\n\r\n", "405"),
    ],
)
async def test_a_request_that_is_no_scrape_is_refused_or_cut(
    head: str, status: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with served("127.0.0.1", free_port(), render):
        (port,) = re.findall(r"http://127.0.0.1:(\d+)/metrics", capfd.readouterr().out)
        try:
            answer = await asked(int(port), head)
        except ConnectionError:
            answer = ""
        assert answer.partition(" ")[2][:3] == status


async def test_port_0_is_none(capfd: pytest.CaptureFixture[str]) -> None:
    async with served("127.0.0.1", 0, render):
        assert "metrics_served" not in capfd.readouterr().out


def test_a_histogram_counts_as_prometheus_reads_it() -> None:
    timings = Timings((0.001, 1.0))
    for seconds in (0.0005, 0.001, 0.5, 7.0):
        timings.observe(seconds)
    registry = CollectorRegistry()
    registry.register(Read(lambda: [timings.told("x_seconds", "y")]))
    (family,) = text_string_to_metric_families(rendered(registry).decode())
    assert family.type == "histogram"
    found = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert found == {
        ("x_seconds_bucket", "0.001"): 2,
        ("x_seconds_bucket", "1.0"): 3,
        ("x_seconds_bucket", "+Inf"): 4,
        ("x_seconds_count", None): 4,
        ("x_seconds_sum", None): pytest.approx(7.5015),
    }
