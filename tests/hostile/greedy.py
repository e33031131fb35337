"""Attacks by much: one key that asks for more than its share of workers, queue, providers or Redis."""

import asyncio
import time
from typing import Any

from redis.asyncio import Redis

from tests.hostile.attack import Attack, Told
from tests.hostile.bystander import MODEL as BYSTANDERS_MODEL
from tests.hostile.world import BEHIND, HOSTILE, SCRIPTED, World, spread

LONG = {"tokens": 100, "interval_ms": 2000}
"""Longer than the attack, and little work for the provider: it is in the bystander's or the attacker's process."""
LASTS_S = 6.0
"""How long the bystander goes on beside what was asked for."""
FINISHED = 400
FINISHED_BYTES = 3 * 1024
"""What a finished stream may take of Redis beside its text."""
STORED_MB = 256
"""What one key may put into Redis, which has 512 MB here."""


async def _many(world: World, told: Told, count: int, script: Any, *, of: str = "", **body: Any) -> None:
    await spread(48, (world.create(told, script, of=of, **body) for _ in range(count)))


async def long_streams(world: World, told: Told) -> None:
    """1,000 streams that go on forever, of one key."""
    await _many(world, told, 1000, LONG, model=SCRIPTED)
    await asyncio.sleep(LASTS_S)


async def long_streams_of_its_provider(world: World, told: Told) -> None:
    """The same at the provider that answers the bystander."""
    await _many(world, told, 400, LONG, model=BYSTANDERS_MODEL)
    await asyncio.sleep(LASTS_S)


async def paused_streams(world: World, told: Told) -> None:
    """250 streams that pause since nobody reads them, more than a worker has places."""
    count = 250 * len(world.stack.workers)
    await _many(world, told, count, LONG, model=SCRIPTED, flow="client", pause_after=2)
    await asyncio.sleep(LASTS_S)


async def slow_provider(world: World, told: Told) -> None:
    """250 streams of a provider that never answers."""
    count = 250 * len(world.stack.workers)
    await _many(world, told, count, {"harm": "silence", "name": "slow"}, model=HOSTILE)
    await asyncio.sleep(LASTS_S)


async def full_queue(world: World, told: Told) -> None:
    """Five keys that ask for more than the queue holds, of a provider that never answers."""
    script = {"harm": "silence", "name": "queue"}
    await asyncio.gather(
        *(
            _many(world, told, 200 * len(world.stack.workers), script, of=name, model=HOSTILE)
            for name in (world.me, *BEHIND)
        )
    )
    await asyncio.sleep(LASTS_S)


async def filled_redis(world: World, told: Told) -> None:
    """1,300 prompts of 250 kB that wait: Redis has room for them, and nothing else then."""
    prompt = "x" * 250_000
    # First the places are taken, so that the prompts wait.
    await _many(world, told, 250, {"harm": "silence", "name": "places"}, model=HOSTILE)
    before = await world.used_memory()
    await _many(world, told, 1300, prompt, model=HOSTILE)
    stored = (await world.used_memory() - before) / 1024 / 1024
    told.figures.append(f"{stored:.0f} MB stored")
    told.expect(stored <= STORED_MB, f"one key stored {stored:.0f} MB in Redis")
    answer = await world.stack.client.get("/readyz")
    told.expect(answer.status_code == 200, f"readyz: {answer.status_code} {answer.text[:200]}")
    await asyncio.sleep(2)


async def finished_streams(world: World, told: Told) -> None:
    """What is left in Redis of each of many small streams, when they have ended."""
    prompt = {"tokens": 3}
    await _many(world, told, 20, prompt)
    before = await world.used_memory()
    began = time.monotonic()
    await _many(world, told, FINISHED, prompt)
    async with Redis.from_url(world.stack.server.url, decode_responses=True) as redis:
        while await redis.zcard("headrace:unfinished") > 10 and time.monotonic() < began + 20:
            await asyncio.sleep(0.2)
    await asyncio.sleep(1)
    each = (await world.used_memory() - before) / FINISHED
    told.figures.append(f"{each / 1024:.1f} KiB each")
    told.expect(each <= FINISHED_BYTES, f"a finished stream takes {each / 1024:.1f} KiB of Redis")


ATTACKS = (
    Attack("1,000 long streams of one key", long_streams, also=("202", "429")),
    Attack("400 long streams at the bystander's provider", long_streams_of_its_provider, also=("202", "429")),
    Attack("250 paused streams", paused_streams, also=("202", "429")),
    Attack("250 streams of a provider that never answers", slow_provider, also=("202", "429")),
    Attack("400 small finished streams", finished_streams, also=("202",)),
    Attack(
        "1,300 waiting prompts of 250 kB",
        filled_redis,
        ("429", "413", "507", "503"),
        ("202",),
        growth_mb={"redis": STORED_MB + 64},
    ),
    Attack("five keys fill the queue", full_queue, ("429",), ("202",), where="tight"),
)
