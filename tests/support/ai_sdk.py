"""The AI SDK's clients for tests: npm's `ai` 5, 6 and 7, each run in Node by tests/js/ai_sdk.mjs."""

import asyncio
import json
import secrets
from typing import Any

from tests.support.node import FOLDER, node_script

PACKAGES = ("ai5", "ai6", "ai7")
VERSIONS = {"ai5": "5.0.277", "ai6": "6.0.326", "ai7": "7.0.173"}
WITHIN_S = 60.0
Message = dict[str, Any]


def new_chat() -> str:
    """An id as a page makes one."""
    return secrets.token_hex(8)


async def run_client(package: str, scenario: str, url: str, **given: Any) -> Any:
    """What came of a scenario of tests/js/ai_sdk.mjs. ``given``: what it needs, ``chat`` and ``text`` mostly."""
    node, _ = await asyncio.to_thread(node_script, f"{package}/package.json")
    client = await asyncio.create_subprocess_exec(
        node,
        str(FOLDER / "ai_sdk.mjs"),
        package,
        scenario,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            asked = {"chat": new_chat(), "url": url, **given}
            out, complaints = await client.communicate(json.dumps(asked).encode())
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    assert client.returncode == 0, complaints.decode()
    return json.loads(out)


def texts(message: Message) -> str:
    """The text of a message."""
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def reasoning(message: Message) -> str:
    """The reasoning of a message."""
    return "".join(part["text"] for part in message["parts"] if part["type"] == "reasoning")


def user(text: str, message_id: str = "u1") -> Message:
    """A user's message."""
    return {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}
