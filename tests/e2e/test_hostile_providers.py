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

from shared.store.keys import Keys
from tests.support.bystander import beside
from tests.support.hostile_provider import HABITS
from tests.support.proc import peak, resident
from tests.support.processes import ROOT, base_env
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
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
        process.wait(60)
        process.stdout.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    directory: Path = tmp_path_factory.mktemp("hostile-providers")
    with hostile_provider() as url:
        async with running_stack(directory, OPENAI_BASE_URL=url, OPENAI_API_KEY="sk-for-nobody") as made:
            yield made


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


@pytest.mark.timeout(300)
async def test_an_endless_provider_is_given_up_and_a_bystander_hardly_feels_it(stack: Stack) -> None:
    pids = (stack.workers[0].pid, stack.apis[0].pid)
    habits = list(HABITS) * OF_EACH
    async with beside(stack) as bystander:
        before = [resident(pid) for pid in pids]
        began = time.monotonic()
        made = await asyncio.gather(
            *(stack.create("hello", model=f"openai/{habit}", on_failure="fail") for habit in habits)
        )
        await ended(stack, made, 200)
        took = time.monotonic() - began
        await settled_as_bounded(stack, habits, made)
    grown = [round(peak(pid) - least) for pid, least in zip(pids, before, strict=True)]
    gap_ms = 1000 * bystander.longest_gap_s
    print(f"{len(made)} endless answers: {took:.1f} s, gap {gap_ms:.0f} ms, grown by {grown} MiB")
    # Whoever is held up until the attack is over waits for all of it. On a free machine the gap is below 0.5 s.
    assert bystander.longest_gap_s < max(bystander.allowed_s, took / 4)
    assert max(grown) < MAX_GROWTH_MIB
