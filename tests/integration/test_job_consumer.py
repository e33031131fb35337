"""arq's worker that waits for its jobs, on a real server: what comes while it is full, drains or ends."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq.worker import func

from shared.redis import open_client
from shared.store.keys import Keys
from shared.store.queue import JOB, Job, Lane, Queue, Shares
from tests.support.processes import Server
from worker.job_consumer import JobConsumer, MultiplexedArq
from worker.places import Places

KEYS = Keys("t")
NOBODY = Lane()
ROOM = Shares(10, 10)


# arq itself closes its pool by a name that redis-py calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Generate = Callable[[dict[str, Any], str], Coroutine[Any, Any, None]]


@asynccontextmanager
async def working(url: str, generate: Generate, max_jobs: int = 10) -> AsyncIterator[JobConsumer]:
    """A worker, while it runs. In the end it is told to end, and what it runs is cancelled."""
    waiting_client, client = open_client(url), open_client(url)
    pool = MultiplexedArq(client.connection_pool)
    worker = JobConsumer(
        Queue(pool, KEYS),
        waiting_client,
        Places(max_jobs),
        redis_pool=pool,
        functions=[func(generate, name=JOB)],
        queue_name=KEYS.queue,
        max_jobs=max_jobs,
        handle_signals=False,
        log_results=False,
    )
    worker.main_task = running = asyncio.create_task(worker.main())
    try:
        yield worker
        # Its own loop is not cancelled: it looks for itself.
        worker.handle_sig(signal.SIGTERM)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(running, 90)
    finally:
        running.cancel()
        await worker.close()
        for opened in (client, waiting_client):
            await opened.aclose()


@asynccontextmanager
async def queue_at(url: str) -> AsyncIterator[Queue]:
    """The queue, as others see it."""
    async with open_client(url) as client:
        yield Queue(client, KEYS)


async def test_sigterm_reaches_a_job_that_the_sweep_gave_twice(valkey: Server) -> None:
    begun, ended = [], []

    async def generate(ctx: dict[str, Any], stream_id: str) -> None:
        begun.append(stream_id)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(stream_id)

    async with queue_at(valkey.url) as queue:
        async with working(valkey.url, generate):
            for _ in range(2):
                # As the sweep does with a job whose taker seems to have died.
                await queue.put("s", 1, NOBODY)
                await asyncio.sleep(0.5)
                assert await queue.waiting() == 0
            assert begun == ["s", "s"], "the claim decides which of them runs"
        assert ended == ["s", "s"]


async def test_each_job_of_a_burst_runs_once_and_leaves_the_queue(valkey: Server) -> None:
    begun: Counter[str] = Counter()

    async def generate(ctx: dict[str, Any], stream_id: str) -> None:
        begun[stream_id] += 1

    async with queue_at(valkey.url) as queue:
        async with working(valkey.url, generate, max_jobs=7), working(valkey.url, generate, max_jobs=7):
            now_ms = await queue.now_ms()
            await asyncio.gather(*(queue.put(f"s{n}", 1, NOBODY, now_ms + n) for n in range(100)))
            async with asyncio.timeout(60):
                while len(begun) < 100:
                    await asyncio.sleep(0.05)
        assert set(begun.values()) == {1}
        assert await queue.waiting() == 0


async def test_a_full_worker_leaves_jobs_to_others_and_takes_the_oldest_when_it_has_room(valkey: Server) -> None:
    begun: list[str] = []
    go_on = asyncio.Event()

    async def generate(ctx: dict[str, Any], stream_id: str) -> None:
        begun.append(stream_id)
        await go_on.wait()

    async with queue_at(valkey.url) as queue, working(valkey.url, generate, max_jobs=1):
        now_ms = await queue.now_ms()
        for n, name in enumerate(("first", "third", "second")):
            await queue.put(name, 1, NOBODY, now_ms + (0, 2, 1)[n])
            await asyncio.sleep(0.3)
        assert begun == ["first"]
        assert await queue.waiting() == 2
        go_on.set()
        async with asyncio.timeout(60):
            while len(begun) < 3:
                await asyncio.sleep(0.01)
        assert begun == ["first", "second", "third"]


async def test_a_draining_worker_puts_back_what_it_still_takes(valkey: Server) -> None:
    async def generate(ctx: dict[str, Any], stream_id: str) -> None:
        raise AssertionError

    async with queue_at(valkey.url) as queue, working(valkey.url, generate) as worker:
        await asyncio.sleep(0.3)  # it waits for jobs
        worker.allow_pick_jobs = False
        now_ms = await queue.now_ms()
        await queue.put("s", 1, NOBODY, now_ms)
        await asyncio.sleep(0.5)
        assert (await queue.take(ROOM)).jobs == [Job("s:1::", "s", now_ms)], "its place in line is the same"
        assert worker.jobs_failed == 0


async def test_a_job_counts_as_one_that_is_there_while_it_waits_and_nobody_has_marked_it(valkey: Server) -> None:
    async with queue_at(valkey.url) as queue, open_client(valkey.url) as redis:
        await queue.put("s", 1, NOBODY, 1)
        assert await queue.jobs(["s:1::", "t:1::"]) == [True, False]
        await redis.set("arq:in-progress:s:1::", b"1")  # a worker of arq's has it, or died with it
        assert await queue.jobs(["s:1::"]) == [False]
        await queue.put("s", 1, NOBODY, 2)
        assert await queue.jobs(["s:1::"]) == [True]
        assert (await queue.take(ROOM)).jobs == [Job("s:1::", "s", 1)]
        assert await queue.jobs(["s:1::"]) == [False]


async def test_jobs_put_back_or_handed_over_at_the_end_are_left_to_others(valkey: Server) -> None:
    async with queue_at(valkey.url) as queue:

        async def generate(ctx: dict[str, Any], stream_id: str) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)  # what is said is written, and the stream given back
                await queue.put(stream_id, 2, NOBODY, 1)

        async with working(valkey.url, generate) as worker:
            await queue.put("s", 1, NOBODY, 1)
            async with asyncio.timeout(60):
                while not worker.tasks:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)  # it waits for the next
            worker.handle_sig(signal.SIGTERM)
            async with asyncio.timeout(60):
                while worker.tasks:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            assert (await queue.take(ROOM)).jobs == [Job("s:2::", "s", 1)]
