"""The benchmark's harness, for seconds: two contenders, five streams."""

import io
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from bench.fleet import Headrace, Shared
from bench.http_request import AskedAnswer
from bench.load import BenchProvider
from bench.session import Session, new_progress

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the benchmark reads /proc"),
    pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="there is no C compiler"),
]


def test_every_token_is_seen_once_and_every_process_is_paid_for(tmp_path: Path) -> None:
    answer = AskedAnswer(tokens=40, rate=50)
    console, rows = Console(file=io.StringIO()), io.StringIO()
    with BenchProvider(tmp_path) as provider, new_progress(console, 1) as progress:
        session = Session(tmp_path, provider, rows, console, progress, spare_s=0, most_s=60)
        with session.running([Shared, Headrace]) as contenders:
            found = {
                contender.key: session.measure(
                    "smoke", 0, contender.title, partial(session.bench.streams, contender, 5, answer, 300)
                )
                for contender in contenders
            }
    assert set(found) == {"shared", "headrace"}, console.file
    for row in found.values():
        assert (row["tokens"], row["lost"], row["wrong"], row["refused"]) == (200, 0, 0, {})
        # A busy machine gathers tokens: how many events there are is not promised, one a stream is.
        assert sum(count for _, count in row["latency"]) >= 5
        assert 0 < row["p50_ms"] <= row["p99_ms"]
    assert set(found["headrace"]["cpu_us"]) == {"cli", "api", "worker", "redis"}
    used = found["headrace"]["cpu_us"]
    assert all(used[process] > 0 for process in ("api", "worker", "redis"))  # the CLI only waits
    assert found["headrace"]["round_trips"] > 10
    assert len(rows.getvalue().splitlines()) == 2


def test_the_memory_of_streams_under_way_is_told_of_worker_and_api(tmp_path: Path) -> None:
    answer = AskedAnswer(tokens=20, rate=50, hold_ms=30_000)
    console, rows = Console(file=io.StringIO()), io.StringIO()
    with BenchProvider(tmp_path) as provider, new_progress(console, 1) as progress:
        session = Session(tmp_path, provider, rows, console, progress, spare_s=0, most_s=60)
        with session.running([Headrace]) as (contender,):
            take = partial(session.bench.held, contender, (5, 50), answer)
            row = session.measure("smoke", 0, contender.title, take)
    assert "error" not in row, row
    for role in ("worker", "api"):
        (few, small), (many, large) = row["memory_mb"][role]
        assert (few, many) == (5, 50)
        assert 0 < small <= large
        assert 0 <= row["bytes_per_stream"][role] < 1_000_000
