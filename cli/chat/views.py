"""How an answer looks on a terminal: finished blocks as Markdown, and a live tail below them.

Theory of operation. Only the end of a growing text can still change its look. So finished blocks (see
:mod:`cli.chat.blocks`) are printed once, as Markdown, and scroll away like any output. The rest is a live region of
plain text. It is never higher than the screen, because a terminal can't redraw lines that have scrolled away.
Changes are collected and painted at most every ``REFRESH_S``: tokens come faster than eyes see. Nothing is printed
twice, and printed text is never taken back: when the text starts over, a line says so.
"""

import asyncio
import contextlib
import time
from typing import Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment, Segments
from rich.text import Text

from cli.chat.answer_state import AnswerState, Change, summary
from cli.chat.blocks import finished_length, harmless

REFRESH_S: Final = 0.08
BELOW: Final = 3
"""Lines of the screen that the live tail leaves free: for its status, the blank line above, and the cursor."""


class View(Protocol):
    """Shows one answer: its changes, what is tried again, a pause while a question is asked, and its end."""

    def start(self) -> None: ...
    def show(self, change: Change) -> None: ...
    def waiting(self, why: str) -> None: ...
    def pause(self) -> None: ...
    def end(self, answer: AnswerState | None) -> None:
        """Show the end; None: no end was seen. Safe to call again."""


class TerminalView:
    """The view for a terminal, for one answer. Made inside a running event loop."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._task: asyncio.Task[None] | None = None
        self._kind = "text"
        self._tail = ""
        self._status = "waiting for the first word"
        self._dirty = False
        self._printed = False
        self._began = time.monotonic()
        self._ended = False

    def start(self) -> None:
        """Show the live region, at first and after a :meth:`pause`."""
        if self._task is None and not self._ended:
            self._live = Live(
                self,
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start(refresh=True)
            self._task = asyncio.create_task(self._redraw())

    def show(self, change: Change) -> None:
        self._dirty = True
        self._status = ""
        match change.kind:
            case "text" | "reasoning":
                if change.kind != self._kind:
                    self._print_tail()
                    self._kind = change.kind
                self._tail += harmless(change.text)
            case "anew":
                self._tail = ""
                void = "The text above is void." if self._printed else "The text so far is dropped."
                self._print(Text(f"── {change.text} {void} ──", style="yellow"))
            case "note":
                self._status = change.text

    def waiting(self, why: str) -> None:
        self._dirty, self._status = True, harmless(why)

    def pause(self) -> None:
        """Remove the live region. Changes are kept until :meth:`start`."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._live is not None:
            self._live.stop()
            self._live = None

    def end(self, answer: AnswerState | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._print_tail()
        self.pause()
        if answer is None or not answer.ending:
            return
        for call in answer.transcript.tool_calls:
            self._print(Text(harmless(f"→ {call['name']}({call['arguments']})"), style="cyan"))
        style = {"done": "dim", "failed": "red"}.get(answer.ending, "yellow")
        self._print(Text(harmless(summary(answer)), style=style))

    def _print_tail(self) -> None:
        """Print all of the tail."""
        tail, self._tail = self._tail, ""
        self._print_block(tail)

    def _print_block(self, text: str) -> None:
        if text.strip():
            # Links are shown with their address, because a model's text for a link may be wrong.
            reasoning = self._kind == "reasoning"
            what = Text(text, style="dim italic") if reasoning else Markdown(text, hyperlinks=False)
            lines = self._console.render_lines(what, pad=False, new_lines=True)
            while lines and _is_blank(lines[0]):
                del lines[0]
            while lines and _is_blank(lines[-1]):
                del lines[-1]
            self._print(Segments([segment for line in lines for segment in line]))

    def _print(self, what: RenderableType) -> None:
        self._console.print(Group(*self._gap(), what))
        self._printed = True

    def _gap(self) -> list[RenderableType]:
        return [Text("")] if self._printed else []

    async def _redraw(self) -> None:
        while self._live is not None:
            self._paint()
            await asyncio.sleep(REFRESH_S)

    def _paint(self) -> None:
        if self._dirty and (cut := finished_length(self._tail)):
            block, self._tail = self._tail[:cut], self._tail[cut:]
            self._print_block(block)
        self._dirty = False
        if self._live is not None:
            self._live.refresh()

    def __rich__(self) -> RenderableType:
        """The live region now. Rich redraws it below everything that is printed."""
        style = "dim italic" if self._kind == "reasoning" else ""
        lines = []
        if tail := self._tail.strip("\n"):
            lines = self._console.render_lines(Text(tail, style=style), pad=False, new_lines=True)
            # Only the last lines of the tail, as many as fit on the screen.
            lines = lines[-max(1, self._console.height - BELOW) :]
        seconds = time.monotonic() - self._began
        status = Text(f"{seconds:.0f} s  {self._status}".rstrip(), style="dim", no_wrap=True, overflow="ellipsis")
        return Group(*self._gap(), *(Segments(line) for line in lines), status)


def _is_blank(line: list[Segment]) -> bool:
    return not any(segment.text.strip() or (segment.style and segment.style.bgcolor) for segment in line)


class AnswerReplaced(Exception):
    """The answer started over with another text, and the written text can't be taken back."""


class PlainView:
    """Writes the text as it comes, and nothing else. Notes go to ``notes``.

    Text in a pipe can't be taken back. So when an answer starts over, the part that equals the written text is not
    written again, and :class:`AnswerReplaced` is raised if the text differs. A terminal gets a note instead.
    """

    def __init__(self, write: "Write", notes: Console, *, on_terminal: bool) -> None:
        """``on_terminal``: then control characters are made visible, and a line break ends the answer."""
        self._write = write
        self._notes = notes
        self._on_terminal = on_terminal
        self._written: list[str] = []
        self._unmatched = ""
        self._ended = False

    def start(self) -> None:
        pass

    def pause(self) -> None:
        if self._on_terminal:
            self._notes.print()

    def show(self, change: Change) -> None:
        if change.kind == "text":
            self._take(change.text)
        elif change.kind == "anew":
            if self._on_terminal:
                self._write("\n" if self._written else "")
                self._written.clear()
            self._unmatched = "".join(self._written)
            self._note(change.text)

    def _take(self, text: str) -> None:
        known = min(len(text), len(self._unmatched))
        if text[:known] != self._unmatched[:known]:
            raise AnswerReplaced
        self._unmatched, text = self._unmatched[known:], text[known:]
        if text:
            self._written.append(text)
            self._write(harmless(text) if self._on_terminal else text)

    def waiting(self, why: str) -> None:
        self._note(why)

    def end(self, answer: AnswerState | None) -> None:
        if self._ended:
            return
        self._ended = True
        if self._on_terminal and self._written:
            self._write("\n")
        if answer is None or not answer.ending:
            return
        if self._unmatched and answer.ending == "done":
            raise AnswerReplaced
        for call in answer.transcript.tool_calls:
            self._note(f"→ {call['name']}({call['arguments']})")
        if answer.ending != "done" or self._notes.is_terminal:
            self._note(summary(answer))

    def _note(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._notes.print(Text(harmless(text), style="dim"), soft_wrap=True, highlight=False)


class Write(Protocol):
    """Writes a piece of text at once."""

    def __call__(self, text: str, /) -> object: ...
