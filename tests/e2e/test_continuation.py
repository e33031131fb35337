"""A lost attempt is continued: no restart, no lost word, no doubled one."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from shared.config.providers import Provider
from tests.support.processes import Child
from tests.support.provider_calls import calm_client, events_of, text_of
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack
from tests.support.up import Up
from tests.support.viewing import Seen, view_to_end
from worker.providers.base import Finish, GenerationRequest, ProviderError, Usage


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """A stack whose provider carries on, and whose logs are short."""
    async with running_stack(tmp_path, workers=2, LOCAL_CONTINUES="prefill", HEADRACE_LOG_CAP="50") as made:
        yield made


async def test_a_killed_worker_s_answer_goes_on_in_mid_sentence(stack: Stack) -> None:
    script = {"tokens": 400, "interval_ms": 5, "hang_after": 200, "name": "on"}
    made = await stack.create(script)
    viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
    await stack.until_said(made["id"], 800)
    (await stack.carrier(made["id"])).kill()
    stack.provider.release("on")
    seen = await viewing
    assert seen.types == ["started", "continued", "finishing", "done"]
    assert seen.text == script_text(script)
    assert len(stack.calls("on")) == 2
    record = await stack.record(made["id"])
    assert record["text"] == seen.text
    late = await view_to_end(stack.client, made["events_url"])
    assert late.text == seen.text


async def test_a_handed_over_answer_goes_on(stack: Stack) -> None:
    script = {"tokens": 100, "interval_ms": 5, "hang_after": 50, "name": "hand"}
    made = await stack.create(script)
    viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
    await stack.until_said(made["id"], 50)
    (await stack.carrier(made["id"])).send(signal.SIGTERM)
    await stack.until_closed("hand")
    stack.provider.release("hand")
    seen = await viewing
    assert seen.types == ["started", "continued", "finishing", "done"]
    assert seen.text == script_text(script)


async def test_an_upstream_cut_in_mid_answer_goes_on(stack: Stack) -> None:
    script = {"tokens": 60, "interval_ms": 5, "cut_after": 20, "fail_times": 1, "name": "cut"}
    made = await stack.create(script)
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.types == ["started", "continued", "finishing", "done"]
    assert seen.text == script_text(script)


async def test_an_answer_cut_in_its_reasoning_starts_over(stack: Stack) -> None:
    script = {"tokens": 20, "reasoning_tokens": 100, "interval_ms": 30, "name": "think"}
    made = await stack.create(script)
    viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
    async with asyncio.timeout(60):
        while not (await stack.record(made["id"])).get("reasoning"):
            await asyncio.sleep(0.02)
    (await stack.carrier(made["id"])).send(signal.SIGTERM)
    seen = await viewing
    assert seen.types == ["started", "restart", "finishing", "done"]
    assert seen.text == script_text(script)


async def test_the_real_model_s_sentence_goes_on_after_its_worker_was_killed(model: object, tmp_path: Path) -> None:
    with Up(tmp_path) as up:
        await asyncio.to_thread(up.wait_up)
        async with httpx.AsyncClient(base_url=up.url, timeout=60) as client:
            body = {"prompt": "Tell a long story about a mill at a river.", "max_tokens": 40, "temperature": 0}
            # At temperature 0, on one machine, the model says the same again, and behind any of its words as well.
            unbroken = await view_to_end(client, (await client.post("/v1/streams", json=body)).json()["events_url"])
            made = (await client.post("/v1/streams", json=body)).json()
            seen = Seen()
            viewing = asyncio.create_task(view_to_end(client, made["events_url"], seen=seen))
            async with asyncio.timeout(60):
                while len(seen.text) < len(unbroken.text) / 3:
                    await asyncio.sleep(0.02)
            before = seen.text
            workers = [pid for name, pid in up.state()["children"].items() if name.startswith("worker")]
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            await asyncio.wait_for(viewing, 90)
            record = (await client.get(made["url"])).json()
    assert seen.types == ["started", "continued", "finishing", "done"]
    assert seen.text == record["text"]
    # What is left of max_tokens is reckoned from the text, so one of the two may end some words earlier.
    common = min(len(seen.text), len(unbroken.text))
    assert common > len(before) + 40
    assert seen.text[:common] == unbroken.text[:common]
    print(json.dumps({"before": before[-60:], "behind": seen.text[len(before) : len(before) + 60]}))


@pytest.mark.parametrize("prefix", ["", "The sky is", "The sky is "])
async def test_the_real_model_says_the_same_over_both_of_its_wire_formats(model: Child, prefix: str) -> None:
    turns = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why is the sky blue?"}]
    asked = GenerationRequest("smollm2", turns, max_tokens=12, temperature=0.0, prefix=prefix, continues="prefill")
    async with calm_client() as client:
        for wire_format in ("openai", "anthropic"):
            provider = Provider("local", wire_format, model.url, "")
            events = [event async for event in events_of(client, provider, asked)]
            said = " ".join((prefix + text_of(events)).split())
            assert said.startswith("The sky ")
            assert "  " not in prefix + text_of(events)
            assert [event for event in events if isinstance(event, Finish)] == [Finish("length")]
            counted = [event for event in events if isinstance(event, Usage)][-1]
            assert counted.output_tokens == 12
            assert counted.input_tokens


async def test_the_real_model_s_refusal_has_its_code_over_both_of_its_wire_formats(model: Child) -> None:
    asked = GenerationRequest("smollm2", [{"role": "user", "content": "x " * 5000}])
    async with calm_client() as client:
        for wire_format in ("openai", "anthropic"):
            with pytest.raises(ProviderError) as caught:
                await anext(events_of(client, Provider("local", wire_format, model.url, ""), asked))
            assert (caught.value.code, caught.value.refusal) == ("context_too_long", True)
            assert "context size" in str(caught.value)
