"""Child processes of the benchmark: started, waited for, and ended with their block.

Each child dies with the benchmark too (see :mod:`cli.up.process`). No child sees the settings of Headrace or of a
provider that the user's shell may have.
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from cli.up.process import end_with_parent, last_lines

ROOT = Path(__file__).parent.parent
READY_S = 30.0
END_S = 5.0


class BenchError(Exception):
    """The benchmark can't go on; the text says why, for people."""


def clean_env(**more: str) -> dict[str, str]:
    """This process's environment without settings of Headrace, providers or Redis, plus ``more``."""
    settings = re.compile(r"HEADRACE_.*|REDIS_URL|KV_URL|DEBUG|.*_(API_KEY|BASE_URL|MODELS|CONTINUES)")
    env = {name: value for name, value in os.environ.items() if not settings.fullmatch(name)}
    return {**env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


class Child:
    """A running program, whose output is appended to ``<name>.log`` in its folder."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        directory: Path,
        env: Mapping[str, str] | None = None,
        orphaned: signal.Signals = signal.SIGKILL,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                list(argv),
                env=dict(env or clean_env()),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent(orphaned),
            )
        self.pid = self._popen.pid

    def output(self) -> str:
        """Everything that the program has printed."""
        return self.log.read_text("utf-8", "replace")

    def wait_until(self, ready: Callable[[], object], within_s: float = READY_S) -> Self:
        """Wait until ``ready`` is truthy. Raises :class:`BenchError` with the program's last lines if that
        fails."""
        deadline = time.monotonic() + within_s
        while not ready():
            if self._popen.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise BenchError(f"{self.name} did not start:\n{last_lines(self.log, 30)}")
            time.sleep(0.02)
        return self

    def first_line(self) -> str:
        """Wait for the first line of output. Out: the line."""
        self.wait_until(lambda: "\n" in self.output())
        return self.output().splitlines()[0]

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for the whole group if that does not help. The program is reaped in any case."""
        if self._popen.poll() is None:
            self._popen.terminate()
        try:
            self._popen.wait(END_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait(END_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
