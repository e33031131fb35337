"""The provider client against llmock, a stand-in that is not ours, run as a process, with its verdict: over all
three wire formats."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.config.providers import Provider
from tests.support.conversation import CONVERSATION, TOOL
from tests.support.provider_calls import KEY, calm_client, events_of, text_of
from worker.providers.base import Finish, GenerationRequest, ProviderError, ProviderEvent, Said, Usage
from worker.providers.client import ProviderClient

# It prints its port itself: asking the system for a free one first would leave a gap for others.
SERVE = """
import socket, uvicorn
from llmock.chaos import ChaosSettings
from llmock.main import create_app
from llmock.simulation import MockResponseSettings

free = socket.create_server(("127.0.0.1", 0))
print(free.getsockname()[1], flush=True)
app = create_app(chaos=ChaosSettings(), responses=MockResponseSettings())
uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run(sockets=[free])
"""


TIDES: list[dict[str, Any]] = [{"role": "user", "content": "Tell me about tides."}]
LOOK: list[dict[str, Any]] = [{"role": "user", "content": "Look at the tide."}]
"""Asked with a tool, which llmock calls as its schema says."""

PLACES = {
    "openai": ("/v1", "gpt-4o", 1),
    "anthropic": ("/anthropic/v1", "claude-sonnet-4-6", 3),
    "google": ("/gemini/v1beta", "gemini-2.5-pro", 0),
}
"""Where llmock speaks each wire format, a model that it knows there, and how many events stand before the text."""


class Llmock:
    """llmock's own API, over one connection pool."""

    def __init__(self, port: int, http: httpx.AsyncClient, wire_format: str) -> None:
        path, self.model, self._head = PLACES[wire_format]
        self.provider = Provider("local", wire_format, f"http://127.0.0.1:{port}{path}", KEY)
        self._admin = f"http://127.0.0.1:{port}/_llmock"
        self._http = http

    async def play(self, **behaviour: Any) -> None:
        """``after_chunks`` counts words of the text."""
        if "after_chunks" in behaviour:
            behaviour["after_chunks"] += self._head
        response = await self._http.post(f"{self._admin}/scenario", json={"behaviors": [behaviour]})
        response.raise_for_status()

    async def verdict(self) -> dict[str, Any]:
        verdict: dict[str, Any] = (await self._http.get(f"{self._admin}/verdict")).json()
        return verdict

    async def reset(self) -> None:
        (await self._http.post(f"{self._admin}/reset")).raise_for_status()


@pytest.fixture(scope="module")
def process() -> Any:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLMOCK_")}
    command = [sys.executable, "-c", SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=Path.cwd()) as run:
        try:
            assert run.stdout is not None
            yield int(run.stdout.readline())
        finally:
            run.kill()


@pytest.fixture(params=PLACES)
async def llmock(process: int, request: pytest.FixtureRequest) -> AsyncIterator[Llmock]:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        server = Llmock(process, http, request.param)
        async with asyncio.timeout(60):
            while True:
                with suppress(httpx.TransportError):
                    await server.reset()
                    break
                await asyncio.sleep(0.05)
        yield server


async def attempt(client: ProviderClient, server: Llmock, messages: list[dict[str, Any]]) -> list[ProviderEvent]:
    tools = [TOOL] if messages is LOOK else []
    request = GenerationRequest(server.model, messages, max_tokens=64, stop=["###"], tools=tools)
    return [event async for event in events_of(client, server.provider, request)]


async def attempts(
    server: Llmock, messages: list[dict[str, Any]] = TIDES, **settings: Any
) -> tuple[list[ProviderEvent], list[str]]:
    """What a worker does: another attempt for what may pass. Out: the answer, and the codes before it."""
    codes: list[str] = []
    async with calm_client(**settings) as client:
        while len(codes) < 3:
            try:
                return await attempt(client, server, messages), codes
            except ProviderError as error:
                codes.append(error.code)
                if error.refusal:
                    break
    return [], codes


async def test_a_calm_answer_is_whole_with_its_usage(llmock: Llmock) -> None:
    await llmock.play(type="reply", text="Ebb and flow, über Nacht 🌊.")
    events, codes = await attempts(llmock)
    assert text_of(events) == "Ebb and flow, über Nacht 🌊."
    assert codes == []
    assert [e for e in events if isinstance(e, Finish)] == [Finish("stop")]
    counted = [e for e in events if isinstance(e, Usage)][-1]
    assert counted.input_tokens
    assert counted.output_tokens
    assert (await llmock.verdict())["findings"] == []


async def test_a_whole_conversation_is_taken(llmock: Llmock) -> None:
    await llmock.play(type="reply", text="I see.")
    events, codes = await attempts(llmock, CONVERSATION)
    assert (text_of(events), codes) == ("I see.", [])


async def test_a_tool_is_called_as_its_schema_says(llmock: Llmock) -> None:
    events, _ = await attempts(llmock, LOOK)
    calls = [e.delta["tool_call"] for e in events if isinstance(e, Said) and "tool_call" in e.delta]
    assert "".join(c.get("name", "") for c in calls) == "look"
    assert set(json.loads("".join(c.get("arguments", "") for c in calls))) == {"at"}
    assert [e for e in events if isinstance(e, Finish)] == [Finish("tool_calls")]


async def test_scripted_tool_calls_come_through(llmock: Llmock) -> None:
    await llmock.play(type="reply", tool_calls=[{"name": "look_up", "arguments": {"q": "tide"}}])
    events, _ = await attempts(llmock)
    calls = [e.delta["tool_call"] for e in events if isinstance(e, Said) and "tool_call" in e.delta]
    assert "".join(c.get("name", "") for c in calls) == "look_up"
    assert '"tide"' in "".join(c.get("arguments", "") for c in calls)
    assert Finish("tool_calls") in events


@pytest.mark.parametrize(
    ("behaviour", "codes", "settings"),
    [
        ({"type": "fail", "status": 429, "retry_after": 0.6}, [], {}),
        ({"type": "fail", "status": 503}, [], {}),
        ({"type": "stream_fault", "kind": "disconnect", "after_chunks": 2}, ["upstream_cut"], {}),
        ({"type": "stream_fault", "kind": "truncate", "after_chunks": 2}, ["upstream_cut"], {}),
        ({"type": "stream_fault", "kind": "malformed", "after_chunks": 2}, ["provider_garbage"], {}),
        (
            {"type": "stream_fault", "kind": "stall", "after_chunks": 2, "stall_seconds": 30},
            ["upstream_silent"],
            {"idle_timeout_s": 2},
        ),
        ({"type": "slow_first_token", "seconds": 30}, ["first_token_timeout"], {"first_token_timeout_s": 2}),
    ],
    ids=["429", "503", "disconnect", "truncate", "malformed", "stall", "slow"],
)
async def test_a_fault_has_its_code_and_the_next_attempt_gets_the_whole_answer(
    llmock: Llmock, behaviour: dict[str, Any], codes: list[str], settings: dict[str, Any]
) -> None:
    await llmock.play(**behaviour)
    events, seen = await attempts(llmock, **settings)
    assert seen == codes
    assert text_of(events)
    verdict = await llmock.verdict()
    assert verdict["attempts"] == 2
    assert verdict["errors"] == 0
    # llmock can't see that we stopped at a bad chunk when the short rest was already in the socket.
    assert [f for f in verdict["findings"] if f["code"] != "malformed_chunk_ignored"] == []


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "provider_refused"), (401, "provider_auth"), (404, "provider_unknown_model")],
)
async def test_a_refusal_is_asked_once(llmock: Llmock, status: int, code: str) -> None:
    await llmock.play(type="fail", status=status, times=None)
    events, codes = await attempts(llmock)
    assert (events, codes) == ([], [code])
    verdict = await llmock.verdict()
    assert verdict["attempts"] == 1
    assert verdict["findings"] == []
