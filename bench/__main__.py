"""``make bench``: measure, show the table, write rows and plots. ``--write-docs`` puts the table into its page."""

import argparse
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench import promise
from bench.load import BenchProvider
from bench.report import machine, markdown, plots, promise_markdown, read_rows, show, show_promise, write_table
from bench.sections import FULL, SECTIONS, SHORT, Size
from bench.session import Session, new_progress
from bench.spawn import ROOT, BenchError
from cli.errors import CannotStart

RESULTS = Path(__file__).parent / "results"
DOCUMENT = ROOT / "docs" / "performance.md"


def options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="under 3 minutes: one round of everything")
    parser.add_argument("--only", nargs="+", choices=tuple(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for raw rows and plots")
    parser.add_argument("--write-docs", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument(
        "--promise",
        action="store_true",
        help="measure appendfsync always beside everysec, and slower disks, and nothing else: under eight minutes",
    )
    parser.add_argument(
        "--report", action="store_true", help="measure nothing: show and draw the rows of the last run"
    )
    return parser.parse_args()


def run(steps: int, measure: Callable[[Session], None], size: Size, to: Path, console: Console) -> None:
    """Measure, and write each raw row to this file at once."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
        BenchProvider(Path(folder)) as provider,
        to.open("w", encoding="utf-8") as rows,
        new_progress(console, steps) as progress,
    ):
        session = Session(Path(folder), provider, rows, console, progress, size.spare_s, size.most_s)
        session.note({"section": "machine", "what": machine(), "day": time.strftime("%Y-%m-%d")})
        measure(session)
    console.print(f"It took {(time.monotonic() - began) / 60:.1f} minutes.", highlight=False)


def run_table(asked: argparse.Namespace, console: Console) -> None:
    """Run the sections, and make their table and plots."""
    size, to = SHORT if asked.short else FULL, asked.results / "rows.jsonl"
    chosen = [SECTIONS[name] for name in asked.only or SECTIONS]

    def measure(session: Session) -> None:
        for section, _ in chosen:
            section(session, size)

    if not asked.report:
        run(sum(count(size) for _, count in chosen), measure, size, to, console)
    rows = read_rows(to)
    show(rows, console)
    for name, text in plots(rows).items():
        (asked.results / name).write_text(text, "utf-8")
    console.print(f"Raw rows and plots: {asked.results}", highlight=False)
    if asked.write_docs:
        _write(markdown(rows), "table", console)


def run_promise(asked: argparse.Namespace, console: Console) -> None:
    """Measure both promises side by side."""
    size, to = SHORT if asked.short else FULL, asked.results / "promise.jsonl"
    count = 1 if asked.short else promise.ROUNDS
    bounded = replace(size, spare_s=min(size.spare_s, promise.SPARE_S), most_s=promise.MOST_S)
    if not asked.report:
        run(count, lambda session: promise.measure(session, count), bounded, to, console)
    rows = read_rows(to)
    show_promise(rows, console)
    console.print(f"Raw rows: {to}", highlight=False)
    if asked.write_docs:
        _write(promise_markdown(rows), "promise", console)


def _write(text: str, marker: str, console: Console) -> None:
    write_table(text, marker, DOCUMENT)
    console.print(f"Written: {DOCUMENT}", highlight=False)


def main() -> None:
    """Run what the command line asks for."""
    asked = options()
    # SIGTERM, like Ctrl-C, ends the child processes too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Output that is not a terminal has no width.
    console = Console(width=None if sys.stdout.isatty() else 140)
    if not sys.platform.startswith("linux"):
        sys.exit("The benchmark reads the kernel's accounting from /proc and needs Linux (a container will do).")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # There are thousands of sockets. A shell's usual 1,024 descriptors would limit the figures.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asked.results.mkdir(parents=True, exist_ok=True)
    console.print(machine(), style="dim", highlight=False)
    try:
        (run_promise if asked.promise else run_table)(asked, console)
    except (BenchError, CannotStart) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; everything that was started has ended.")


if __name__ == "__main__":
    main()
