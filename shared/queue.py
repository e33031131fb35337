"""The queue side: arq's jobs, the wake-up list and the sorted set of unfinished streams.

A stream's life never hangs on the queue's bookkeeping, which is not fenced: a job that is lost or doubled
only costs a look (the claim script decides who runs), and a stream without a lease and without a job gets a
new job from the sweep. All of this may live on another server than the logs.
"""

import time
from collections.abc import Sequence
from typing import Final

import msgspec
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.jobs import serialize_job
from redis.asyncio import Redis

from shared.keys import Keys

JOB: Final = "generate"
JOB_LIFE_MS: Final = 24 * 3600 * 1000
"""As long as arq's own default: a job may wait for workers that long."""

CLOCK_SLACK_MS: Final = 60_000
"""arq runs a job whose score is not above its worker's own clock. The score is the Redis server's clock less
this, so that clocks up to a minute apart delay nobody, while the order stays the server's."""

WAKE_LIMIT: Final = 16
"""Wake-ups that wait at most: a worker that wakes takes all the jobs it has room for, so one for each of a
few workers is enough, and a burst of creates leaves no train of empty polls."""

job_serializer = msgspec.json.encode
job_deserializer = msgspec.json.decode


def job_id(stream_id: str, attempt: int) -> str:
    """The job that brings this attempt: one id, so that enqueuing twice is one job."""
    return f"{stream_id}:{attempt}"


def _job(stream_id: str, now_ms: int) -> bytes:
    job: bytes = serialize_job(JOB, (stream_id,), {}, None, now_ms, serializer=job_serializer)
    return job


class Queue:
    """The queue of one deployment."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def put(self, stream_id: str, attempt: int, server_ms: int) -> None:
        """Note the stream as unfinished and enqueue the job for its attempt: one transaction, idempotent.

        ``server_ms`` is the Redis server's clock, as the script that made the stream told it.
        """
        name = job_id(stream_id, attempt)
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.zadd(self._keys.unfinished, {stream_id: server_ms}, nx=True)
            pipe.set(job_key_prefix + name, _job(stream_id, server_ms), px=JOB_LIFE_MS)
            pipe.zadd(self._keys.queue, {name: server_ms - CLOCK_SLACK_MS}, nx=True)
            await pipe.execute()

    def first_job(self, stream_id: str) -> tuple[str, tuple[str | bytes | int, ...]]:
        """The first attempt's job, for ``joined.lua``: its key, and the arguments that tell of it.

        It was enqueued when this machine's clock says so: that stands in arq's log lines alone.
        """
        name = job_id(stream_id, 1)
        job = _job(stream_id, int(time.time() * 1000))
        return job_key_prefix + name, (name, job, JOB_LIFE_MS, CLOCK_SLACK_MS, WAKE_LIMIT)

    async def wake(self) -> None:
        """Wake one waiting worker (or leave the wake-up for the next that waits)."""
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.lpush(self._keys.queue_wake, b"1")
            pipe.ltrim(self._keys.queue_wake, 0, WAKE_LIMIT - 1)
            await pipe.execute()

    async def pick(self, names: Sequence[str], now_ms: int, life_ms: int) -> dict[str, int]:
        """Mark jobs as in progress, as arq does. In: the picker's clock, and the life of the mark. Out: the scores
        of those that are due, and that nobody else has."""
        async with self._client.pipeline(transaction=True) as pipe:
            for name in names:
                pipe.zscore(self._keys.queue, name)
                pipe.set(in_progress_key_prefix + name, b"1", nx=True, px=life_ms)
            raw = await pipe.execute()
        found = zip(names, raw[::2], raw[1::2], strict=True)
        marked = {name: score for name, score, is_new in found if is_new is not None}
        # Run by another worker, or put off, since they were seen.
        stale = [name for name, score in marked.items() if score is None or score > now_ms]
        if stale:
            await self._client.delete(*(in_progress_key_prefix + name for name in stale))
        return {name: int(score) for name, score in marked.items() if name not in stale}

    async def unmark(self, name: str) -> None:
        """This job is not in progress any more: whoever picks it next may have it."""
        await self._client.delete(in_progress_key_prefix + name)

    async def forget_jobs(self, names: Sequence[str]) -> None:
        """Take jobs out of arq's keys, also what marks them as in progress: once claimed, the lease and the sweep
        carry a stream; and a picker that died claims nothing more."""
        async with self._client.pipeline(transaction=True) as pipe:
            for name in names:
                pipe.zrem(self._keys.queue, name)
                pipe.delete(job_key_prefix + name, retry_key_prefix + name, in_progress_key_prefix + name)
            await pipe.execute()

    async def jobs(self, names: Sequence[str]) -> list[tuple[bool, int]]:
        """For the sweep: (is queued, ms until its in-progress mark runs out, or -2 without one) of each."""
        async with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zscore(self._keys.queue, name)
                pipe.pttl(in_progress_key_prefix + name)
            raw = await pipe.execute()
        return [(score is not None, ttl) for score, ttl in zip(raw[::2], raw[1::2], strict=True)]

    async def unfinished(self, start: int, count: int) -> list[str]:
        """A page of the unfinished streams, oldest first."""
        raw = await self._client.zrange(self._keys.unfinished, start, start + count - 1)
        return [item.decode() for item in raw]

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
