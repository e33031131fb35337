"""arq's worker with the wake-up, on a real server: what the sweep may do to it."""

import asyncio
import contextlib
import signal
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
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_sigterm_reaches_a_job_that_the_sweep_gave_twice(valkey: Server) -> None:
    begun, ended = [], []

    async def generate(ctx: dict[str, Any], stream_id: str) -> None:
        begun.append(stream_id)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(stream_id)

    client, wake_client, pool = (open_client(valkey.url) for _ in range(3))
    queue = Queue(client, KEYS)
    worker = WakingWorker(
        [func(generate, name=JOB, timeout=100, max_tries=1, keep_result=0)],
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
        job_serializer=job_serializer,
        job_deserializer=job_deserializer,
        handle_signals=False,
        log_results=False,
    )
    running = asyncio.create_task(worker.main())
    try:
        for _ in range(2):
            # As the sweep does with a job whose picker seems to have died.
            await queue.forget_jobs(["s:1"])
            await queue.put("s", 1, await queue.now_ms())
            await queue.wake()
            await asyncio.sleep(1.5)
        assert begun == ["s"]
        # Its own loop is not cancelled: it looks for itself.
        worker.handle_sig(signal.SIGTERM)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(running, 5)
        async with asyncio.timeout(5):
            await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
        assert ended == ["s"]
    finally:
        await worker.close()
        for opened in (client, wake_client, pool):
            await opened.connection_pool.disconnect()
