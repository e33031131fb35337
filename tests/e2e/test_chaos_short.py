"""The short form of `make chaos`, for each promise: faults from one seed for a moment (:mod:`tests.chaos`)."""

from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos.network_faults import VIEWERS_CUT
from tests.chaos.power_faults import PLUG
from tests.chaos.process_faults import API_KILLED, KILLED
from tests.chaos.redis_faults import END_LOST
from tests.chaos.report import Result, print_table, write_evidence
from tests.chaos.run import STRONG, WEAK, run_chaos

SEED = "29"
SECONDS = 18


@pytest.mark.parametrize(
    ("promise", "seconds"), [(STRONG, SECONDS), (WEAK, SECONDS / 2)], ids=["always", "everysec"]
)
async def test_streams_lose_double_and_reorder_nothing_whatever_dies(
    tmp_path: Path, promise: str, seconds: float
) -> None:
    result = await run_chaos(tmp_path, SEED, seconds, at_once=10, promise=promise)
    print_table(result, Console(width=116))
    assert_nothing_is_wrong(result, tmp_path)
    # A run in which nothing happened proves nothing. On a machine of its own it has three times as many.
    wanted = [PLUG, KILLED, API_KILLED, VIEWERS_CUT, *([END_LOST] if promise == WEAK else [])]
    assert [fault.name for fault in wanted if not result.faults[fault.name]] == []
    assert len(result.streams) >= seconds / 2
    assert sum(result.faults.values()) >= seconds / 3
    assert sum(1 for stream in result.streams if stream.status == "done") >= seconds / 4


def assert_nothing_is_wrong(result: Result, directory: Path) -> None:
    # Of time (`result.slow`) this machine says nothing: other tests run beside this one.
    wrong = result.wrong or result.broken
    evidence = write_evidence(result, directory) if wrong else None
    told = [f"{stream.story.name}: {'; '.join(stream.wrong)}" for stream in result.wrong]
    assert not wrong, f"{told + result.broken}; the evidence: {evidence}"
