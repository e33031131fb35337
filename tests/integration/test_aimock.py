"""The provider client against aimock, another stand-in that is not ours (from npm), on its three native paths."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.config.providers import Provider
from shared.protocol.transcript import Transcript
from tests.support.conversation import CONVERSATION, TOOL
from tests.support.node import node_script
from tests.support.provider_calls import KEY, calm_client, events_of
from worker.providers.base import Finish, GenerationRequest, ProviderError, ProviderEvent, Said, Usage

ANSWERS = Path(__file__).parents[1] / "data" / "aimock.json"
PLACES = {
    "openai": ("/v1", "deepseek-reasoner"),
    "anthropic": ("/v1", "claude-sonnet-4-5"),
    "google": ("/v1beta", "gemini-2.5-pro"),
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    command = [*node_script("@copilotkit/aimock/dist/cli.js"), "-p", "0", "-f", str(ANSWERS), "--strict"]
    environment = {**os.environ, "AIMOCK_API_KEYS": KEY}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as run:
        try:
            assert run.stdout is not None
            said = ""
            for line in run.stdout:
                said += line
                if found := re.search(r"listening on (http://127\.0\.0\.1:\d+)", line):
                    break
            assert found, said
            yield found[1]
        finally:
            run.kill()


@pytest.fixture(params=PLACES)
def provider(address: str, request: pytest.FixtureRequest) -> Provider:
    return Provider("local", request.param, address + PLACES[request.param][0], KEY)


async def ask(provider: Provider, turns: list[dict[str, Any]] | str) -> list[ProviderEvent]:
    messages = [{"role": "user", "content": turns}] if isinstance(turns, str) else turns
    request = GenerationRequest(
        PLACES[provider.wire_format][1], messages, max_tokens=64, temperature=0.5, stop=["###"], tools=[TOOL]
    )
    async with calm_client(provider_tries=2, provider_retry_s=3) as client:
        return [event async for event in events_of(client, provider, request)]


async def refused(provider: Provider, prompt: str) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await ask(provider, prompt)
    assert KEY not in str(caught.value)
    return caught.value


def told(events: list[ProviderEvent]) -> dict[str, Any]:
    transcript = Transcript()
    for event in events:
        if isinstance(event, Said):
            transcript.add(event.delta)
    return transcript.as_data()


async def test_text_and_reasoning_come_whole(provider: Provider) -> None:
    events = await ask(provider, "Tell me about tides.")
    assert told(events)["text"] == "Ebb und Flut, über Nacht 🌊."
    assert told(events)["reasoning"] == "Wie hoch? 高さ"
    assert [event for event in events if isinstance(event, Finish)] == [Finish("stop")]
    assert any(isinstance(event, Usage) for event in events)


async def test_tool_calls_come_whole_beside_the_text(provider: Provider) -> None:
    events = await ask(provider, "Look at the tide.")
    answer = told(events)
    assert answer["text"] == "Let me see."
    calls = [(call["index"], call["name"], json.loads(call["arguments"])) for call in answer["tool_calls"]]
    assert calls == [(0, "look", {"at": "höchste Flut"}), (1, "look", {})]
    assert len({call["id"] for call in answer["tool_calls"]} - {None}) == 2
    assert [event for event in events if isinstance(event, Finish)] == [Finish("tool_calls")]


async def test_a_whole_conversation_is_taken(provider: Provider) -> None:
    assert told(await ask(provider, CONVERSATION))["text"] == "I see."


async def test_a_wrong_and_a_missing_key_are_the_same_error(provider: Provider) -> None:
    for key in ("sk-wrong", ""):
        without = Provider(provider.name, provider.wire_format, provider.base_url, key)
        error = await refused(without, "Tell me about tides.")
        assert (error.code, error.retryable, error.refusal) == ("provider_auth", False, True)


async def test_an_overloaded_provider_is_asked_again_and_then_not_available(provider: Provider) -> None:
    error = await refused(provider, "busy")
    assert (error.code, error.retryable) == ("provider_unavailable", True)
    assert "Overloaded" in str(error)


async def test_a_stream_that_is_cut_is_cut(provider: Provider) -> None:
    assert (await refused(provider, "cut")).code == "upstream_cut"
