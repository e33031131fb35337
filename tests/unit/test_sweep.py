"""The sweep: what it gives a job, what it leaves alone, and what it takes out of the unfinished."""

from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from arq.constants import in_progress_key_prefix
from redis.asyncio import Redis

from shared.redis import load_scripts
from shared.store.keys import Keys
from shared.store.new_stream import BEING_MADE_MS, NewStream, new_nonce
from shared.store.queue import Job, Lane, Queue, Shares
from shared.store.quotas import Quotas
from shared.store.streams import Streams
from worker.background import sweep
from worker.background.sweep import YOUNG_MS, Sweep

KEYS = Keys("t")
LEASE_MS = 3000
NOBODY = Lane()
ROOM = Shares(10, 10)


class Steady:
    """Leases that were renewed all the time, of nothing."""

    renewed: frozenset[str] = frozenset()

    def steady_s(self) -> float:
        return 60.0


class Swept:
    """A server, and the sweep of a worker that carries nothing."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.streams = Streams(redis, KEYS, load_scripts(shebang=False), tries=1)
        self.queue = Queue(redis, KEYS)
        leases: Any = Steady()
        self.limits = Quotas(redis, KEYS)
        times: dict[str, int] = {"lease_ms": LEASE_MS, "retention_ms": 60_000}
        self.sweep = Sweep(self.streams, self.queue, self.limits, leases, **times)
        self.apart = Sweep(self.streams, self.queue, self.limits, leases, **times, may_differ=True)

    async def create(self, stream_id: str, age_ms: int = 2 * YOUNG_MS) -> None:
        """A stream without a job."""
        fields = {"request": "{}", "about": "{}", "model": "m", "on_failure": "continue"}
        await self.streams.record(NewStream(stream_id, "h", "", b"{}", fields), new_nonce(), 9_000_000_000_000)
        await self.note(stream_id, age_ms)

    async def note(self, stream_id: str, age_ms: int) -> None:
        await self.redis.zadd(KEYS.unfinished, {stream_id: await self.queue.now_ms() - age_ms})

    async def tick(self) -> int:
        await self.redis.delete(KEYS.sweeper)
        return await self.sweep.tick()


@pytest_asyncio.fixture
async def swept(redis: Redis) -> Swept:
    return Swept(redis)


async def test_a_job_that_was_lost_with_its_taker_is_given_anew(swept: Swept) -> None:
    await swept.create("lost")
    await swept.queue.put("lost", 1, NOBODY, 1)
    assert await swept.tick() == 0, "it waits"
    assert (await swept.queue.take(ROOM)).jobs == [Job("lost:1::", "lost", 1)]
    assert await swept.tick() == 1
    assert [job.id for job in (await swept.queue.take(ROOM)).jobs] == ["lost:1::"]


async def test_a_job_whose_taker_died_with_it_is_free_for_others_again(swept: Swept) -> None:
    """A worker of arq's marks a job for as long as it may run, before it takes it out of the queue."""
    mark = in_progress_key_prefix + "lost:1::"
    await swept.create("lost")
    await swept.queue.put("lost", 1, NOBODY, 1)
    await swept.redis.set(mark, b"1")
    assert await swept.tick() == 1
    assert not await swept.redis.exists(mark)
    assert (await swept.queue.take(ROOM)).jobs == [Job("lost:1::", "lost", 1)], "its place in line is the same"


@pytest.mark.parametrize("why", ["young", "waits", "claimed", "being made"])
async def test_a_stream_that_is_young_or_held_gets_no_job(swept: Swept, why: str) -> None:
    if why == "being made":
        await swept.note("s", BEING_MADE_MS - 5000)
    else:
        await swept.create("s", age_ms=0 if why == "young" else 2 * YOUNG_MS)
    if why == "waits":
        await swept.queue.put("s", 1, NOBODY, 1)
    elif why == "claimed":
        claim = await swept.streams.claim("s", "w", LEASE_MS, 3)
        assert claim.outcome == "run"
    assert await swept.tick() == 0
    assert await swept.queue.waiting() == (why == "waits")
    assert list(await swept.queue.unfinished(0, 10)) == ["s"]


async def test_a_stream_that_ended_or_was_given_up_leaves_the_unfinished(swept: Swept) -> None:
    for stream_id in ("ended", "runs"):
        await swept.create(stream_id, age_ms=0)
    await swept.note("given up", 2 * BEING_MADE_MS)
    await swept.streams.cancel("ended", b"{}", 60_000, False)
    await swept.tick()
    assert list(await swept.queue.unfinished(0, 10)) == ["runs"]


async def test_an_end_that_the_server_of_the_logs_lost_is_found_where_the_queue_is_another_one(
    swept: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(sweep, "time", SimpleNamespace(monotonic=lambda: clock.now))
    swept.sweep = swept.apart
    meta = {name: KEYS.stream(name).meta for name in ("kept", "lost")}
    for name in meta:
        await swept.create(name)
        await swept.redis.hset(meta[name], "status", "done")
    assert await swept.tick() == 0
    # A replica takes over that did not have the end.
    await swept.redis.hset(meta["lost"], "status", "running")
    clock.now += sweep.SECOND_LOOK_S / 2
    assert await swept.tick() == 0
    assert await swept.redis.zcard(KEYS.unfinished) == 2
    clock.now += sweep.SECOND_LOOK_S
    assert await swept.tick() == 1
    assert await swept.redis.zrange(KEYS.unfinished, 0, -1) == [b"lost"]
