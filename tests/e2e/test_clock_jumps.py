"""Redis's clock goes back by an hour: creates, take-overs, viewers and readiness go on at once."""

import asyncio
from pathlib import Path

from redis.asyncio import Redis

from shared.store.keys import Keys
from tests.support.clocks import set_ahead
from tests.support.stack import Stack, running_stack

HOUR_MS = 3_600_000
KEYS = Keys("headrace")


async def leap(stack: Stack) -> list[str]:
    async with Redis.from_url(stack.server.url) as redis:
        return await set_ahead(redis, HOUR_MS)


async def test_a_clock_jump_stops_no_creates_viewers_or_readiness(tmp_path: Path) -> None:
    limits = {"HEADRACE_CREATIONS_PER_MINUTE": "60", "HEADRACE_VIEWERS_PER_STREAM": "2"}
    async with running_stack(tmp_path, **limits) as stack:
        first = await stack.create({"tokens": 3})
        await stack.until_status(first["id"], "done")
        assert KEYS.creations("") in await leap(stack)
        again = await stack.create({"tokens": 3})
        await stack.until_status(again["id"], "done")
        await stack.until_ready()
        metrics = (await stack.client.get("/metrics")).text
        assert "headrace_workers 1.0" in metrics
        # The workers that ended with the old clock are no workers.
        stack.workers[0].kill()
        await leap(stack)
        assert (await stack.client.get("/readyz")).json()["code"] == "no_workers"


async def test_the_streams_of_a_lost_worker_are_taken_up(tmp_path: Path) -> None:
    """Its lease, the turn to sweep, its streams' places among the unfinished: all of it would hold for an hour."""
    async with running_stack(tmp_path) as stack:
        script = {"tokens": 40, "hang_after": 20, "name": "lost"}
        created = await stack.create(script, on_failure="restart")
        await stack.until_said(created["id"])
        stack.workers[0].kill()
        stack.provider.release("lost")
        waiting = await stack.create({"tokens": 3})
        async with Redis.from_url(stack.server.url) as redis:
            await redis.set(KEYS.sweeper, b"1", px=400)
            changed = await set_ahead(redis, HOUR_MS)
            assert {KEYS.sweeper, KEYS.unfinished, KEYS.queue, KEYS.stream(created["id"]).lease} <= {*changed}
        worker = await stack.add_worker()
        record = await stack.until_status(created["id"], "done")
        assert record["attempt"] == 2
        await stack.until_status(waiting["id"], "done")
        assert "clock_went_back" in worker.output()


async def test_a_running_stream_survives_a_clock_jump(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        created = await stack.create({"tokens": 30, "hang_after": 15, "name": "runs"})
        await stack.until_said(created["id"])
        await leap(stack)
        await asyncio.sleep(1.5)
        stack.provider.release("runs")
        record = await stack.until_status(created["id"], "done")
        assert record["attempt"] == 1, "nobody judged its lease by the clock"
