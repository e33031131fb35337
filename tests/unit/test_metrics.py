"""Metrics: labels are bounded, and the port of a process serves nothing else."""

import asyncio
import re

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from cli.up.sockets import free_port
from shared.process.metrics import MOST_NAMES, OTHER, Names, Read, Timings, rendered, served


def test_models_are_bounded() -> None:
    bounded = Names()
    assert [bounded.told(f"m{n}") for n in range(MOST_NAMES)] == [f"m{n}" for n in range(MOST_NAMES)]
    assert bounded.told("one more") == OTHER
    assert bounded.told("m3") == "m3"


async def asked(port: int, head: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode())
    try:
        async with asyncio.timeout(60):
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


async def test_port_0_serves_no_metrics(capfd: pytest.CaptureFixture[str]) -> None:
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
