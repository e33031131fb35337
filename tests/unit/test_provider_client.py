"""The provider client against a scripted provider on a real socket: what it yields, and how it closes."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.provider_calls import FAST, ask, at, calm_client, closed, events_of, generate, text_of
from tests.support.scripted_provider import ScriptedProvider, script_reasoning, script_text
from worker.providers.base import Finish, ProviderEvent, Said, Usage


async def test_a_whole_answer_is_yielded_piece_by_piece(upstream: ScriptedProvider) -> None:
    script = {"tokens": 300, "reasoning_tokens": 3, "tool_call": True}
    events = await generate(upstream.base_url, script)
    reasoning = [e.delta["reasoning"] for e in events if isinstance(e, Said) and "reasoning" in e.delta]
    calls = [e.delta["tool_call"] for e in events if isinstance(e, Said) and "tool_call" in e.delta]
    assert text_of(events) == script_text(script)
    assert reasoning == script_reasoning(script)
    assert json.loads("".join(c.get("arguments", "") for c in calls)) == {"query": "höchste Flut"}
    assert events[-2:] == [Usage(7, 300), Finish("tool_calls")]


async def test_characters_split_across_reads_stay_whole(upstream: ScriptedProvider) -> None:
    script = {"text": "流れ 🌊 é 👩‍🚀 Fluß", "chunk_bytes": 1}
    assert text_of(await generate(upstream.base_url, script)) == script["text"]


async def test_an_answer_on_uvloop_is_the_same() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def run() -> list[ProviderEvent]:
        async with ScriptedProvider() as upstream:
            return await generate(upstream.base_url, {"tokens": 30}, **FAST)

    runner = asyncio.to_thread(asyncio.Runner, loop_factory=uvloop.new_event_loop)
    events = await asyncio.to_thread((await runner).run, run())
    assert text_of(events) == script_text({"tokens": 30})


@pytest.mark.parametrize("end", ["no_done", "double_done"])
async def test_a_missing_or_doubled_end_mark_is_harmless(upstream: ScriptedProvider, end: str) -> None:
    events = await generate(upstream.base_url, {"tokens": 3, end: True})
    assert text_of(events) == script_text({"tokens": 3})
    assert [e for e in events if isinstance(e, Finish)] == [Finish("stop")]


async def test_bytes_behind_the_end_mark_are_ignored_and_a_repeated_reason_is_said_once(
    upstream: ScriptedProvider,
) -> None:
    end = 'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    raw = end.replace('"a"', '"A"') + end.replace('"a"', "null") + "data: [DONE]\n\ndata: garbage\n\n" + end
    assert await generate(upstream.base_url, {"raw": raw}) == [Said({"text": "A"}), Finish("stop")]


@pytest.mark.parametrize("behind", ["data: {garbage\n\n", 'data: {"error": "late"}\n\n', "x" * 5000])
async def test_a_whole_answer_is_not_spoilt_behind_a_finish_reason_that_stands_alone(
    upstream: ScriptedProvider, behind: str
) -> None:
    chunks = ['{"choices":[{"delta":{"content":"a"}}]}', '{"choices":[{"delta":{},"finish_reason":"length"}]}']
    raw = "".join(f"data: {chunk}\n\n" for chunk in chunks) + behind
    assert await generate(upstream.base_url, {"raw": raw}) == [Said({"text": "a"}), Finish("length")]


async def test_a_provider_that_stays_open_behind_its_finish_is_not_waited_for(
    upstream: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.providers.decoder.END_WAIT_S", 0.1)
    async with asyncio.timeout(60):
        events = await generate(upstream.base_url, {"tokens": 2, "linger_ms": 60_000})
    assert events[-2:] == [Usage(7, 2), Finish("stop")]
    assert await closed(upstream.calls[0]) == "client"


@pytest.mark.parametrize(
    "script", [{"hang_before_first": True}, {"hang_after": 2}, {"tokens": 5000, "interval_ms": 5}]
)
async def test_cancelling_closes_the_upstream_at_once_also_while_it_is_silent(
    upstream: ScriptedProvider, script: dict[str, Any]
) -> None:
    asking = asyncio.create_task(generate(upstream.base_url, script))
    async with asyncio.timeout(60):
        while not (upstream.calls and upstream.calls[0].sent >= script.get("hang_after", 0)):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    before = asyncio.get_running_loop().time()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await closed(upstream.calls[0]) == "client"
    assert asyncio.get_running_loop().time() - before < 1


async def test_closing_the_generator_closes_the_upstream_but_not_the_client(
    upstream: ScriptedProvider,
) -> None:
    async with calm_client() as client:
        events = events_of(client, at(upstream.base_url), ask({"tokens": 5000, "interval_ms": 5}))
        await anext(events)
        await events.aclose()
        assert await closed(upstream.calls[0]) == "client"


async def test_cancelling_while_it_waits_to_try_again_ends_the_wait(upstream: ScriptedProvider) -> None:
    asking = asyncio.create_task(generate(upstream.base_url, {"status": 429, "retry_after": 10}))
    async with asyncio.timeout(60):
        while not upstream.calls:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_reader_that_stops_holds_the_provider_by_tcp(upstream: ScriptedProvider) -> None:
    script = {"tokens": 200_000}
    async with calm_client() as client:
        events = events_of(client, at(upstream.base_url), ask(script))
        await anext(events)
        sent = -1
        async with asyncio.timeout(60):
            while upstream.calls[0].sent != sent:
                sent = upstream.calls[0].sent
                await asyncio.sleep(0.3)
        assert sent < 100_000
        await events.aclose()


async def test_more_streams_than_the_transports_own_limit_run_at_once(upstream: ScriptedProvider) -> None:
    async with calm_client() as client:

        async def one() -> str:
            script = {"name": "crowd", "hang_after": 1, "tokens": 2}
            return text_of([e async for e in events_of(client, at(upstream.base_url), ask(script))])

        crowd = [asyncio.create_task(one()) for _ in range(120)]
        async with asyncio.timeout(60):
            while sum(call.sent for call in upstream.calls) < 120:
                await asyncio.sleep(0.02)
            upstream.release("crowd")
            assert set(await asyncio.gather(*crowd)) == {script_text({"tokens": 2})}
