"""One run of the benchmark: contenders that run side by side, rounds, raw rows, and discarded measurements.

Theory of operation. A figure is the median of rounds in which the contenders take turns, so that a slower machine
slows all of them. All contenders of a section run all the time, and only one of them has a load. A measurement
during which the hypervisor took more than STEAL of the machine's time is discarded and repeated, until the time for
repeating is used up. From then on it is kept and marked, and the table says so.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.fleet import Contender
from bench.load import BenchProvider
from bench.measure import Bench, Row
from bench.spawn import BenchError

STEAL = 0.02


class Session:
    """Takes measurements, and writes their rows."""

    def __init__(
        self,
        directory: Path,
        provider: BenchProvider,
        rows_to: IO[str],
        console: Console,
        progress: Progress,
        spare_s: float,
        most_s: float,
    ) -> None:
        """``spare_s``: the time for repeated measurements in all. ``most_s``: after this time each section has only
        one round."""
        self.bench = Bench(directory, provider)
        self.directory = directory
        self.console = console
        self.rows: list[Row] = []
        self._provider = provider
        self._rows_to = rows_to
        self._spare_s = spare_s
        self._late_at = time.monotonic() + most_s
        self._progress = progress
        self._skipped: set[str] = set()
        """Titles of contenders that can't run here: each is reported once."""
        self._starts = 0

    @contextmanager
    def running(self, kinds: Sequence[type[Contender]]) -> Iterator[list[Contender]]:
        """Start those of these contenders that can run on this machine, as long as the block lasts."""
        with ExitStack() as stack:
            found = []
            for kind in kinds:
                why = kind.why_not()
                if why:
                    self._skip(kind, why)
                    continue
                self._say(f"starting {kind.title}")
                self._starts += 1
                folder = self.directory / str(self._starts)
                found.append(stack.enter_context(kind(folder, self._provider.url)))
            yield found

    def _skip(self, kind: type[Contender], why: str) -> None:
        if kind.title not in self._skipped:
            self._skipped.add(kind.title)
            self.console.print(f"  skipped: {kind.title}: {why}", style="yellow", highlight=False)

    def measure(self, section: str, number: int, what: str, take: Callable[[], Row]) -> Row:
        """Take one measurement of a round. It is repeated while it was disturbed and there is time for that.

        A measurement that fails is written as a row with ``error``, and the run goes on.
        """
        while True:
            self._say(f"{section}, round {number + 1}: {what}")
            began = time.monotonic()
            try:
                row = take()
            except BenchError as error:
                self.console.print(f"  {section}: {what}: {error}", style="red", highlight=False)
                return self.note({"section": section, "round": number, "what": what, "error": str(error)[:500]})
            row = {"section": section, "round": number, "what": what, **row}
            took = time.monotonic() - began
            if row["steal"] > STEAL and self._spare_s >= took:
                self._spare_s -= took
                self.note(row | {"thrown_away": True})
                continue
            return self.note(row | ({"disturbed": True} if row["steal"] > STEAL else {}))

    def note(self, row: Row) -> Row:
        """Write a row: one measurement, or the result of several."""
        self.rows.append(row)
        self._rows_to.write(json.dumps(row) + "\n")
        self._rows_to.flush()
        return row

    def pause(self, seconds: float, what: str) -> None:
        """Wait, and show for what."""
        self._say(what)
        time.sleep(seconds)

    def rounds(self, count: int) -> Iterator[int]:
        """The rounds of a section, each a step of the progress. Only the first one if the time is used up."""
        for number in range(count):
            if number and time.monotonic() > self._late_at:
                self.note({"section": "left out", "rounds": count - number})
                return
            yield number
            self.step()

    def step(self) -> None:
        """Show that one more step is done: in the bar on a terminal, else by a line."""
        task = self._progress.tasks[0]
        self._progress.advance(task.id)
        if not self.console.is_terminal:
            self.console.print(
                f"  {task.completed:.0f} of {task.total:.0f} after {task.elapsed or 0:.0f} s", highlight=False
            )

    def _say(self, what: str) -> None:
        self._progress.update(self._progress.task_ids[0], description=what[:70])


def new_progress(console: Console, steps: int) -> Progress:
    """A progress bar for the whole run: what is measured now, the steps, the time."""
    columns = (
        SpinnerColumn(),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    progress = Progress(*columns, console=console)
    progress.add_task("starting", total=steps)
    return progress
