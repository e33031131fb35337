"""Child processes that never outlive this one.

Theory of operation. A child is the leader of a session of its own, so a terminal's Ctrl-C reaches this
process alone, which then stops its children in order. Should this process be killed, nobody would; so on
Linux each child asks the kernel for a signal at its parent's death (``PR_SET_PDEATHSIG``), between fork
and exec. The parent may die before that request is made: the child then sees another parent than the one
it was forked from, and ends at once. The kernel watches the forking *thread*: fork from the main thread.

A child's end is told by the kernel, through a descriptor of the process (``pidfd``; only Linux has them: elsewhere
it is looked for again and again), and not by a watcher thread: forking with Python code between fork and exec is
only safe where no other thread may hold a lock.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

POLL_S = 0.2
"""How late a child's end may be seen where the kernel does not tell: hardly longer than a person notices. To look
at three children so often takes 2.4 ms of CPU a second."""

KILL_WAIT_S = 2.0
"""After SIGKILL only a process inside an uninterruptible system call is still there: nothing helps then."""

LOG_BYTES = 8 * 1024 * 1024
"""A log that has grown past this becomes ``<name>.log.1``: at most twice this size on disk for each child."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ChildCommand:
    """One program to run. ``env`` is its whole environment (it may hold keys, so it is never shown)."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    log: Path
    orphaned: signal.Signals = signal.SIGKILL
    """What the kernel sends it when its parent dies. SIGKILL can't be missed; what has something to save
    gets SIGTERM."""
    pass_fds: tuple[int, ...] = ()


def end_with_parent(sig: signal.Signals) -> Callable[[], None] | None:
    """What a forked child must call before it execs, to get ``sig`` at its parent's death.

    None where the system has no such thing (only Linux does).
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def request() -> None:
        if prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0) != 0 or os.getppid() != parent:
            os._exit(1)

    return request


class Process:
    """A running child. Whoever makes one awaits :meth:`stop`."""

    def __init__(self, command: ChildCommand) -> None:
        """Start it; its output is appended to the log, or dropped where that can't be opened. Raises ``OSError`` if
        the program can't be run."""
        with _opened(command.log) as log:
            self._popen = subprocess.Popen(  # noqa: S603 - the commands are this project's own
                command.argv,
                env=dict(command.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=command.pass_fds,
                # What children write (the server's file, above all) is for this user alone.
                umask=0o077,
                preexec_fn=end_with_parent(command.orphaned),
            )
        self.pid = self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._popen.poll()

    async def ended(self) -> int:
        """Wait for its end, and reap it. Out: the exit code."""
        while (code := self._popen.poll()) is None:
            await self._may_have_ended()
        return code

    async def _may_have_ended(self) -> None:
        """Wait until it is time to look whether it has ended. (It was not reaped: its pid is still its own.)"""
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            await asyncio.sleep(POLL_S)
            return
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def stop(self, within_s: float) -> None:
        """SIGTERM, then SIGKILL for its whole group after ``within_s``. It is reaped in any case."""
        if self.exit_code is None:
            self._popen.terminate()
        try:
            async with asyncio.timeout(within_s):
                await self.ended()
        except TimeoutError:
            self.kill()
            async with asyncio.timeout(KILL_WAIT_S):
                await self.ended()

    def kill(self) -> None:
        """SIGKILL for its whole group."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


def _opened(log: Path) -> BinaryIO:
    try:
        return log.open("ab")
    except OSError:
        return open(os.devnull, "ab")


def ending(code: int) -> str:
    """An exit code, for people."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def last_lines(log: Path, count: int = 12) -> str:
    """The log's last lines, each at most 400 characters ('' where there is no log)."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line[:400] for line in lines[-count:])


def begin_log(log: Path) -> None:
    """Set the log of the run before aside, and start an empty one. Where that can't be, its child runs without."""
    with contextlib.suppress(OSError):
        if log.exists():
            log.replace(log.with_name(log.name + ".1"))
        log.touch(mode=0o600)


def bound_log(log: Path, limit: int = LOG_BYTES) -> None:
    """Copy a log that has grown too long aside and empty it. Its writer appends, so it goes on at the start;
    a line written between copy and cut is lost. On a full disk there is no copy: the cut is what makes room."""
    with contextlib.suppress(OSError):
        if log.stat().st_size <= limit:
            return
        aside = log.with_name(log.name + ".1")
        try:
            shutil.copy(log, aside)  # with its mode: for this user alone
        except OSError:
            aside.unlink(missing_ok=True)
        os.truncate(log, 0)
