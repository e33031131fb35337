"""The short form of `make chaos`: half a minute of faults, from one seed (see :mod:`tests.chaos`)."""

from pathlib import Path

from rich.console import Console

from tests.chaos.network_faults import VIEWERS_CUT
from tests.chaos.process_faults import API_KILLED, KILLED
from tests.chaos.redis_faults import END_LOST
from tests.chaos.report import print_table, write_evidence
from tests.chaos.run import run_chaos

SEED = "29"
"""One of those that begin with losses, and with a short phase of them (6 s; see :mod:`tests.chaos.schedule`): then
there is time for both dangers, however slow the machine."""
SECONDS = 24


async def test_nothing_is_lost_doubled_or_reordered_whatever_dies(tmp_path: Path) -> None:
    result = await run_chaos(tmp_path, SEED, SECONDS, at_once=10)
    print_table(result, Console(width=116))
    # Of time (`result.slow`) this machine says nothing: other tests run beside this one.
    wrong = result.wrong or result.broken
    evidence = write_evidence(result, tmp_path) if wrong else None
    told = [f"{stream.story.name}: {'; '.join(stream.wrong)}" for stream in result.wrong]
    assert not wrong, f"{told + result.broken}; the evidence: {evidence}"
    # A run in which nothing happened proves nothing.
    missing = [fault.name for fault in (KILLED, API_KILLED, END_LOST, VIEWERS_CUT) if not result.faults[fault.name]]
    assert not missing, f"never struck: {missing}"
    lost = [fault.detail for fault in result.struck if fault.name == END_LOST.name]
    assert any(not detail.startswith("0 bytes") for detail in lost), lost
    assert len(result.streams) >= 20
    assert sum(result.faults.values()) >= 15
    assert sum(1 for stream in result.streams if stream.status == "done") >= 10
