"""Providers that never end: each is given up within its bounds, and a bystander in its worker hardly feels it."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.protocol.sse import SseParser
from shared.store.keys import Keys
from tests.support.hostile_provider import HABITS
from tests.support.proc import peak, resident
from tests.support.processes import ROOT, base_env
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
MAX_GAP_S = 1.5
"""That a bystander may wait for, with a token each 50 ms. It is below 0.5 where this machine does nothing else."""
ROUNDS = 3
"""As often as the bystander may be made to wait: what else the machine does passes, and a fault comes again."""
OF_EACH = 2
MAX_GROWTH_MIB = OF_EACH * len(HABITS) * 16
"""Of a process, with so many answers at once: each within 4 MiB, told, kept for a while and on its way."""

LIMITED = {
    "text": "answer_bytes",
    "crumbs": "answer_bytes",
    "reasoning": "answer_bytes",
    "behind_the_reason": "answer_bytes",
    "reason_on_all": "answer_bytes",
    "long_ids": "tool_calls",
    "many_calls": "tool_calls",
}
SETTLED = ("behind_done", "pings_behind_the_reason")


@contextmanager
def hostile_provider() -> Iterator[str]:
    argv = [sys.executable, "-m", "tests.support.hostile_provider"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=base_env())
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.stdin.close()
        process.wait(5)
        process.stdout.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    directory: Path = tmp_path_factory.mktemp("hostile-providers")
    with hostile_provider() as url:
        async with running_stack(directory, OPENAI_BASE_URL=url, OPENAI_API_KEY="sk-for-nobody") as made:
            yield made


class Bystander:
    """Watches a stream of 20 tokens a second; ``gap_s`` is the longest time between two of its tokens."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.gap_s = 0.0
        self.tokens = 0

    async def watch(self) -> None:
        made = await self._stack.create({"tokens": 100_000, "interval_ms": 50})
        parser, last = SseParser(), 0.0
        try:
            async with self._stack.client.stream("GET", made["events_url"], timeout=30) as response:
                async for data in response.aiter_bytes():
                    now = time.monotonic()
                    said = [event for event in parser.feed(data) if event.event == "message"]
                    if said and last:
                        self.gap_s = max(self.gap_s, now - last)
                    last = now if said else last
                    self.tokens += len(said)
        finally:
            await self._stack.client.post(f"/v1/streams/{made['id']}/cancel", json={})


async def ended(stack: Stack, made: list[dict[str, Any]], within_s: float) -> None:
    """Wait until all of them ended. Their records are large, so the server itself is asked."""
    async with Redis.from_url(stack.server.url) as redis, asyncio.timeout(within_s):
        for one in made:
            while await redis.hget(Keys("headrace").stream(one["id"]).meta, "status") in (b"queued", b"running"):
                await asyncio.sleep(0.05)


async def settled_as_bounded(stack: Stack, habits: list[str], made: list[dict[str, Any]]) -> None:
    """Assert that each of these ended as the bound that it met says."""
    records = [await stack.record(one["id"]) for one in made]
    for habit, record in zip(habits, records, strict=True):
        told = (record["status"], record["finish_reason"], record["limit"], (record["error"] or {}).get("code"))
        if habit in LIMITED:
            assert told == ("done", "length", LIMITED[habit], None), habit
        elif habit in SETTLED:
            assert told == ("done", "stop", None, None), habit
        elif record["status"] == "done":
            assert told == ("done", "length", "answer_bytes", None), habit
        else:
            assert told[3] in ("provider_garbage", "upstream_cut"), (habit, told)
        assert len(json.dumps(record)) < 16 * MIB


async def test_an_endless_provider_is_given_up_and_a_bystander_hardly_feels_it(stack: Stack) -> None:
    pids = (stack.workers[0].pid, stack.apis[0].pid)
    bystander = Bystander(stack)
    watching = asyncio.create_task(bystander.watch())
    async with asyncio.timeout(20):
        while bystander.tokens < 40:
            await asyncio.sleep(0.02)
    quiet_s = bystander.gap_s
    before = [resident(pid) for pid in pids]
    habits = list(HABITS) * OF_EACH
    for _ in range(ROUNDS):
        bystander.gap_s = 0.0
        began = time.monotonic()
        made = await asyncio.gather(
            *(stack.create("hello", model=f"openai/{habit}", on_failure="fail") for habit in habits)
        )
        await ended(stack, made, 120)
        took = time.monotonic() - began
        await settled_as_bounded(stack, habits, made)
        if bystander.gap_s < max(MAX_GAP_S, 10 * quiet_s):
            break
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    grown = [round(peak(pid) - least) for pid, least in zip(pids, before, strict=True)]
    print(f"{len(made)} endless answers: {took:.1f} s, gap {bystander.gap_s * 1000:.0f} ms, grown by {grown} MiB")
    assert bystander.gap_s < max(MAX_GAP_S, 10 * quiet_s)
    assert max(grown) < MAX_GROWTH_MIB
