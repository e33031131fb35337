"""Programs from npm for tests, in ``tests/js/node_modules`` (:mod:`tests.support.downloads`)."""

import asyncio
import json
import shutil
import subprocess
import threading
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any

from tests.support.requirements import FETCH, skip_or_fail

FOLDER = Path(__file__).parents[1] / "js"
WITHIN_S = 90.0


def node_script(path: str) -> list[str]:
    """The command that runs a script below ``node_modules``. Where there is none, the test is skipped by name
    (failed under CI=true)."""
    node, script = shutil.which("node"), FOLDER / "node_modules" / path
    if node is None:
        skip_or_fail("needs node on PATH")
    if not script.is_file():
        skip_or_fail(f"needs {path} from npm: {FETCH}")
    return [node, str(script)]


def require_packages(*names: str) -> None:
    """These packages are fetched, else the test is skipped by name (failed under CI=true)."""
    for name in names:
        node_script(f"{name}/package.json")


class _Scenarios:
    """A Node that runs a script's scenarios as they come (tests/js/scenarios.mjs).

    A thread reads what it says, because tests of several event loops ask it.
    """

    def __init__(self, *argv: str) -> None:
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._waiting: dict[int, Future[Any]] = {}
        self._numbers = count()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def run(self, scenario: str, given: dict[str, Any]) -> Future[Any]:
        """Begin a scenario. Out: what comes of it."""
        assert self._process.stdin
        came: Future[Any] = Future()
        came.set_running_or_notify_cancel()  # a test that gives up can't cancel it, so its end may always be set
        n = next(self._numbers)
        self._waiting[n] = came
        line = json.dumps({"n": n, "scenario": scenario, "given": given})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        return came

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            told = json.loads(line)
            came = self._waiting.pop(told["n"])
            if "failed" in told:
                came.set_exception(AssertionError(told["failed"]))
            else:
                came.set_result(told["came"])
        for came in self._waiting.values():
            came.set_exception(AssertionError("Node ended; what it said is on stderr"))

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._reader.join()
            self._process.stdout.close()


class Node:
    """The scenarios of one run of tests. Each script is begun with its first one: to load its packages takes 0.4 s
    of CPU and more."""

    def __init__(self) -> None:
        self._begun: dict[tuple[str, ...], _Scenarios] = {}

    async def run(self, script: tuple[str, ...], scenario: str, given: dict[str, Any]) -> Any:
        """What came of a scenario. ``script``: a file of tests/js and its arguments."""
        if script not in self._begun:
            self._begun[script] = _Scenarios("node", str(FOLDER / script[0]), *script[1:])
        async with asyncio.timeout(WITHIN_S):
            return await asyncio.wrap_future(self._begun[script].run(scenario, given))

    def close(self) -> None:
        """End them."""
        for scenarios in self._begun.values():
            scenarios.close()
