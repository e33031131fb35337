"""Ctrl-C, and the question that it leads to: stop, detach or go on.

Theory of operation. The event loop puts signals into a queue. A Ctrl-C on a terminal leads to the question; a
second one, while it is shown, means "detach". The answer is one key, read without Enter. The terminal is in cbreak
mode only while the question is shown. Keys that were typed before are dropped, because an early "s" must not stop
the answer.
"""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

Choice = Literal["stop", "detach", "go on"]

QUESTION: Final = "Stop the answer (s), detach from it (d), or go on (Enter)? "
KEYS: Final[dict[str, Choice]] = {
    "s": "stop",
    "d": "detach",
    "\x04": "detach",
    "": "detach",
    "\n": "go on",
    "\r": "go on",
}

LEAVING: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def signals() -> Iterator["asyncio.Queue[signal.Signals]"]:
    """A queue of the received SIGINT, SIGTERM and SIGHUP, as long as the block lasts."""
    loop = asyncio.get_running_loop()
    received: asyncio.Queue[signal.Signals] = asyncio.Queue()
    wanted = (signal.SIGINT, *LEAVING)
    for number in wanted:
        loop.add_signal_handler(number, received.put_nowait, number)
    try:
        yield received
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


async def ask(received: "asyncio.Queue[signal.Signals]") -> Choice:
    """Ask on the terminal. Out: the choice. A second signal, or a closed terminal, means ``detach``."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    termios.tcflush(fd, termios.TCIFLUSH)
    tty.setcbreak(fd)
    try:
        print(QUESTION, end="", file=sys.stderr, flush=True)
        choice = await _first(fd, received)
        # For "go on" the question is wiped from the screen.
        print("\r\x1b[2K" if choice == "go on" else f"{choice}\n", end="", file=sys.stderr, flush=True)
        return choice
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


async def _first(fd: int, received: "asyncio.Queue[signal.Signals]") -> Choice:
    loop = asyncio.get_running_loop()
    keys: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(fd, lambda: keys.put_nowait(_key(fd)))
    again = asyncio.ensure_future(received.get())
    try:
        while True:
            key = asyncio.ensure_future(keys.get())
            await asyncio.wait({key, again}, return_when=asyncio.FIRST_COMPLETED)
            if not key.done():
                key.cancel()
                return "detach"
            if choice := KEYS.get(key.result().lower()):
                return choice
    finally:
        again.cancel()
        loop.remove_reader(fd)


def _key(fd: int) -> str:
    try:
        return os.read(fd, 1).decode("ascii", "replace")
    except OSError:
        return ""
