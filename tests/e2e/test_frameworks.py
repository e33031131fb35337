"""Tool loops by the Python frameworks that people have, through chat completions and through Responses.

They stand in one file because most of their time is their imports, and each is imported once for a file.
"""

import json
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from tests.support.clients import run_client
from tests.support.script import TOOL_ARGUMENTS
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODEL: Final = "local/scripted"
AFTER: Final = {"tool_call": False, "text": "All of it was found."}
SCRIPT: Final = {"tokens": 2, "tool_call": True, "after_tool": AFTER}
TOLD: Final = {"text": AFTER["text"], "asked": [json.loads(TOOL_ARGUMENTS)["query"]]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("frameworks"), HEADRACE_GRACE_S="2") as made:
        yield made


@pytest.mark.parametrize("library", ["langchain-openai", "litellm", "pydantic-ai", "openai-agents"])
async def test_a_library_runs_a_tool_loop_by_chat_completions(stack: Stack, library: str) -> None:
    assert await run_client("frameworks", library, stack.openai_url, MODEL, json.dumps(SCRIPT)) == TOLD


@pytest.mark.parametrize(
    "library",
    [
        "langchain-openai",
        "langchain-openai, by the previous response",
        "pydantic-ai",
        "openai-agents",
        "openai-agents, whole",
    ],
)
async def test_a_library_runs_a_tool_loop_by_responses(stack: Stack, library: str) -> None:
    script = {**SCRIPT, "reasoning_tokens": 2, "name": library}
    assert await run_client("responses_frameworks", library, stack.openai_url, MODEL, json.dumps(script)) == TOLD
    first, second = stack.calls(library)
    assert first.asked["tools"][0]["function"]["name"] == "look_up"
    said = second.asked["messages"]
    assert [one["role"] for one in said[-3:]] == ["user", "assistant", "tool"]
    assert (said[-1]["content"], said[-1]["tool_call_id"]) == ("found", said[-2]["tool_calls"][0]["id"])


async def test_langchain_gets_a_structured_answer_by_responses(stack: Stack) -> None:
    script = {"text": '{"flood": 7}', "name": "shaped"}
    library = "langchain-openai, structured"
    told = await run_client("responses_frameworks", library, stack.openai_url, MODEL, json.dumps(script))
    assert told["text"] == "7"
    (call,) = stack.calls("shaped")
    shape = call.asked["response_format"]
    assert (shape["type"], shape["json_schema"]["name"]) == ("json_schema", "Answer")
