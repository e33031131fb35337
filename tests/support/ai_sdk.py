"""The AI SDK's clients for tests: npm's `ai` 5, 6 and 7, each in a Node that runs tests/js/ai_sdk.mjs."""

import asyncio
import json
import secrets
import subprocess
import threading
from concurrent.futures import Future
from itertools import count
from typing import Any

from tests.support.node import FOLDER, node_script

PACKAGES = ("ai5", "ai6", "ai7")
VERSIONS = {"ai5": "5.0.277", "ai6": "6.0.326", "ai7": "7.0.173"}
WITHIN_S = 60.0
Message = dict[str, Any]


def new_chat() -> str:
    """An id as a page makes one."""
    return secrets.token_hex(8)


class _Node:
    """A Node with one package, which runs scenarios as they come. (It takes 0.4 s of CPU to load one.)

    A thread reads what it says, because tests of several event loops ask it.
    """

    def __init__(self, node: str, package: str) -> None:
        argv = (node, str(FOLDER / "ai_sdk.mjs"), package)
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
            self._process.wait(10)
        finally:
            self._process.kill()
            self._reader.join()
            self._process.stdout.close()


class AiSdk:
    """The clients of one run of tests, each begun with its first scenario."""

    def __init__(self) -> None:
        self._begun: dict[str, _Node] = {}

    async def run(self, package: str, scenario: str, url: str = "", **given: Any) -> Any:
        """What came of a scenario of tests/js/ai_sdk.mjs. ``given``: what it needs (``chat``, ``text``, …)."""
        node, _ = node_script(f"{package}/package.json")
        if package not in self._begun:
            self._begun[package] = _Node(node, package)
        asked = {"chat": new_chat(), "url": url, **given}
        async with asyncio.timeout(WITHIN_S):
            return await asyncio.wrap_future(self._begun[package].run(scenario, asked))

    def close(self) -> None:
        """End them."""
        for node in self._begun.values():
            node.close()


def texts(message: Message) -> str:
    """The text of a message."""
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def reasoning(message: Message) -> str:
    """The reasoning of a message."""
    return "".join(part["text"] for part in message["parts"] if part["type"] == "reasoning")


def user(text: str, message_id: str = "u1") -> Message:
    """A user's message."""
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}
