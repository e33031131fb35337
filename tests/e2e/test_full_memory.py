"""Redis's memory, on real processes: what a stream leaves there, who is refused when it runs short, and what goes
on."""

import asyncio
import json
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from api.streams.memory import FULL
from shared.store.streams import RECORD_BYTES
from tests.support.keyed_stack import post, with_keys
from tests.support.stack import Stack, running_stack

BODY = {"prompt": json.dumps({"tokens": 3})}
PROMPT = "x" * 100_000


async def fill(redis: Redis, share: float) -> None:
    """Set the bound so that this share of it is used."""
    used = int((await redis.info("memory"))["used_memory"])
    await redis.config_set("maxmemory", int(used / share))


async def until_ready(stack: Stack, status: int, **wanted: Any) -> None:
    async with asyncio.timeout(60):
        while True:
            answer = await stack.client.get("/readyz")
            if answer.status_code == status and wanted.items() <= answer.json().items():
                return
            await asyncio.sleep(0.1)


async def test_a_finished_stream_takes_less_than_3_kb_beside_its_text(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack, Redis.from_url(stack.server.url) as redis:
        script = {"tokens": 3, "seed": 1}

        async def run(count: int) -> int:
            made = [await stack.create({**script, "padding": PROMPT[:5000]}) for _ in range(count)]
            for one in made:
                await stack.until_status(one["id"], "done")
            keys = [key for key in await redis.keys("headrace:{*") if b":lease" not in key]
            sizes = [await redis.memory_usage(key, samples=0) for key in keys]
            return int(sum(size or 0 for size in sizes) * 3 / len(keys))

        size = await run(30)
        print(f"a finished stream takes {size} bytes")
        assert size < RECORD_BYTES


async def test_creates_are_refused_before_running_streams_are_hurt(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack, Redis.from_url(stack.server.url) as redis:
        kept = {"Idempotency-Key": "k"}
        running = await stack.create({"tokens": 400, "interval_ms": 20}, headers=kept)
        await stack.until_said(running["id"])
        await fill(redis, FULL + 0.03)
        await until_ready(stack, 200, creates="refused")
        refused = await stack.client.post("/v1/streams", json=BODY)
        assert (refused.status_code, refused.json()["code"]) == (503, "redis_full")
        script = {"prompt": json.dumps({"tokens": 400, "interval_ms": 20})}
        again = await stack.client.post("/v1/streams", json=script, headers=kept)
        assert again.json()["id"] == running["id"], "a repeated create takes nothing"
        said = len((await stack.record(running["id"]))["text"])
        await stack.until_said(running["id"], said + 20)
        await redis.config_set("maxmemory", 0)
        await until_ready(stack, 200, creates="taken")
        assert (await stack.client.post("/v1/streams", json=BODY)).status_code == 202
        await stack.client.post(f"/v1/streams/{running['id']}/cancel")


async def test_workers_at_full_memory_show_that_they_live_and_readyz_names_it(tmp_path: Path) -> None:
    async with (
        running_stack(tmp_path, HEADRACE_LEASE_MS="1000") as stack,
        Redis.from_url(stack.server.url) as redis,
    ):
        running = await stack.create({"hang_before_first": True, "name": "h"})
        await stack.until_status(running["id"], "running", "waiting")
        await fill(redis, 2)
        await until_ready(stack, 503, code="redis_full")
        await asyncio.sleep(7)  # longer than a worker counts as alive that is silent, and than its leases
        await until_ready(stack, 503, code="redis_full")
        await redis.config_set("maxmemory", 0)
        await until_ready(stack, 200)
        record = await stack.record(running["id"])
        assert record["attempt"] == 1, "its worker kept it"
        await stack.client.post(f"/v1/streams/{running['id']}/cancel")


async def test_one_key_stores_a_part_of_the_memory_and_is_told_what_is_left(tmp_path: Path) -> None:
    async with (
        with_keys(tmp_path, "greedy", "other", workers=0) as (stack, keys),
        Redis.from_url(stack.server.url) as redis,
    ):
        used = int((await redis.info("memory"))["used_memory"])
        await redis.config_set("maxmemory", used + 8_000_000)
        await asyncio.sleep(1.5)
        prompt: dict[str, object] = {"tokens": 1, "padding": PROMPT}
        codes = []
        while not codes or (codes[-1] == 202 and len(codes) < 100):
            await asyncio.sleep(0.03)
            codes.append((await post(stack, keys.headers("greedy"), prompt)).status_code)
        assert codes[-1] == 429
        assert 10 < len(codes) < 60, "about a half of what was free"
        problem = (await post(stack, keys.headers("greedy"), prompt)).json()
        assert problem["code"] == "too_many_bytes"
        assert "This key may store" in problem["detail"]
        assert (await post(stack, keys.headers("other"), prompt)).status_code == 202


async def test_bytes_of_a_key_can_be_set_and_come_back(tmp_path: Path) -> None:
    settings = {"HEADRACE_BYTES_PER_KEY": "250000", "HEADRACE_RETENTION_S": "2"}
    async with with_keys(tmp_path, "one", **settings) as (stack, keys):
        prompt: dict[str, object] = {"hang_before_first": True, "name": "h", "padding": PROMPT}
        made = [await post(stack, keys.headers("one"), prompt) for _ in range(3)]
        assert [answer.status_code for answer in made] == [202, 202, 429]
        assert made[2].json()["code"] == "too_many_bytes"
        url = made[0].json()["url"]
        assert (await stack.client.delete(url, headers=keys.headers("one"))).status_code == 204
        assert (await post(stack, keys.headers("one"), prompt)).status_code == 202
