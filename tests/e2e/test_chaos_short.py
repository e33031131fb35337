"""The short form of `make chaos`: half a minute of faults, from one seed (see :mod:`tests.chaos`)."""

from pathlib import Path

from rich.console import Console

from tests.chaos.faults import LOSS, WRITER
from tests.chaos.report import print_table, write_evidence
from tests.chaos.run import FAULTS, run_chaos

SEED = "3"
"""One of those that begin with losses: then there is time for both dangers, however slow the machine."""
SECONDS = 27


async def test_nothing_is_lost_doubled_or_reordered_whatever_dies(tmp_path: Path) -> None:
    result = await run_chaos(tmp_path, SEED, SECONDS, at_once=10)
    print_table(result, Console(width=116))
    # Of time (`result.slow`) this machine says nothing: other tests run beside this one.
    wrong = result.wrong or result.broken
    evidence = write_evidence(result, tmp_path) if wrong else None
    told = [f"{stream.story.name}: {'; '.join(stream.wrong)}" for stream in result.wrong]
    assert not wrong, f"{told + result.broken}; the evidence: {evidence}"
    # A run in which nothing happened proves nothing.
    dangers = {fault.danger for fault in FAULTS if result.faults[fault.name]}
    assert {WRITER, LOSS} <= dangers, "a process and the end of the log were lost"
    assert len(result.streams) >= 20
    assert sum(result.faults.values()) >= 15
    assert sum(1 for stream in result.streams if stream.status == "done") >= 10
