"""Redis dies, stops and comes back under streams and creates."""

import asyncio
import time
from itertools import pairwise

from redis.asyncio import Redis

from shared.store.keys import Keys
from tests.support.script import script_text
from tests.support.stack import Stack
from tests.support.viewing import Seen, view, view_to_end

SCRIPT = {"tokens": 120, "interval_ms": 40, "name": "redis", "numbered": True}


def follows_without_holes(seen: Seen) -> bool:
    """Within each epoch the numbers rise by one; a snapshot may stand between."""
    numbers = [tuple(map(int, seen_id.split("-"))) for seen_id, event in zip(seen.ids, seen.events, strict=True)]
    snapshots = {index for index, (kind, _) in enumerate(seen.events) if kind == "snapshot"}
    return all(
        two[0] > one[0] or two[1] == one[1] + 1 or index + 1 in snapshots
        for index, (one, two) in enumerate(pairwise(numbers))
    )


async def test_a_server_killed_and_restarted_under_a_stream_leaves_no_hole(stack: Stack) -> None:
    made = await stack.create(SCRIPT)
    viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
    await stack.until_said(made["id"], 30)
    await asyncio.to_thread(stack.server.kill)
    await asyncio.sleep(1.0)
    await asyncio.to_thread(stack.server.start_again)
    seen = await asyncio.wait_for(viewing, 90)
    record = await stack.record(made["id"])
    assert record["status"] == "done"
    assert seen.text == record["text"] == script_text(SCRIPT, call=record["attempt"])
    assert follows_without_holes(seen)
    late = await view_to_end(stack.client, made["events_url"])
    assert late.text == seen.text


async def test_a_server_that_stands_still_for_longer_than_the_lease_restarts_nothing(stack: Stack) -> None:
    made = await stack.create(SCRIPT)
    viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
    await stack.until_said(made["id"], 30)
    stack.server.pause()
    await asyncio.sleep(4.5)
    stack.server.resume()
    seen = await asyncio.wait_for(viewing, 90)
    assert seen.text == script_text(SCRIPT, call=1)
    assert "restart" not in seen.types
    assert len(stack.calls("redis")) == 1


async def test_a_create_without_redis_is_a_503_within_two_seconds_and_leaves_nothing(stack: Stack) -> None:
    stack.server.pause()
    began = time.monotonic()
    paused = await stack.client.post("/v1/streams", json={"prompt": "{}"})
    took_s = time.monotonic() - began
    stack.server.resume()
    assert paused.status_code == 503
    assert paused.json()["code"] == "redis_unavailable"
    assert took_s < 3.0, "a generous reading of two seconds"
    await asyncio.to_thread(stack.server.kill)
    dead = await stack.client.post("/v1/streams", json={"prompt": "{}"})
    assert dead.status_code == 503
    assert dead.json()["code"] == "redis_unavailable"
    assert dead.headers["retry-after"]
    assert (await stack.client.get("/readyz")).status_code == 503
    assert (await stack.client.get("/healthz")).status_code == 200
    await asyncio.to_thread(stack.server.start_again)
    await stack.until_ready()
    made = await stack.create({"tokens": 3, "name": "after"})
    await stack.until_status(made["id"], "done")
    assert [call.name for call in stack.provider.calls] == ["after"]


async def test_a_viewer_that_comes_while_redis_is_away_is_told_to_come_back(stack: Stack) -> None:
    made = await stack.create({"tokens": 3})
    await stack.until_status(made["id"], "done")
    await asyncio.to_thread(stack.server.kill)
    answer = await stack.client.get(made["events_url"], timeout=60)
    assert answer.status_code == 200
    assert answer.text.startswith("retry: ")
    assert "data:" not in answer.text
    await asyncio.to_thread(stack.server.start_again)
    async with asyncio.timeout(60):
        while not (seen := await view(stack.client, made["events_url"])).ended:
            await asyncio.sleep(0.2)
    assert seen.text == script_text({"tokens": 3})


async def test_an_erased_stream_that_a_worker_looks_for_slows_no_other(stack: Stack) -> None:
    busy = await stack.create({"tokens": 1500, "interval_ms": 20, "name": "busy"})
    await stack.until_said(busy["id"])
    async with Redis.from_url(stack.server.url) as redis:

        async def entries_in_two_seconds() -> int:
            before = await redis.xlen(Keys("headrace").log(busy["id"]))
            await asyncio.sleep(2)
            return await redis.xlen(Keys("headrace").log(busy["id"])) - before

        calm = await entries_in_two_seconds()
        short = await stack.create({"tokens": 2})
        await stack.until_status(short["id"], "done")
        await stack.client.delete(short["url"])
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(1.5)
        assert await entries_in_two_seconds() > calm / 2
    await stack.client.post(f"{busy['url']}/cancel")
