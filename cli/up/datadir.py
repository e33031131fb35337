"""The data folder: the server's append-only file and configuration, the children's logs, a lock, and ``up.json``.

Theory of operation. Two servers on one append-only file would destroy it, so the program that uses the folder holds
a ``flock`` on ``DIR/lock``. The embedded server inherits the locked descriptor: if the CLI is killed, the lock
lasts until the server has ended too. The kernel releases it with its last holder, so a lock is never stale.

The folder holds the prompts and answers of all callers, and the server's password. So the files that this class
makes are only for their owner, even if the folder itself existed before and is open to others.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from cli.errors import CannotStart

LOCK, STATE = "lock", "up.json"

LOCK_WITHIN_S = 3.0
"""How long to wait for the lock. A server whose CLI was just killed writes its last second before it ends; a live
`headrace up` keeps the lock for longer."""


class DataDir:
    """The folder, locked until :meth:`close`. If it is missing, it is made, for its owner only."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`CannotStart` if the folder can't be written or is in use."""
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self._state = self.path / STATE
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The second is the server's (its `appenddirname`). Its mode is set here, because an older version may
            # have left files in it that everybody could read.
            for private in (self.logs, self.path / "appendonlydir"):
                private.mkdir(mode=0o700, exist_ok=True)
                private.chmod(0o700)
            self.lock_fd = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
                # Only used by the text of :meth:`_in_use`: on a full disk that text names no process.
                with contextlib.suppress(OSError):
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
        """The log file of the child with this name."""
        return self.logs / f"{name}.log"

    def write_server_config(self, password: str) -> Path:
        """Write the embedded server's configuration file. Out: its path. The password is in this file because every
        local user can read the arguments of a process. Raises :class:`CannotStart`."""
        file = self.path / "valkey.conf"
        try:
            file.unlink(missing_ok=True)
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as writer:
                writer.write(f"requirepass {password}\n")
        except OSError as error:
            raise CannotStart(f"{file} can't be written ({error.strerror}). Fix that, and try again.") from None
        return file

    def write_state(self, url: str, environment: Mapping[str, str], children: Mapping[str, int]) -> None:
        """Write ``up.json``, which says what runs, for scripts, tests and ``headrace doctor``. It is written as a
        whole or not at all, and only for its owner. In: the API's URL; the settings that `headrace up` decided; the
        children's pids by name.

        On a full disk the file stays as it was. It is written again when the next child starts."""
        state = {
            "url": url,
            "redis_url": environment["HEADRACE_REDIS_URL"],
            "pid": os.getpid(),
            "children": dict(children),
            "environment": dict(environment),
        }
        fresh = self._state.with_suffix(".new")
        with contextlib.suppress(OSError):
            fresh.touch(mode=0o600)
            fresh.write_text(json.dumps(state, indent=1) + "\n")
            fresh.replace(self._state)

    def close(self) -> None:
        """Remove ``up.json`` and release the folder."""
        with contextlib.suppress(OSError):
            self._state.unlink(missing_ok=True)
        os.close(self.lock_fd)


def environment_of(path: Path) -> dict[str, str]:
    """The settings that the `headrace up` in this folder decided; {} if none runs, or if this user may not read
    them."""
    with contextlib.suppress(OSError, ValueError, KeyError), (path / LOCK).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return dict(json.loads((path / STATE).read_text())["environment"])
    return {}
