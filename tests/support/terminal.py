"""A program at a terminal of its own: typed into, and seen as a person sees it."""

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.processes import END_WITHIN_S, wait_until
from tests.support.template import template

COLUMNS, ROWS = 80, 24
_STEPS = re.compile(r"\x1b\[(\d*)([A-Za-z])|\x1b\[\?\d+[hl]|\x1b\[[\d;]*m|(\r)|(\n)|([^\x1b\r\n]+)")


def screen(output: str) -> str:
    """What stands on a terminal after this output, with what has scrolled away above it.

    It knows the few movements that the output of rich has: lines up, line erased, line begin.
    """
    lines, row, column = [""], 0, 0
    for count, step, start, feed, text in _STEPS.findall(output):
        if step == "A":
            row = max(0, row - int(count or 1))
        elif step == "K":
            lines[row] = ""
        elif start:
            column = 0
        elif feed:
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
    return "\n".join(line.rstrip() for line in lines)


class Terminal:
    """A process whose stdin, stdout and stderr are one terminal. A context manager: gone when the block ends."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], directory: Path) -> None:
        """``argv``: a module of this project, and its arguments."""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        env = {**env, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        self._process = template().start(argv, env, directory, {0: theirs, 1: theirs, 2: theirs}, at_terminal=True)
        os.close(theirs)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # the last writer is gone
                return
            if not piece:
                return
            self._seen += piece

    @property
    def output(self) -> str:
        """All bytes that came, as text."""
        return self._seen.decode("utf-8", "replace")

    @property
    def screen(self) -> str:
        return screen(self.output)

    def until(self, text: str) -> None:
        """Wait until the text stands on the screen."""
        wait_until(lambda: text in self.screen, what=f"{text!r} on the screen:\n{self.screen}")

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait(self) -> int:
        """Wait for its end. Out: the exit code."""
        code = self._process.wait(2 * END_WITHIN_S)
        self._reader.join(END_WITHIN_S)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(END_WITHIN_S)
        self._reader.join(END_WITHIN_S)
        os.close(self._ours)


def headrace(*arguments: str) -> tuple[str, ...]:
    """`headrace` as a module with its arguments."""
    return ("cli", *arguments)
