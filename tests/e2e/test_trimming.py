"""A log that is shorter than its answer: the snapshot and the tail tell everything."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.keys import Keys
from tests.support.script import script_reasoning, script_text
from tests.support.stack import Stack, running_stack
from tests.support.viewing import Seen, view, view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAP = 50
SCRIPT = {"tokens": 3000, "interval_ms": 3, "reasoning_tokens": 20, "tool_call": True}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    directory: Path = tmp_path_factory.mktemp("trimming")
    async with running_stack(directory, HEADRACE_LOG_CAP=str(CAP), HEADRACE_LINGER_S="0") as made:
        yield made


async def log_length(stack: Stack, stream_id: str) -> int:
    async with Redis.from_url(stack.server.url) as redis:
        return int(await redis.xlen(Keys("headrace").log(stream_id)))


async def until_trimmed(stack: Stack, stream_id: str) -> None:
    """Until the log's beginning is gone. What was said does not tell: a busy machine gathers words."""
    async with asyncio.timeout(30), Redis.from_url(stack.server.url) as redis:
        while (await redis.xrange(Keys("headrace").log(stream_id), count=1))[0][1][b"e"] in (b"queued", b"started"):
            await asyncio.sleep(0.1)


async def test_late_and_lost_viewers_get_one_snapshot_and_the_exact_answer(stack: Stack) -> None:
    made = await stack.create({**SCRIPT, "name": "late"})
    first = await view(stack.client, made["events_url"], most=5)
    cursor = first.last_id
    await until_trimmed(stack, made["id"])
    late = await view_to_end(stack.client, made["events_url"])
    assert late.types[0] == "snapshot"
    assert late.types.count("snapshot") == 1
    lost = await view(stack.client, made["events_url"], Seen(ids=[cursor]))
    assert lost.types[0] == "snapshot"
    wanted = script_text(SCRIPT)
    for seen in (late, lost):
        assert seen.text == wanted
        assert seen.types[-1] == "done"
    record = await stack.record(made["id"])
    assert record["text"] == wanted
    assert record["reasoning"] == "".join(script_reasoning(SCRIPT))
    assert record["tool_calls"][0]["arguments"] == '{"query": "höchste Flut"}'
    snapshot = next(data for kind, data in late.events if kind == "snapshot")
    assert snapshot["reasoning"] == "".join(script_reasoning(SCRIPT))
    # MAXLEN ~ trims whole nodes of 100 entries.
    assert CAP <= await log_length(stack, made["id"]) <= CAP + 200


async def test_a_viewer_that_falls_behind_the_log_ends_with_the_exact_answer(stack: Stack) -> None:
    made = await stack.create({**SCRIPT, "name": "slow"})
    seen = Seen()
    while not seen.ended:
        await view(stack.client, made["events_url"], seen, most=3)
        await asyncio.sleep(1.0)
    assert seen.text == script_text(SCRIPT)
    assert "snapshot" in seen.types
