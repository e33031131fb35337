"""Who may judge others by their leases."""

import asyncio

import pytest

from worker.background import leases as module
from worker.background.leases import Leases


class Renewing:
    """Streams whose leases are all renewed, or whose server is away."""

    def __init__(self) -> None:
        self.away = False

    async def renew(self, worker: str, held: list, lease_ms: int) -> list[str]:
        if self.away:
            raise ConnectionError
        return ["held"] * len(held)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]

    class Loop:
        @staticmethod
        def time() -> float:
            return now[0]

    monkeypatch.setattr(module.asyncio, "get_running_loop", Loop)
    return now


def test_a_worker_is_steady_from_its_first_renewal_on(clock: list[float]) -> None:
    leases = Leases(Renewing(), "w", 3000, list)  # type: ignore[arg-type]
    assert leases.steady_s() == 0
    for _ in range(4):
        asyncio.run(leases.tick())
        clock[0] += 1
    assert leases.steady_s() == 4


def test_a_server_that_was_away_begins_the_count_anew(clock: list[float]) -> None:
    streams = Renewing()
    leases = Leases(streams, "w", 3000, list)  # type: ignore[arg-type]
    for away in (False, False, True, False):
        streams.away = away
        asyncio.run(leases.tick())
        clock[0] += 1
    assert leases.steady_s() == 1


def test_a_process_that_stood_still_is_not_steady_even_before_its_late_tick(clock: list[float]) -> None:
    leases = Leases(Renewing(), "w", 3000, list)  # type: ignore[arg-type]
    asyncio.run(leases.tick())
    clock[0] += 10
    assert leases.steady_s() == 0, "the sweep may run before the tick"
    asyncio.run(leases.tick())
    clock[0] += 1
    assert leases.steady_s() == 1
