"""Child processes that never outlive this one.

Theory of operation. Each child leads a session of its own, so a terminal's Ctrl-C reaches only this process, which
then stops its children in order. If this process is killed, it can't stop them. So on Linux each child asks the
kernel, between fork and exec, for a signal at its parent's death (``PR_SET_PDEATHSIG``). The parent may die before
that request: then the child sees another parent than the one that forked it, and ends at once. The kernel watches
the forking *thread*, so fork from the main thread.

The kernel reports a child's end through a descriptor of the process (``pidfd``; only on Linux, elsewhere it is
polled). There is no watcher thread, because Python code between fork and exec is only safe if no other thread can
hold a lock.
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
"""How often a child's end is polled without ``pidfd``: a person hardly notices the delay. For three children it
takes 2.4 ms of CPU a second."""

KILL_WAIT_S = 2.0
"""After SIGKILL only a process in an uninterruptible system call stays alive, and nothing helps against that."""

LOG_BYTES = 8 * 1024 * 1024
"""A larger log becomes ``<name>.log.1``. So each child has at most twice this size on disk."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ChildCommand:
    """One program to run. ``env`` is its whole environment (it may hold keys, so it is never shown)."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    log: Path
    orphaned: signal.Signals = signal.SIGKILL
    """The signal at its parent's death. SIGKILL can't be missed; a child that has something to save gets
    SIGTERM."""
    pass_fds: tuple[int, ...] = ()


def end_with_parent(sig: signal.Signals) -> Callable[[], None] | None:
    """A function that a forked child must call before its exec, to get ``sig`` at its parent's death.

    None if the system can't do that (only Linux can).
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
    """A running child. Its creator must await :meth:`stop`."""

    def __init__(self, command: ChildCommand) -> None:
        """Start the child. Its output is appended to the log, or dropped if the log can't be opened. Raises
        ``OSError`` if the program can't be run."""
        with _opened(command.log) as log:
            self._popen = subprocess.Popen(  # noqa: S603 - the commands are this project's own
                command.argv,
                env=dict(command.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=command.pass_fds,
                # The files that children write (above all the server's) are only for this user.
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
        """Wait until the child may have ended. (It is not reaped yet, so its pid is still its own.)"""
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
            await asyncio.wait_for(self.ended(), within_s)
        except TimeoutError:
            self.kill()
            await asyncio.wait_for(self.ended(), KILL_WAIT_S)

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
    """The log's last lines, each at most 400 characters ('' if there is no log)."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line[:400] for line in lines[-count:])


def begin_log(log: Path) -> None:
    """Rename the log of the last run, and start an empty one. If that fails, the child runs without a log."""
    with contextlib.suppress(OSError):
        if log.exists():
            log.replace(log.with_name(log.name + ".1"))
        log.touch(mode=0o600)


def bound_log(log: Path, limit: int = LOG_BYTES) -> None:
    """Copy a log that is too long to ``<name>.log.1``, and empty it. Its writer appends, so it goes on at the
    start. A line written between the two steps is lost. On a full disk there is no copy, because emptying must make
    room."""
    with contextlib.suppress(OSError):
        if log.stat().st_size <= limit:
            return
        aside = log.with_name(log.name + ".1")
        try:
            shutil.copy(log, aside)  # keeps the mode: only for this user
        except OSError:
            aside.unlink(missing_ok=True)
        os.truncate(log, 0)
