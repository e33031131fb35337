"""``python -m tests.chaos --minutes 5 --seed 7``: exit code 0, or 1 if anything went wrong."""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos.report import print_table, write_evidence
from tests.chaos.run import run_chaos


def main() -> int:
    """Run it. Out: the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Headrace under faults.")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults strike")
    parser.add_argument("--seed", default="", help="the seed of a run to be repeated")
    parser.add_argument("--streams", type=int, default=20, help="streams at once")
    parser.add_argument("--on-failure", default="restart,continue", help="what streams ask for, comma-separated")
    parser.add_argument("--keep", action="store_true", help="keep logs and evidence of a run without fault too")
    asked = parser.parse_args()
    seed = asked.seed or str(secrets.randbelow(10**9))
    console = Console()
    again = f"make chaos MINUTES={asked.minutes:g} SEED={seed}"
    console.print(f"seed {seed}: the same faults and streams again with: {again}")
    directory = Path(tempfile.mkdtemp(prefix="headrace-chaos-"))
    result = asyncio.run(
        run_chaos(
            directory,
            seed,
            asked.minutes * 60,
            at_once=asked.streams,
            on_failure=tuple(asked.on_failure.split(",")),
        )
    )
    print_table(result, console)
    if not result.violations and not asked.keep:
        shutil.rmtree(directory, ignore_errors=True)
        return 0
    for stream in result.wrong:
        console.print(f"{stream.story.name} {stream.id}: {'; '.join(stream.wrong)}", markup=False, highlight=False)
    for text in result.broken + result.slow:
        console.print(text, markup=False)
    evidence = write_evidence(result, directory, everything=asked.keep)
    console.print(f"The evidence: {evidence}; logs of all processes beside it.")
    return int(result.violations > 0)


if __name__ == "__main__":
    sys.exit(main())
