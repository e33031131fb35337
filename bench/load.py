"""The provider and the viewers: two native programs that cost far less than the contenders that they measure."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import Histogram, histogram
from bench.http_request import HttpRequest, call
from bench.spawn import BenchError, Child, clean_env
from bench.toolchain import native
from cli.up.process import end_with_parent, last_lines

GRACE_S = 20.0
"""How late tokens may come. An overloaded contender delivers late; later tokens are counted as lost."""


class BenchProvider:
    """The provider that all contenders ask. A context manager."""

    def __init__(self, directory: Path) -> None:
        self._child = Child("provider", [str(native("provider"))], directory)
        self.pid = self._child.pid
        try:
            self.port = int(self._child.first_line())
        except BaseException:
            self._child.stop()
            raise
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, int]:
        """All tokens that it sent, and how late it was (µs) since the last call."""
        return dict(json.loads(call(self.port, "GET", "/stats")[0]))

    def go(self) -> None:
        """Let the gated answers begin."""
        call(self.port, "GET", "/go")

    def __enter__(self) -> "BenchProvider":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop()


@dataclass(frozen=True, slots=True)
class Seen:
    """The result of the viewers of one run."""

    total: dict[str, Any]
    streams: list[dict[str, Any]]
    latency: Histogram
    cpu_ns: int
    """The viewers' own CPU."""


class Viewers:
    """A running load generator."""

    def __init__(self, directory: Path, asking: HttpRequest, count: int, **options: int | bool) -> None:
        """``options``: those of ``native/viewer.c``, with ``_`` for ``-``."""
        directory.mkdir(parents=True, exist_ok=True)
        request, follow = directory / "request", directory / "follow"
        request.write_bytes(asking.request.encode())
        follow.write_bytes(asking.follow.encode())
        argv = [native("viewer"), "--port", asking.port, "--request", request, "--count", count]
        argv += ["--follow", follow] if asking.follow else []
        for name, value in options.items():
            if value is not False:
                argv.append("--" + name.replace("_", "-"))
                argv += [] if value is True else [value]
        self._out = directory / "viewers.jsonl"
        self._errors = directory / "viewers.log"
        with self._out.open("wb") as out, self._errors.open("wb") as errors:
            self._popen = subprocess.Popen(
                [str(word) for word in argv],
                env=clean_env(),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGKILL),
            )

    def wait_for(self, kind: str, within_s: float, *, or_else: bool = False) -> dict[str, Any]:
        """Wait for the line of this kind. Raises :class:`BenchError` if it does not come (``or_else``: returns
        {})."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            for line in self._out.read_text().splitlines():
                if f'"kind":"{kind}"' in line:
                    return dict(json.loads(line))
            if self._popen.poll() is not None:
                break
            time.sleep(0.02)
        if or_else:
            return {}
        self.stop()
        raise BenchError(f"the viewers did not reach '{kind}': {last_lines(self._errors) or 'they said nothing'}")

    def leave(self) -> None:
        """Let viewers end that were started with ``idle`` or ``stay``."""
        self._close_input()

    def finish(self, within_s: float) -> Seen:
        """Wait until the viewers end. Raises :class:`BenchError` if they do not."""
        deadline = time.monotonic() + within_s
        while True:
            pid, status, usage = os.wait4(self._popen.pid, os.WNOHANG)
            if pid:
                self._popen.returncode = os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() > deadline:
                self.stop()
                raise BenchError(f"the viewers did not end within {within_s:.0f} s")
            time.sleep(0.01)
        self._close_input()
        if self._popen.returncode:
            raise BenchError(f"the viewers failed: {last_lines(self._errors)}")
        lines = [json.loads(line) for line in self._out.read_text().splitlines()]
        by_kind: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            by_kind.setdefault(line.pop("kind"), []).append(line)
        total = by_kind["total"][0]
        return Seen(
            total,
            by_kind.get("stream", []),
            histogram(total.pop("latency")),
            int((usage.ru_utime + usage.ru_stime) * 1e9),
        )

    def stop(self) -> None:
        """Kill the viewers now."""
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait(5)
        self._close_input()

    def _close_input(self) -> None:
        if self._popen.stdin:
            self._popen.stdin.close()


@contextmanager
def idle_viewers(directory: Path, asking: HttpRequest, count: int) -> Iterator[None]:
    """Viewers that follow a silent stream as long as the block lasts. Raises :class:`BenchError`."""
    viewers = Viewers(directory, asking, count, idle=True, ramp_ms=max(1, count), timeout_ms=120_000)
    try:
        viewers.wait_for("open", GRACE_S)
        yield
    finally:
        viewers.stop()
