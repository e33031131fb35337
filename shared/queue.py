"""The queue side: arq's jobs, and the sorted set of unfinished streams.

A stream's life never hangs on the queue's bookkeeping, which is not fenced: a job that is lost or doubled
only costs a look (the claim script decides who runs), and a stream without a lease and without a job gets a
new job from the sweep. So a worker takes its jobs out of arq's queue by the very call that waits for them, and
marks none as in progress but those that the claim puts off; and a job is its name alone, for the record tells what
is to be done. arq's own way (a wake-up, a look at the queue, a mark for each job, its payload, and taking it out
behind the claim) is four round trips a stream, a quarter of all that a stream costs its worker beside its tokens.
All of this may live on another server than the logs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from arq.constants import in_progress_key_prefix, job_key_prefix
from redis.asyncio import Redis

from shared.events import encode_data
from shared.keys import Keys

JOB: Final = "generate"


def job_id(stream_id: str, attempt: int) -> str:
    """The job that brings this attempt: one id, so that enqueuing twice is one job."""
    return f"{stream_id}:{attempt}"


JOB_LIFE_MS: Final = 48 * 3600 * 1000
"""Of a job's payload: longer than a stream waits. The sweep writes a new job for a stream whose payload is gone."""


def job_key(job: str) -> str:
    """Where arq keeps a job's payload."""
    return job_key_prefix + job


def job_payload(stream_id: str) -> bytes:
    """A job in arq's own form (:func:`arq.jobs.serialize_job`), as JSON."""
    return encode_data({"t": None, "f": JOB, "a": [stream_id], "k": {}, "et": 0})


class Queue:
    """The queue of one deployment."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def put(self, stream_id: str, attempt: int, server_ms: int) -> None:
        """Note the stream as unfinished and enqueue the job for its attempt: one transaction, idempotent.

        ``server_ms``: its place in line, by the Redis server's clock.
        """
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.zadd(self._keys.unfinished, {stream_id: server_ms}, nx=True)
            job = job_id(stream_id, attempt)
            pipe.set(job_key(job), job_payload(stream_id), px=JOB_LIFE_MS)
            pipe.zadd(self._keys.queue, {job: server_ms}, nx=True)
            await pipe.execute()

    async def take(self, most: int, wait_s: float, client: Redis | None = None) -> dict[str, int]:
        """Take jobs out of the queue, oldest first; where there are none, wait until one comes or the time is over.

        In: ``client``, whose connection is kept for so long; None: wait for nothing. Out: the jobs with their
        places in line, for :meth:`put_back`.
        """
        raw: Any
        if client is None:
            raw = await self._client.zpopmin(self._keys.queue, most)
        else:
            _, raw = await client.bzmpop(wait_s, 1, [self._keys.queue], min=True, count=most) or (b"", ())  # type: ignore[misc]
        return {name.decode(): int(float(score)) for name, score in raw}

    async def put_back(self, jobs: Mapping[str, int]) -> None:
        """Jobs that were taken go back to their places in line."""
        if jobs:
            await self._client.zadd(self._keys.queue, dict(jobs), nx=True)

    async def put_off(self, name: str, life_ms: int) -> None:
        """Mark a job as in progress, as arq does: it was taken, and whoever has it waits for its stream."""
        await self._client.set(in_progress_key_prefix + name, b"1", px=life_ms)

    async def jobs(self, names: Sequence[str]) -> list[bool]:
        """For the sweep: whether each is queued, or marked as in progress."""
        async with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zscore(self._keys.queue, name)
                pipe.exists(in_progress_key_prefix + name)
            raw = await pipe.execute()
        return [score is not None or bool(marked) for score, marked in zip(raw[::2], raw[1::2], strict=True)]

    async def unfinished(self, start: int, count: int) -> dict[str, int]:
        """A page of the unfinished streams, oldest first, with when they were created (ms, the server's clock)."""
        raw = await self._client.zrange(self._keys.unfinished, start, start + count - 1, withscores=True)
        return {item.decode(): int(score) for item, score in raw}

    async def finished(self, *stream_ids: str) -> None:
        """These streams need no sweep any more."""
        if stream_ids:
            await self._client.zrem(self._keys.unfinished, *stream_ids)

    async def waiting(self) -> int:
        """How many jobs wait."""
        return int(await self._client.zcard(self._keys.queue))

    async def now_ms(self) -> int:
        """The queue server's clock."""
        seconds, micros = await self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def take_turn(self, life_ms: int) -> bool:
        """Whether it is this worker's turn to sweep: one worker each ``life_ms``. Only saves work."""
        return bool(await self._client.set(self._keys.sweeper, b"1", nx=True, px=life_ms))

    async def sign_of_life(self, worker: str, now_ms: int, forget_before_ms: int) -> None:
        """Note that a worker is there; forget those silent for long."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.zadd(self._keys.workers, {worker: now_ms})
            pipe.zremrangebyscore(self._keys.workers, "-inf", forget_before_ms)
            await pipe.execute()

    async def sign_off(self, worker: str) -> None:
        """A worker leaves."""
        await self._client.zrem(self._keys.workers, worker)

    async def workers(self, seen_since_ms: int) -> int:
        """How many workers gave a sign of life since then (ms of the server's clock)."""
        return int(await self._client.zcount(self._keys.workers, seen_since_ms, "+inf"))

    async def cancelled(self, stream_id: str) -> None:
        """Tell the stream's worker, whichever it is, and all readers."""
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.publish(self._keys.cancelled_channel, stream_id)
            pipe.publish(self._keys.wake_channel, stream_id)
            await pipe.execute()

    async def hint(self, stream_id: str) -> None:
        """Tell the readers that a log changed."""
        await self._client.publish(self._keys.wake_channel, stream_id)

    async def secret(self, proposal: str) -> str:
        """The secret behind idempotency keys: the first proposal ever made stays."""
        await self._client.set(self._keys.secret, proposal, nx=True)
        value = await self._client.get(self._keys.secret)
        return (value or proposal.encode()).decode()
