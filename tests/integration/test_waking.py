"""arq's worker with the wake-up, on a real server: what the sweep may do to it."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from arq.worker import func

from shared.connections import open_client
from shared.keys import Keys
from shared.queue import JOB, Queue, job_deserializer, job_serializer
from tests.support.processes import Server
from worker.waking import WakingWorker, WiredArq

KEYS = Keys("t")


# arq itself closes its pool by a name that redis-py calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Generate = Callable[[dict[str, Any], str], Coroutine[Any, Any, None]]


@asynccontextmanager
async def working(url: str, generate: Generate, max_jobs: int = 10) -> AsyncIterator[Queue]:
    """A worker's queue, while it runs: it takes a job out of the queue, and then runs it. In the end it is told to
    end, and what it runs is cancelled."""
    client, wake_client, pool = (open_client(url) for _ in range(3))
    queue = Queue(client, KEYS)

    async def claimed(ctx: dict[str, Any], stream_id: str) -> None:
        await queue.forget_jobs([ctx["job_id"]])
        await generate(ctx, stream_id)

    worker = WakingWorker(
        [func(claimed, name=JOB, timeout=100, max_tries=1, keep_result=0)],
        redis_pool=WiredArq(
            pool.connection_pool,
            job_serializer=job_serializer,
            job_deserializer=job_deserializer,
            default_queue_name=KEYS.queue,
        ),
        queue_name=KEYS.queue,
        wake_client=wake_client,
        wake_key=KEYS.queue_wake,
        queue=queue,
        max_jobs=max_jobs,
        job_serializer=job_serializer,
        job_deserializer=job_deserializer,
        handle_signals=False,
        log_results=False,
    )
    running = asyncio.create_task(worker.main())
    try:
        yield queue
        # Its own loop is not cancelled: it looks for itself.
        worker.handle_sig(signal.SIGTERM)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(running, 5)
        async with asyncio.timeout(5):
            await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
        # As its loop would do. arq's close raises what was cancelled while it was finished.
        worker.tasks.clear()
    finally:
        running.cancel()
        await worker.close()
        for opened in (client, wake_client, pool):
            await opened.aclose()


async def test_sigterm_reaches_a_job_that_the_sweep_gave_twice(valkey: Server) -> None:
    begun, ended = [], []

    async def generate(ctx: dict[str, Any], stream_id: str) -> None:
        begun.append(stream_id)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(stream_id)

    async with working(valkey.url, generate) as queue:
        for _ in range(2):
            # As the sweep does with a job whose picker seems to have died.
            await queue.forget_jobs(["s:1"])
            await queue.put("s", 1, await queue.now_ms())
            await queue.wake()
            await asyncio.sleep(1.5)
        assert begun == ["s"]
    assert ended == ["s"]


async def test_each_job_of_a_burst_runs_once_and_leaves_nothing_behind(valkey: Server) -> None:
    begun: Counter[str] = Counter()

    async def generate(ctx: dict[str, Any], stream_id: str) -> None:
        begun[stream_id] += 1

    async with working(valkey.url, generate, max_jobs=7) as queue, working(valkey.url, generate, max_jobs=7):
        now_ms = await queue.now_ms()
        await asyncio.gather(*(queue.put(f"s{n}", 1, now_ms + n) for n in range(100)))
        await queue.wake()
        async with asyncio.timeout(10):
            # A picker that came too late takes its mark back in its next call.
            while len(begun) < 100 or set(await queue.jobs([f"s{n}:1" for n in range(100)])) != {(False, -2)}:
                await asyncio.sleep(0.05)
        assert set(begun.values()) == {1}


async def test_a_free_slot_passes_over_jobs_that_others_have(valkey: Server) -> None:
    begun = []

    async def generate(ctx: dict[str, Any], stream_id: str) -> None:
        begun.append(stream_id)

    client = open_client(valkey.url)
    queue = Queue(client, KEYS)
    now_ms = await queue.now_ms()
    others = [f"other{n}:1" for n in range(5)]
    for n, name in enumerate(others):
        await queue.put(name.partition(":")[0], 1, now_ms - 100 + n)
    assert set(await queue.pick(others, now_ms, 60_000)) == set(others)
    await queue.put("mine", 1, now_ms)
    async with working(valkey.url, generate, max_jobs=1):
        async with asyncio.timeout(5):
            while await queue.waiting() > len(others):
                await asyncio.sleep(0.01)
        assert begun == ["mine"]
    await client.aclose()


async def test_a_mark_is_left_on_no_job_that_is_gone_or_put_off(valkey: Server) -> None:
    client = open_client(valkey.url)
    queue = Queue(client, KEYS)
    now_ms = await queue.now_ms()
    await queue.put("due", 1, now_ms)
    await queue.put("later", 1, now_ms + 3_600_000)
    names = ["due:1", "later:1", "gone:1"]
    assert set(await queue.pick(names, now_ms, 60_000)) == {"due:1"}
    assert [ttl > 0 for _, ttl in await queue.jobs(names)] == [True, False, False]
    assert await queue.pick(names, now_ms, 60_000) == {}, "the second picker gets nothing"
    await client.aclose()
