"""``python -m tests.hostile``: exit code 0, or 1 if anything was violated."""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.hostile.report import print_table, print_violations
from tests.hostile.run import Result, chosen, run_hostile

WIDTH = 160
"""Of a table that goes into a file."""


def main() -> int:
    """Run it. Out: the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile", description="Attacks, and who must not notice."
    )
    parser.add_argument("--apis", type=int, default=1, help="API processes")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="attacks whose names hold this; may be repeated"
    )
    parser.add_argument("--short", action="store_true", help="the attacks that take a moment")
    parser.add_argument("--list", action="store_true", help="show the names, and run nothing")
    asked = parser.parse_args()
    attacks = chosen(asked.only, short=asked.short)
    if not attacks:
        parser.error(f"no attack is called {' or '.join(asked.only)}")
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    if asked.list:
        for attack in attacks:
            console.print(attack.name, markup=False, highlight=False)
        return 0
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="headrace-hostile-"))

    def told(result: Result) -> None:
        how = "; ".join(result.violations) or "held"
        console.print(f"{result.attack.name}: {how}", markup=False, highlight=False, soft_wrap=True)

    results = asyncio.run(run_hostile(directory, attacks, apis=asked.apis, workers=asked.workers, told=told))
    print_table(results, console)
    print_violations(results, console)
    console.print(f"It took {(time.monotonic() - began) / 60:.1f} minutes.", highlight=False)
    if not any(result.violations for result in results):
        shutil.rmtree(directory, ignore_errors=True)
        return 0
    console.print(f"Logs of all processes: {directory}", highlight=False)
    return 1


if __name__ == "__main__":
    sys.exit(main())
