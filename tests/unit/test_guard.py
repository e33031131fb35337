"""The guard over the hot paths says what has become too expensive."""

import pytest

from bench.guard import ALL, FOR_METRICS, compare, worker_side
from worker.metrics import WorkerMetrics

KEPT = {ALL: 800.0, FOR_METRICS: 4.0, "worker: commands a token": 1.1}


def test_a_fifth_more_is_too_much() -> None:
    assert compare({**KEPT, "worker: commands a token": 1.3}, KEPT) == []
    [told] = compare({**KEPT, "worker: commands a token": 1.4}, KEPT)
    assert told.startswith("worker: commands a token: 1.40")


async def test_metrics_take_their_share_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = await worker_side()
    assert 0 < counted[FOR_METRICS] < counted[ALL] * 0.02
    assert compare(counted, {}) == []
    flushed = WorkerMetrics.flushed

    def eight_times(self: WorkerMetrics, events: int, seconds: float) -> None:
        for _ in range(8):
            flushed(self, events, seconds)

    monkeypatch.setattr(WorkerMetrics, "flushed", eight_times)
    [told] = compare(await worker_side(), {})
    assert "of these, for metrics" in told
