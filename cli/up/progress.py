"""The progress of `headrace up`: a live list on a terminal, plain lines elsewhere."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

REFRESH_S = 0.1


class LastingConsole(Console):
    """A console whose program goes on when nobody reads the output any more (``headrace up | head``)."""

    def on_broken_pipe(self) -> None:
        """Drop the output; rich's own method would end the program."""
        with contextlib.suppress(SystemExit):
            super().on_broken_pipe()


@dataclass(slots=True)
class _Row:
    label: str
    began: float | None = None
    took_s: float | None = None


class Progress:
    """Shows what the children do, by name. An async context manager; the list is live inside it."""

    def __init__(self, console: Console, labels: dict[str, str]) -> None:
        """``labels``: a description for each child's name, in the order of the list."""
        self._console = console
        self._rows = {name: _Row(label) for name, label in labels.items()}
        self._spinner = Spinner("dots", style="cyan")
        # A task redraws the live list, and not rich's thread, because children are forked meanwhile.
        self._live = Live(self._table(), console=console, auto_refresh=False) if console.is_terminal else None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._live:
            self._live.start()
            self._task = asyncio.create_task(self._redraw())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> None:
        """Leave the list on the screen as it is. Later output goes below it. Safe to call again."""
        if self._task:
            self._task.cancel()
            self._task = None
        if self._live and self._live.is_started:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def starting(self, name: str) -> None:
        self._rows[name].began = time.monotonic()
        if not self._live:
            self.say(f"starting {name} ({self._rows[name].label})")

    def ready(self, name: str, seconds: float) -> None:
        self._rows[name].took_s = seconds
        if not self._live:
            self.say(f"{name} is ready after {seconds:.1f} s")

    def died(self, name: str, how: str, log_lines: str, again_in_s: float) -> None:
        self.say(f"{name} {how}; starting it again in {again_in_s:.1f} s. Its last log lines:", style="yellow")
        self.say(log_lines or "(none)", style="dim")

    def waits(self, name: str, for_what: str, again_in_s: float) -> None:
        self.say(f"{name} ended: {for_what}. It is started again in {again_in_s:.1f} s.", style="yellow")

    def say(self, text: str, style: str = "") -> None:
        """Print a text as it is. Long lines are not broken, so that they can be copied. If printing fails (the
        output is a file on a full disk), the text is dropped."""
        with contextlib.suppress(OSError):
            self._console.print(Text(text, style=style), soft_wrap=True, highlight=False)

    async def _redraw(self) -> None:
        while self._live:
            self._live.update(self._table(), refresh=True)
            await asyncio.sleep(REFRESH_S)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, row in self._rows.items():
            mark: Spinner | Text = self._spinner
            seconds = ""
            if row.took_s is not None:
                mark, seconds = Text("✓", style="green"), f"{row.took_s:.1f} s"
            elif row.began is None:
                mark = Text("·", style="dim")
            else:
                seconds = f"{time.monotonic() - row.began:.0f} s"
            table.add_row(mark, Text(name, style="bold"), Text(row.label, style="dim"), seconds)
        return table
