"""The three kinds of backpressure, each against a real provider that would go on without it."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.script import script_text
from tests.support.scripted_answer import Call
from tests.support.scripted_provider import ScriptedProvider
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")


TABLE = """
[few]
wire_format = "openai"
base_url = "{url}"
max_concurrent = 2

[slow]
wire_format = "openai"
base_url = "{url}"
rate_per_second = 50
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def limited() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(limited: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Two workers; ``local`` is free, ``few`` takes two at once, ``slow`` gives 50 tokens a second."""
    directory = tmp_path_factory.mktemp("backpressure")
    (directory / "providers.toml").write_text(TABLE.format(url=limited.base_url), encoding="utf-8")
    async with running_stack(directory, workers=2, HEADRACE_PROVIDERS_FILE="providers.toml") as made:
        yield made


def at_once(calls: list[Call]) -> int:
    """The most calls that were open at the same moment."""
    moments = [(call.started, 1) for call in calls] + [(call.closed_at or time.monotonic(), -1) for call in calls]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


# -- batch yielding ---------------------------------------------------------------------------------


async def test_a_viewer_may_have_fewer_larger_events_and_misses_nothing(stack: Stack) -> None:
    script = {"tokens": 120, "interval_ms": 5, "reasoning_tokens": 3}
    made = await stack.create(script)
    every, batched = await asyncio.gather(
        view_to_end(stack.client, made["events_url"]),
        view_to_end(stack.client, made["events_url"] + "?batch_size=30&batch_ms=5000"),
    )
    assert batched.text == every.text == script_text(script)
    count = [len([kind for kind, _ in seen.events if kind == "message"]) for seen in (every, batched)]
    assert count[1] * 3 < count[0], count


async def test_a_batch_goes_by_its_age(stack: Stack) -> None:
    made = await stack.create({"tokens": 5, "interval_ms": 1, "hang_after": 5, "name": "age"})
    url = made["events_url"] + "?batch_size=1000&batch_ms=300"
    async with asyncio.timeout(60), stack.client.stream("GET", url, timeout=60) as response:
        async for line in response.aiter_lines():
            if '"text"' in line:
                break
        else:
            raise AssertionError("it ended without a word")
    await stack.client.post(f"{made['url']}/cancel")


async def test_a_batching_viewer_learns_its_place_in_line_while_it_waits(stack: Stack) -> None:
    holding = [await stack.create({"tokens": 1, "hang_after": 1, "name": "held"}, model="few/any") for _ in "12"]
    for one in holding:
        await stack.until_status(one["id"], "running")
    made = await stack.create({"tokens": 5}, model="few/any")
    url = made["events_url"] + "?batch_ms=50000"
    async with asyncio.timeout(60), stack.client.stream("GET", url, timeout=60) as response:
        async for line in response.aiter_lines():
            if line == "event: waiting":
                break
        else:
            raise AssertionError("it ended, and no place was told")
    for one in (made, *holding):
        await stack.client.post(f"{one['url']}/cancel")


@pytest.mark.parametrize("query", ["batch_size=0", "batch_size=x", "batch_ms=0", "batch_ms=600000"])
async def test_batches_out_of_bounds_are_refused(stack: Stack, query: str) -> None:
    made = await stack.create({"tokens": 1})
    answer = await stack.client.get(f"{made['events_url']}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


# -- rate limiting ----------------------------------------------------------------------------------


async def test_calls_of_all_workers_stay_within_the_limit_and_in_order(
    stack: Stack, limited: ScriptedProvider
) -> None:
    names = [f"turn{n}" for n in range(6)]
    made = []
    for name in names:
        script = {"tokens": 30, "interval_ms": 30, "name": name}
        made.append(await stack.create(script, model="few/any"))
        await asyncio.sleep(0.05)
    waiting = await stack.until_status(made[5]["id"], "waiting")
    assert waiting["text"] == ""
    seen = await asyncio.gather(*(view_to_end(stack.client, one["events_url"]) for one in made))
    assert [one.types[-1] for one in seen] == ["done"] * 6
    calls = [call for name in names for call in limited.calls if call.name == name]
    assert at_once(calls) == 2
    places = [data["place"] for kind, data in seen[5].events if kind == "waiting"]
    assert places == sorted(places, reverse=True)
    assert places[0] > places[-1] >= 1, "it moves up"
    starts = [call.started for call in calls]
    assert all(later >= min(starts[:2]) for later in starts[2:])
    assert max(starts[:2]) < min(starts[2:4]) < max(starts[4:]), "whoever came first goes first"


async def test_a_dead_worker_gives_its_turns_back(stack: Stack) -> None:
    holders = [
        await stack.create({"tokens": 5, "hang_after": 2, "name": "dead"}, model="few/any", on_failure="fail")
        for _ in range(2)
    ]
    for one in holders:
        await stack.until_said(one["id"])
    third = await stack.create({"tokens": 3, "name": "after"}, model="few/any")
    await stack.until_status(third["id"], "waiting")
    for worker in {await stack.carrier(one["id"]) for one in holders}:
        worker.kill()
        await stack.add_worker()
    assert (await stack.until_status(third["id"], "done"))["text"]


async def test_a_stream_is_read_at_its_pace(stack: Stack) -> None:
    made = await stack.create({"tokens": 100, "name": "pace"}, model="slow/any")
    record = await stack.until_status(made["id"], "done")
    took_ms = record["timings"]["total_ms"] - record["timings"]["first_token_ms"]
    assert took_ms > 1000, "100 tokens at 50 a second; the provider has them at once"
    assert record["text"] == script_text({"tokens": 100})


# -- client awareness -------------------------------------------------------------------------------

SLOW: dict[str, Any] = {"tokens": 250, "interval_ms": 20}


async def test_a_stream_that_nobody_reads_pauses_and_goes_on_with_a_sign_of_life(stack: Stack) -> None:
    made = await stack.create({**SLOW, "name": "aware"}, flow="client", pause_after=2)
    paused = await stack.until_status(made["id"], "paused")
    await asyncio.sleep(1.0)
    assert (await stack.record(made["id"]))["text"] == paused["text"], "not a word more"
    assert (await stack.client.post(f"{made['url']}/heartbeat")).status_code == 204
    async with asyncio.timeout(60):
        while len((await stack.record(made["id"]))["text"]) <= len(paused["text"]):
            await asyncio.sleep(0.05)
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.text == script_text(SLOW)
    kinds = [kind for kind, _ in seen.events]
    assert kinds.index("paused") < kinds.index("resumed")


async def test_an_open_viewer_is_a_sign_of_life(stack: Stack) -> None:
    script = {"tokens": 120, "interval_ms": 30}
    made = await stack.create(script, flow="client", pause_after=2)
    seen = await view_to_end(stack.client, made["events_url"])
    assert "paused" not in seen.types
    assert seen.text == script_text(script)


async def test_a_stream_that_stays_alone_is_given_up_and_its_upstream_closed(stack: Stack) -> None:
    made = await stack.create({**SLOW, "name": "alone"}, flow="client", pause_after=2, abandon_after=1)
    record = await stack.until_status(made["id"], "cancelled")
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.events[-1][1]["reason"] == "abandoned"
    assert (await stack.until_closed("alone")).closed_by == "client"
    assert record["text"] == seen.text


async def test_a_provider_that_closes_a_paused_stream_is_a_clear_failure(stack: Stack) -> None:
    script = {**SLOW, "cut_after": 60, "name": "closes"}
    made = await stack.create(script, flow="client", pause_after=2, on_failure="fail")
    await stack.until_status(made["id"], "paused", "failed")
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.events[-1][0] == "failed"
    assert seen.events[-1][1]["code"] == "upstream_cut"


async def test_a_stream_that_was_not_told_to_pause_runs_on_alone(stack: Stack) -> None:
    made = await stack.create({"tokens": 120, "interval_ms": 20}, pause_after=2)
    record = await stack.until_status(made["id"], "done")
    assert record["text"] == script_text({"tokens": 120})
