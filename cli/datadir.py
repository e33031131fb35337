"""The data folder: the server's append-only file, the children's logs, a lock, and ``up.json``.

Theory of operation. Two servers on one append-only file would ruin it, so whoever uses the folder holds a
``flock`` on ``DIR/lock``. The embedded server inherits the locked descriptor: should the CLI be killed, the
lock lasts until the server has really ended too. The kernel drops it with its last holder, so a lock is
never stale.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from cli.errors import CannotStart

LOCK_WITHIN_S = 3.0
"""A server whose CLI was just killed writes its last second before it ends; a live `headrace up` stays."""


class DataDir:
    """The folder, locked until :meth:`close`. It is made where it is missing, for its owner alone."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`CannotStart` if the folder can't be written or is in use."""
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self._state = self.path / "up.json"
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            self.lock_fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotStart(
                f"The data folder {self.path} can't be used ({error.strerror}). Choose another one: --data-dir DIR"
            ) from None
        try:
            self._take_lock()
        except BaseException:
            os.close(self.lock_fd)
            raise
        self._state.unlink(missing_ok=True)

    def _take_lock(self) -> None:
        deadline = time.monotonic() + LOCK_WITHIN_S
        while True:
            try:
                fcntl.flock(self.lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CannotStart(self._in_use()) from None
                time.sleep(0.1)
            else:
                os.ftruncate(self.lock_fd, 0)
                os.pwrite(self.lock_fd, f"{os.getpid()}\n".encode(), 0)
                return

    def _in_use(self) -> str:
        holder = os.pread(self.lock_fd, 32, 0).decode("ascii", "replace").strip()
        who = f"another `headrace up` (process {holder})" if holder else "another `headrace up`"
        return (
            f"The data folder {self.path} is in use by {who}. Stop that one, or give this one a folder "
            "of its own: --data-dir DIR (and a port of its own: --port 0)."
        )

    def log(self, name: str) -> Path:
        """Where the output of the child of that name goes."""
        return self.logs / f"{name}.log"

    def write_state(self, url: str, redis_url: str, children: Mapping[str, int]) -> None:
        """Write ``up.json``: what runs, for scripts and tests. Whole or not at all, for its owner alone.

        Where the disk is full it stays as it was: the next child that is started writes it again."""
        state = {"url": url, "redis_url": redis_url, "pid": os.getpid(), "children": dict(children)}
        fresh = self._state.with_suffix(".new")
        with contextlib.suppress(OSError):
            fresh.touch(mode=0o600)
            fresh.write_text(json.dumps(state, indent=1) + "\n")
            fresh.replace(self._state)

    def close(self) -> None:
        """Remove ``up.json`` and let the folder go."""
        self._state.unlink(missing_ok=True)
        os.close(self.lock_fd)
