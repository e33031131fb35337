"""A log that is shorter than its answer: the snapshot and the tail tell everything."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.protocol.sse import SseParser
from shared.store.keys import Keys
from tests.chaos.viewer import Viewer
from tests.support.script import script_reasoning, script_text
from tests.support.sse_socket import SseSocket
from tests.support.stack import Stack, running_stack
from tests.support.viewing import Seen, view, view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAP = 200
SCRIPT = {"tokens": 5000, "interval_ms": 0.8, "reasoning_tokens": 20, "tool_call": True}
RETENTION_S = 5
ROOM = 2
"""The snapshot's string grows by doubling."""
ENTRY = 150
"""Bytes of an entry: its id, its type, and what a few tokens are as JSON. Usually half of that."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    directory: Path = tmp_path_factory.mktemp("trimming")
    async with running_stack(
        directory,
        HEADRACE_MAX_ANSWER_BYTES=str(64 * 1024 * 1024),
        HEADRACE_LOG_CAP=str(CAP),
        HEADRACE_FLUSH_MS="1",  # entries of one token or two, so that there are many
        HEADRACE_LINGER_S="0",
        HEADRACE_RETENTION_S=str(RETENTION_S),
    ) as made:
        yield made


async def log_length(stack: Stack, stream_id: str) -> int:
    async with Redis.from_url(stack.server.url) as redis:
        return int(await redis.xlen(Keys("headrace").log(stream_id)))


async def memory(stack: Stack, stream_id: str) -> dict[str, int]:
    """What each of the stream's keys takes in Redis (bytes)."""
    async with Redis.from_url(stack.server.url) as redis:
        return {
            key.decode().rpartition(":")[2]: int(await redis.memory_usage(key, samples=0) or 0)
            async for key in redis.scan_iter(f"*{{{stream_id}}}*")
        }


async def until_trimmed(stack: Stack, stream_id: str) -> None:
    """Until the log's beginning is gone. What was said does not tell: a busy machine gathers words."""
    async with asyncio.timeout(60), Redis.from_url(stack.server.url) as redis:
        while (await redis.xrange(Keys("headrace").log(stream_id), count=1))[0][1][b"e"] in (b"queued", b"started"):
            await asyncio.sleep(0.1)


async def test_late_and_lost_viewers_get_one_snapshot_and_the_exact_answer(stack: Stack) -> None:
    made = await stack.create({**SCRIPT, "name": "late"})
    first = await view(stack.client, made["events_url"], most=5)
    cursor = first.last_id
    await until_trimmed(stack, made["id"])
    late, lost = await asyncio.gather(
        view_to_end(stack.client, made["events_url"]),
        view_to_end(stack.client, made["events_url"], seen=Seen(ids=[cursor])),
    )
    for seen in (late, lost):
        assert seen.types[0] == "snapshot"
        assert seen.types.count("snapshot") == 1
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
    taken, text = await memory(stack, made["id"]), len(wanted.encode())
    print(f"{sum(taken.values()) / 1000:.0f} kB with a cap of {CAP}, for {text / 1000:.0f} kB of text: {taken}")
    assert sum(taken.values()) < ROOM * text + ENTRY * (CAP + 100)


async def test_a_slow_viewer_that_stays_falls_behind_the_log_and_ends_with_the_exact_answer(stack: Stack) -> None:
    # Megabytes: two sockets hold three or four of them.
    script = {"tokens": 5000, "interval_ms": 0.8, "times": 250, "name": "slow"}
    made = await stack.create(script)
    viewer = Viewer("slow")
    parser = SseParser(max_bytes=16 * 1024 * 1024)
    url = stack.apis[0].url + made["events_url"]
    async with await SseSocket.open(url, receive_buffer=65_536) as response, aclosing(response.body()) as pieces:
        running = asyncio.create_task(stack.until_status(made["id"], "done"))
        async for piece in pieces:
            for event in parser.feed(piece):
                viewer.take(event)
            if not running.done():
                await asyncio.wait([running], timeout=0.5)
    record = await running
    assert [seen.kind for seen in viewer.events].count("started") == 1
    assert "snapshot" in [seen.kind for seen in viewer.events]
    assert viewer.over, "all of that came over one response"
    assert viewer.answer.text == record["text"] == script_text(script)


async def test_a_finished_stream_expires_after_the_retention_and_a_running_one_never(stack: Stack) -> None:
    script = {"tokens": 10, "hang_after": 5, "name": "running"}
    running = await stack.create(script)
    ended = await stack.create({"tokens": 5, "name": "ended"})
    await stack.until_status(ended["id"], "done")
    ended_at = time.monotonic()
    await stack.until_said(running["id"])
    async with asyncio.timeout(RETENTION_S + 10):
        while (await stack.client.get(ended["url"])).status_code == 200:
            await asyncio.sleep(0.1)
    took_s = time.monotonic() - ended_at
    assert RETENTION_S - 1 < took_s < RETENTION_S + 5
    assert (await stack.client.get(ended["url"])).status_code == 404
    assert await memory(stack, ended["id"]) == {}
    stack.provider.release("running")
    record = await stack.until_status(running["id"], "done")
    assert record["text"] == script_text(script)
