"""``make bench``: measure, show the table, write rows and plots. ``--write-docs`` puts them into the documents."""

import argparse
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from bench.load import Provider
from bench.report import machine, plots, read_rows, show, write_docs
from bench.sections import FULL, SECTIONS, SHORT, Size
from bench.session import Session, new_progress
from bench.spawn import ROOT, BenchError
from cli.errors import CannotStart

RESULTS = Path(__file__).parent / "results"
DOCUMENTS = (ROOT / "docs" / "performance.md", ROOT / "README.md")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="under 3 minutes: one round of everything")
    parser.add_argument("--only", nargs="+", choices=tuple(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for raw rows and plots")
    parser.add_argument("--write-docs", action="store_true", help="put the table of the results into the documents")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing: show and draw the rows that are there"
    )
    return parser.parse_args()


def run(size: Size, only: list[str], results: Path, console: Console) -> None:
    """Measure, and write the raw rows to ``rows.jsonl`` as they come."""
    chosen = [SECTIONS[name] for name in only]
    steps = sum(count(size) for _, count in chosen)
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
        Provider(Path(folder)) as provider,
        (results / "rows.jsonl").open("w", encoding="utf-8") as rows,
        new_progress(console, steps) as progress,
    ):
        session = Session(Path(folder), provider, rows, console, progress, size.spare_s, size.most_s)
        session.note({"section": "machine", "what": machine(), "day": time.strftime("%Y-%m-%d")})
        for section, _ in chosen:
            section(session, size)
    console.print(f"It took {(time.monotonic() - began) / 60:.1f} minutes.", highlight=False)


def main() -> None:
    """Run as the command line says."""
    asked = options()
    # Told to end, it ends what it started, as for Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What is not a terminal has no width of its own.
    console = Console(width=None if sys.stdout.isatty() else 140)
    if not sys.platform.startswith("linux"):
        sys.exit("The benchmark reads the kernel's accounting from /proc and needs Linux (a container will do).")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Thousands of sockets: a shell's usual 1,024 descriptors would be what is measured.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asked.results.mkdir(parents=True, exist_ok=True)
    console.print(machine(), style="dim", highlight=False)
    try:
        if not asked.report:
            run(SHORT if asked.short else FULL, asked.only or list(SECTIONS), asked.results, console)
        rows = read_rows(asked.results / "rows.jsonl")
    except (BenchError, CannotStart) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; everything that was started has ended.")
    show(rows, console)
    for name, text in plots(rows).items():
        (asked.results / name).write_text(text, "utf-8")
    console.print(f"Raw rows and plots: {asked.results}", highlight=False)
    if asked.write_docs:
        for document in write_docs(rows, [path for path in DOCUMENTS if path.exists()]):
            console.print(f"Written: {document}", highlight=False)


if __name__ == "__main__":
    main()
