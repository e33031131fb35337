"""The queue side: arq's jobs, and the sorted set of unfinished streams.

Theory of operation. A job has arq's own form: its id stands in the queue's sorted set, and its payload under
``arq:job:<id>``. So a program that knows arq alone can enqueue a job here, and arq's own worker can run one.
Payloads are JSON. arq's default is pickle, which is never read: whoever can write to Redis must not be able to run
code in a worker.

A stream's life never hangs on the queue's bookkeeping, which is not fenced: a job that is lost or doubled
only costs a look (the claim script decides who runs), and a stream without a lease and without a job gets a
new job from the sweep. So a worker takes jobs out of the queue by the very call that waits for them, and reads and
deletes the payloads of all that it took in one more round trip. arq's own way is four round trips a job: a look at
the queue, a mark (``arq:in-progress:<id>``), the payload, and taking the job out at its end.
A payload that nobody takes expires after a day; a job without one is dropped, and the sweep sees to its stream.
All of this may live on another server than the logs.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import structlog
from arq.constants import expires_extra_ms, in_progress_key_prefix, job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from redis.asyncio import Redis

from shared.keys import Keys

JOB: Final = "generate"
"""The function that every job names. It takes the stream's id."""
JOB_LIFE_MS: Final = expires_extra_ms
MAX_MS: Final = 10**14
"""The year 5138. arq's worker breaks at a time that is no date."""

SET_BACK: Final = 10_000
"""Entries that one sweep sets back: more than wait by default. The next one goes on."""
WORKER_SEEN_MS: Final = 5000
"""Workers show themselves each second; five missed ones are no hiccup any more."""

log = structlog.get_logger("shared.queue")


class Job(NamedTuple):
    """A job that was taken out of the queue."""

    id: str
    stream_id: str
    place: float
    """Its place in line: when it was enqueued (ms)."""


class BadJob(ValueError):
    """The payload is no job that runs here; the text says why, for people."""


class Payload(msgspec.Struct):
    """A job as arq writes it: function, arguments, keyword arguments, try, and when it was enqueued (ms)."""

    f: str
    a: list[Any]
    k: dict[str, Any]
    t: int | None
    et: Annotated[int, msgspec.Meta(ge=0, le=MAX_MS)]

    @property
    def stream_id(self) -> str:
        """Raises :class:`BadJob` where this is no call of :data:`JOB` with a stream's id."""
        if self.f != JOB:
            raise BadJob(f"unknown function {self.f[:40]!r}: jobs here name {JOB!r}")
        match [*self.a, *self.k.items()]:
            case [str(stream_id)] | [("stream_id", str(stream_id))]:
                return stream_id
        raise BadJob(f"wrong arguments: {JOB!r} takes one, the stream's id")


def job_id(stream_id: str, attempt: int) -> str:
    """The job that brings this attempt: one id, so that enqueuing twice is one job."""
    return f"{stream_id}:{attempt}"


def job_key(name: str) -> str:
    """Where the payload of the job with this id stands."""
    return job_key_prefix + name


def job_payload(stream_id: str) -> bytes:
    """The payload of this stream's next job, as arq writes it."""
    return serialize_job(JOB, (stream_id,), {}, None, timestamp_ms(), serializer=msgspec.json.encode)


def read_payload(raw: bytes) -> Payload:
    """Read a payload that anybody may have written. Raises :class:`BadJob`."""
    try:
        return msgspec.json.decode(raw, type=Payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadJob(f"no job in JSON ({error}): set job_serializer to JSON, for pickle is never read") from None


def serialize(data: dict[str, Any]) -> bytes:
    """What arq's worker takes as ``job_serializer``: JSON. Errors among results are written as their texts."""
    return msgspec.json.encode(data, enc_hook=str)


def deserialize(raw: bytes) -> dict[str, Any]:
    """What arq's worker takes as ``job_deserializer``. Raises :class:`BadJob`, also for what is no call of JOB."""
    payload = read_payload(raw)
    _ = payload.stream_id
    return msgspec.structs.asdict(payload)


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
            self._enqueue(pipe, Job(job_id(stream_id, attempt), stream_id, server_ms))
            await pipe.execute()

    def _enqueue(self, pipe: Any, job: Job) -> None:
        pipe.set(job_key(job.id), job_payload(job.stream_id), px=JOB_LIFE_MS)
        pipe.zadd(self._keys.queue, {job.id: job.place}, nx=True)
        # It may be the mark of a worker of arq's that died: no other one would take the job for hours.
        pipe.delete(in_progress_key_prefix + job.id)

    async def take(self, most: int, wait_s: float, client: Redis | None = None) -> list[Job]:
        """Take jobs out of the queue, oldest first; where there are none, wait until one comes or the time is over.

        In: ``client``, whose connection is kept for so long; None: wait for nothing. Out: the jobs that can be run
        here. Each of the others is dropped with a line in the log.
        """
        raw: Any
        if client is None:
            raw = await self._client.zpopmin(self._keys.queue, most)
        else:
            _, raw = await client.bzmpop(wait_s, 1, [self._keys.queue], min=True, count=most) or (b"", ())  # type: ignore[misc]
        if not raw:
            return []
        keys = [job_key_prefix.encode() + name for name, _ in raw]
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.mget(keys)
            pipe.delete(*keys)
            payloads, _ = await pipe.execute()
        jobs = []
        for (name, score), payload in zip(raw, payloads, strict=True):
            job = name.decode("utf-8", "replace")
            try:
                if payload is None:
                    raise BadJob("expired: it has no payload")
                jobs.append(Job(job, read_payload(payload).stream_id, float(score)))
            except BadJob as error:
                log.warning("job_refused", job=job[:80], why=str(error))
        return jobs

    async def put_back(self, jobs: Iterable[Job]) -> None:
        """Jobs that were taken go back to their places in line."""
        async with self._client.pipeline(transaction=True) as pipe:
            for job in jobs:
                self._enqueue(pipe, job)
            await pipe.execute()

    async def take_out(self, name: str) -> None:
        """Take out one job that a worker of arq's has marked as its own: it waits no longer."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.zrem(self._keys.queue, name)
            pipe.delete(in_progress_key_prefix + name)
            await pipe.execute()

    async def jobs(self, names: Sequence[str]) -> list[bool]:
        """For the sweep: whether each waits. One that is marked as in progress, too, belongs to a worker of arq's
        that is about to take it out, or died."""
        async with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zscore(self._keys.queue, name)
                pipe.exists(in_progress_key_prefix + name)
            raw = await pipe.execute()
        return [score is not None and not marked for score, marked in zip(raw[::2], raw[1::2], strict=True)]

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
        """Whether it is this worker's turn to sweep: one worker each ``life_ms``. Only saves work.

        The server keeps the moment at which a key expires: where its clock goes back, that would be hours ahead.
        """
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.set(self._keys.sweeper, b"1", nx=True, px=life_ms)
            pipe.pexpire(self._keys.sweeper, life_ms, lt=True)
            mine, _ = await pipe.execute()
        return bool(mine)

    async def set_back(self) -> int:
        """Where the server's clock went back, set what stands ahead of it among the unfinished back, and the queue
        by as much. Out: how many of the unfinished.

        Such a stream would be young, and its job at the end of the line (by arq's own worker: not due), until the
        clock has caught up. A job that somebody deferred stays as far ahead as it was.
        """
        now_ms = await self.now_ms()
        keys = (self._keys.unfinished, self._keys.queue)
        async with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.zrevrangebyscore(key, "+inf", f"({now_ms}", start=0, num=SET_BACK, withscores=True)
            found = await pipe.execute()
        if not found[0]:
            return 0
        by_ms = found[0][0][1] - now_ms
        async with self._client.pipeline(transaction=False) as pipe:
            for key, ahead in zip(keys, found, strict=True):
                if ahead:
                    pipe.zadd(key, {name: score - by_ms for name, score in ahead}, xx=True, lt=True)
            await pipe.execute()
        return len(found[0])

    async def sign_of_life(self, worker: str, now_ms: int, forget_before_ms: int) -> None:
        """Note that a worker is there; forget those silent for long."""
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.zadd(self._keys.workers, {worker: now_ms})
            pipe.zremrangebyscore(self._keys.workers, "-inf", forget_before_ms)
            # Also those that were written before the server's clock went back.
            pipe.zremrangebyscore(self._keys.workers, 2 * now_ms - forget_before_ms, "+inf")
            await pipe.execute()

    async def sign_off(self, worker: str) -> None:
        """A worker leaves."""
        await self._client.zrem(self._keys.workers, worker)

    async def workers(self) -> int:
        """How many workers gave a sign of life within :data:`WORKER_SEEN_MS`.

        One that is farther ahead was written before the server's clock went back: who lives writes another within a
        second.
        """
        now_ms = await self.now_ms()
        return int(await self._client.zcount(self._keys.workers, now_ms - WORKER_SEEN_MS, now_ms + WORKER_SEEN_MS))

    async def counts(self) -> tuple[int, int, int]:
        """How many jobs wait, how many streams are unfinished, and how many workers live."""
        return await self.waiting(), int(await self._client.zcard(self._keys.unfinished)), await self.workers()

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
