"""``python -m tests.chaos --minutes 5 --seed 7``: exit code 0, or 1 if anything went wrong."""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos.report import Result, print_table, write_evidence
from tests.chaos.run import PROMISES, STRONG, run_chaos
from tests.chaos.stores import STORES


def main() -> int:
    """Run it. Out: the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Headrace under faults.")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults strike, in all")
    parser.add_argument("--seed", default="", help="the seed of a run to be repeated")
    parser.add_argument(
        "--promise", choices=PROMISES, default=STRONG, help="what the server promises: appendfsync always, or less"
    )
    parser.add_argument(
        "--stores",
        default="",
        help=f"of {', '.join(STORES)}, comma-separated, one after the other (strong: server; weak: all)",
    )
    parser.add_argument("--streams", type=int, default=20, help="streams at once")
    parser.add_argument("--on-failure", default="restart,continue", help="what streams ask for, comma-separated")
    parser.add_argument("--keep", action="store_true", help="keep logs and evidence of a run without fault too")
    asked = parser.parse_args()
    stores = asked.stores.split(",") if asked.stores else STORES[:1] if asked.promise == STRONG else STORES
    if unknown := set(stores) - set(STORES):
        parser.error(f"no such store: {', '.join(sorted(unknown))}")
    seed = asked.seed or str(secrets.randbelow(10**9))
    console = Console()
    more = "" if asked.promise == STRONG else f" PROMISE={asked.promise}"
    more += f' ARGS="--stores {asked.stores}"' if asked.stores else ""
    console.print(f"seed {seed}: the same faults and streams again with: ", end="")
    console.print(f"make chaos MINUTES={asked.minutes:g} SEED={seed}{more}", markup=False, highlight=False)
    failed = 0
    for store in stores:
        directory = Path(tempfile.mkdtemp(prefix=f"headrace-chaos-{store}-"))
        result = asyncio.run(
            run_chaos(
                directory,
                seed,
                asked.minutes * 60 / len(stores),
                at_once=asked.streams,
                on_failure=tuple(asked.on_failure.split(",")),
                promise=asked.promise,
                store=store,
            )
        )
        failed += _told(result, directory, console, keep=asked.keep)
    return int(failed > 0)


def _told(result: Result, directory: Path, console: Console, *, keep: bool) -> bool:
    """Show what came of it. Out: whether anything went wrong."""
    print_table(result, console)
    if not result.violations and not keep:
        shutil.rmtree(directory, ignore_errors=True)
        return False
    for stream in result.wrong:
        console.print(f"{stream.story.name} {stream.id}: {'; '.join(stream.wrong)}", markup=False, highlight=False)
    for text in result.broken + result.slow:
        console.print(text, markup=False)
    evidence = write_evidence(result, directory, everything=keep)
    console.print(f"The evidence: {evidence}; logs of all processes beside it.")
    return result.violations > 0


if __name__ == "__main__":
    sys.exit(main())
