"""The AI SDK's clients for tests: npm's `ai` 5, 6 and 7 (tests/js/ai_sdk.mjs)."""

import secrets
from typing import Any

from tests.support.node import Node, require_packages

PACKAGES = ("ai5", "ai6", "ai7")
VERSIONS = {"ai5": "5.0.277", "ai6": "6.0.326", "ai7": "7.0.173"}
Message = dict[str, Any]


def new_chat() -> str:
    """An id as a page makes one."""
    return secrets.token_hex(8)


class AiSdk:
    """The clients, in a run's Node."""

    def __init__(self, node: Node) -> None:
        """Where they are not fetched, the test is skipped by name (failed under CI=true)."""
        require_packages(*PACKAGES)
        self._node = node

    async def run(self, package: str, scenario: str, url: str = "", **given: Any) -> Any:
        """What came of a scenario of tests/js/ai_sdk.mjs. ``given``: what it needs (``chat``, ``text``, …)."""
        asked = {"chat": new_chat(), "url": url, **given}
        return await self._node.run(("ai_sdk.mjs", package), scenario, asked)


def texts(message: Message) -> str:
    """The text of a message."""
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def reasoning(message: Message) -> str:
    """The reasoning of a message."""
    return "".join(part["text"] for part in message["parts"] if part["type"] == "reasoning")


def user(text: str, message_id: str = "u1") -> Message:
    """A user's message."""
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}
