"""The queue side: arq's jobs, and the sorted set of unfinished streams.

Theory of operation. A job has arq's own form: its id stands in the queue's sorted set, and its payload under
``arq:job:<id>``. So a program that uses plain arq can enqueue a job here, and arq's own worker can run one.
Payloads are JSON. arq's default is pickle, which is never read: a program that can write to Redis must not be able
to run code in a worker.

A stream's life never depends on the queue's bookkeeping, which is not fenced. A lost or doubled job costs little:
the claim script decides who runs, and a stream without a lease and without a job gets a new job from the sweep. So
a worker removes a job from the queue by the same call that waits for it. It reads and deletes the payloads of all
jobs that it took in one more round trip (a script, which chooses the jobs). arq's own way takes four round trips
for each job: a look at the queue, a mark (``arq:in-progress:<id>``), the payload, and the removal of the job at its
end. A payload that no worker takes expires after a day. A job without a payload is dropped, and the sweep looks
after its stream. All of this may live on another server than the logs.

*Order: start-time fair queueing.* A job's place (its score) is not a time but the number of its round: a new job
gets ``max(served, last of its owner) + 1``, where ``served`` is the highest place that was taken so far. So the
n-th waiting job of an API key stands beside the n-th of every other key. The first job of a key waits for at most
one job of each other key, however many these have. Jobs with equal places come in the order of their ids. A stream
that has begun already (a hand-over, the sweep) gets place 0: it comes before all new ones. Places are far below the
time in ms, so a stock arq worker, which runs jobs whose score is not in the future, takes them in the same order.

*Shares.* The order alone does not help where one key's long streams hold every place of a worker. So a worker takes
no job of a key (or for a provider) that holds as many of its places as are free: one busy key gets a half of them,
two get a third each, and some places are always left for the next key (dynamic thresholds, as switches share their
buffer). Streams that have begun already may hold three times as many as are free, because their viewers wait in
mid-answer: when a worker stops, its neighbour takes over more streams than it would begin. (A stock arq worker
knows no shares.) Where providers share as well, a key gets at most a third of the places for one provider: the
other callers of that provider need the rest of its half.

*Lanes.* To pass over the jobs of a key that has its share, all waiting jobs of one key for one provider stand in a
*lane*, a sorted set of their own beside the queue. The lanes stand in a sorted set, by the place of their first
job. Taking a job costs O(log n), and one step for each lane that is passed over. Owner and provider are parts of
the job's id, so the id tells the lane.

arq's queue is authoritative. The lanes are an index over it, which repairs itself: a job that only the queue has
(from a program that uses plain arq) is added when a worker looks, and a job that only a lane has is dropped. When
the queue is empty, lanes and books are deleted. A worker waits on the queue itself, and ``take.lua`` puts the job
that woke it back. A worker that may take none of the waiting jobs notes that in the books, and waits for the
*bell*, which the next enqueued job rings. The bell wakes only one worker, and a share may become free without a
bell, so such a worker also looks again every :data:`LOOK_S`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import structlog
from arq.constants import expires_extra_ms, in_progress_key_prefix, job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from redis.asyncio import Redis

from shared.redis import ScriptRunner, load_script
from shared.store.keys import Keys

JOB: Final = "generate"
"""The function that every job names. Its argument is the stream's id."""
JOB_LIFE_MS: Final = expires_extra_ms
FIRST: Final = 0.0
"""The place of a stream that has begun already: before all new ones."""
LOOK_S: Final = 0.05
"""Time until a worker looks again at jobs that it may not take now: a share may have become free."""
MAX_MS: Final = 10**14
"""The year 5138. arq's worker fails at a time that is no valid date."""

WORKER_SEEN_MS: Final = 5000
"""Workers give a sign of life each second; after five missed ones a worker counts as gone."""
SET_BACK: Final = 1000
"""The most streams that one sweep sets back. The next sweep sets back the rest."""

_JOB_ID: Final = re.compile(r"[^:]*:[0-9]+:([^:]*):([^:]*)", re.DOTALL)

log = structlog.get_logger("shared.queue")


class Lane(NamedTuple):
    """The provider and owner of jobs; '' means unknown or none, and has no share."""

    provider: str = ""
    owner: str = ""

    def __str__(self) -> str:
        return f"{self.provider}:{self.owner}"


class Job(NamedTuple):
    """A job that was taken out of the queue."""

    id: str
    stream_id: str
    place: float
    """Its place in the queue."""

    @property
    def lane(self) -> Lane:
        """Its lane, from its id."""
        return lane_of(self.id)


class Shares(NamedTuple):
    """The jobs that a worker may take. ``free``: its free places. ``more``: the streams that it may hold in
    addition (also streams without a place count). ``keys``, ``providers``: whether these share. ``most_of_key``:
    most places of a key (0: its share). ``held``: for each ``key:NAME``, ``provider:NAME`` and ``lane:LANE`` of its
    streams, how many hold a place, and how many there are."""

    free: int
    more: int
    keys: bool = False
    providers: bool = False
    most_of_key: int = 0
    held: Mapping[str, tuple[int, int]] = MappingProxyType({})

    def args(self) -> list[str | int]:
        """The arguments of ``take.lua``."""
        held = [part for name, numbers in self.held.items() for part in (name, *numbers)]
        return [self.free, self.more, int(self.keys), int(self.providers), self.most_of_key, *held]


class Taken(NamedTuple):
    """The jobs that were taken, and the number of jobs that still wait."""

    jobs: list[Job]
    waiting: int


class BadJob(ValueError):
    """The payload is no job that can run here; the text tells why, for people."""


class Payload(msgspec.Struct):
    """A job as arq writes it: function, arguments, keyword arguments, try, and time of enqueuing (ms)."""

    f: str
    a: list[Any]
    k: dict[str, Any]
    t: int | None
    et: Annotated[int, msgspec.Meta(ge=0, le=MAX_MS)]

    @property
    def stream_id(self) -> str:
        """The argument of the job. Raises :class:`BadJob` for any other call than :data:`JOB` of a stream's id."""
        if self.f != JOB:
            raise BadJob(f"unknown function {self.f[:40]!r}: jobs here name {JOB!r}")
        match [*self.a, *self.k.items()]:
            case [str(stream_id)] | [("stream_id", str(stream_id))]:
                return stream_id
        raise BadJob(f"wrong arguments: {JOB!r} takes one, the stream's id")


def job_id(stream_id: str, attempt: int, lane: Lane) -> str:
    """The id of the job for this attempt. Always the same, so enqueuing twice makes one job."""
    return f"{stream_id}:{attempt}:{lane}"


def lane_of(name: str) -> Lane:
    """The lane of the job with this id; the empty lane where another program made the id (as in ``take.lua``)."""
    found = _JOB_ID.fullmatch(name)
    return Lane(*found.groups()) if found else Lane()


def job_key(name: str) -> str:
    """The key that holds the payload of the job with this id."""
    return job_key_prefix + name


def job_payload(stream_id: str) -> bytes:
    """The payload of this stream's next job, as arq writes it."""
    return serialize_job(JOB, (stream_id,), {}, None, timestamp_ms(), serializer=msgspec.json.encode)


def read_payload(raw: bytes) -> Payload:
    """Decode a payload, which any program may have written. Raises :class:`BadJob`."""
    try:
        return msgspec.json.decode(raw, type=Payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadJob(f"no job in JSON ({error}): set job_serializer to JSON; pickle is never read") from None


def serialize(data: dict[str, Any]) -> bytes:
    """The ``job_serializer`` for arq's worker: JSON. Errors among results are written as their texts."""
    return msgspec.json.encode(data, enc_hook=str)


def deserialize(raw: bytes) -> dict[str, Any]:
    """The ``job_deserializer`` for arq's worker. Raises :class:`BadJob`, also for a job that is no call of JOB."""
    payload = read_payload(raw)
    _ = payload.stream_id
    return msgspec.structs.asdict(payload)


class Queue:
    """The queue of one deployment."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._runner = ScriptRunner(client)
        self._enqueue = load_script("enqueue")
        self._take = load_script("take")
        self._vital = load_script("vital")

    async def put(self, stream_id: str, attempt: int, lane: Lane, place: float | None = None) -> None:
        """Note the stream as unfinished and enqueue the job for its attempt. Idempotent.

        ``place``: None puts it behind the owner's last job; :data:`FIRST` is for a stream that has begun already.
        """
        # The note comes first: the sweep finds a noted stream without a job.
        await self._client.zadd(self._keys.unfinished, {stream_id: await self.now_ms()}, nx=True)
        await self._put(job_id(stream_id, attempt, lane), stream_id, place)

    async def _put(self, name: str, stream_id: str, place: float | None) -> None:
        keys, args = self.enqueuing(name, stream_id, place)
        await self._runner.run(self._enqueue, keys, args)
        # The mark may be left from an arq worker that died: no other worker would take the job for hours.
        await self._client.delete(in_progress_key_prefix + name)

    def enqueuing(
        self, name: str, stream_id: str, place: float | None = None
    ) -> tuple[tuple[str, ...], tuple[str | bytes | int, ...]]:
        """The keys and arguments of ``enqueue.lua`` for the job with this id."""
        keys, lane = self._keys, lane_of(name)
        where = "" if place is None else f"{place:.0f}"
        return (keys.queue, keys.lanes, keys.books, keys.lane(str(lane)), job_key(name), keys.bell), (
            name,
            job_payload(stream_id),
            JOB_LIFE_MS,
            lane.owner,
            str(lane),
            where,
        )

    async def take(
        self, shares: Shares, wait_s: float = 0.0, client: Redis | None = None, *, passing_over: bool = False
    ) -> Taken:
        """Take jobs out of the queue; if there are none, wait until one comes or the time is over.

        In: ``client``: its connection is used for the wait; None: don't wait. ``passing_over``: the last call left
        jobs that may not be taken here, so wait for a new job, :data:`LOOK_S` at most. Out: the jobs that can run
        here, in order, and the number of waiting jobs that may not be taken now. A job that can't run here is
        dropped and logged.
        """
        woken: tuple[str | bytes, str] = ("", "")
        if client is not None and passing_over:
            await client.bzmpop(LOOK_S, 1, [self._keys.bell], min=True)  # type: ignore[misc]
        elif client is not None:
            found: Any = await client.bzmpop(wait_s, 1, [self._keys.queue], min=True)  # type: ignore[misc]
            if not found:
                return Taken([], 0)
            ((name, score),) = found[1]
            woken = name, repr(float(score))
        keys = (self._keys.queue, self._keys.lanes, self._keys.books)
        args = (self._keys.lane(""), job_key_prefix, *woken, *shares.args())
        waiting, *raw = await self._runner.run(self._take, keys, args)
        jobs = []
        for name, place, payload in zip(raw[::3], raw[1::3], raw[2::3], strict=True):
            job = name.decode("utf-8", "replace")
            try:
                if payload is None:
                    raise BadJob("expired: it has no payload")
                jobs.append(Job(job, read_payload(payload).stream_id, float(place)))
            except BadJob as error:
                log.warning("job_refused", job=job[:80], why=str(error))
        return Taken(jobs, int(waiting))

    async def put_back(self, jobs: Iterable[Job]) -> None:
        """Put taken jobs back to their places in the queue."""
        for job in jobs:
            await self._put(job.id, job.stream_id, job.place)

    async def take_out(self, name: str) -> None:
        """Remove a job that an arq worker has marked as its own: it no longer waits."""
        lane = lane_of(name)
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.zrem(self._keys.queue, name)
            pipe.zrem(self._keys.lane(str(lane)), name)
            pipe.hincrby(self._keys.books, f"waiting:{lane.owner}", -1)
            pipe.delete(in_progress_key_prefix + name)
            await pipe.execute()

    async def jobs(self, names: Sequence[str]) -> list[bool]:
        """For the sweep: whether each of these jobs waits. A job that is also marked as in progress does not count:
        it belongs to an arq worker that is about to remove it, or has died."""
        async with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zscore(self._keys.queue, name)
                pipe.exists(in_progress_key_prefix + name)
            raw = await pipe.execute()
        return [score is not None and not marked for score, marked in zip(raw[::2], raw[1::2], strict=True)]

    async def queued_streams(self) -> set[str]:
        """For the sweep: the streams with a job in the queue, by the ids of the jobs."""
        names = await self._client.zrange(self._keys.queue, 0, -1)
        return {name.partition(b":")[0].decode("utf-8", "replace") for name in names}

    async def unfinished(self, start: int, count: int) -> dict[str, int]:
        """A page of the unfinished streams, oldest first: id → time of creation (ms, the server's clock)."""
        raw = await self._client.zrange(self._keys.unfinished, start, start + count - 1, withscores=True)
        return {item.decode(): int(score) for item, score in raw}

    async def waiting(self) -> int:
        """The number of waiting jobs."""
        return int(await self._client.zcard(self._keys.queue))

    async def now_ms(self) -> int:
        """The queue server's clock."""
        seconds, micros = await self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def take_turn(self, life_ms: int) -> bool:
        """Whether this worker gets the turn to sweep: one worker in each ``life_ms``. This only saves work.

        The server stores the time at which a key expires. If its clock went back, that may be hours ahead, so a
        long life is cut.
        """
        key = self._keys.sweeper
        if await self._runner.run(self._vital, (key,), ("SET", key, b"1", "NX", "PX", life_ms)):
            return True
        await self._client.pexpire(key, life_ms, lt=True)
        return False

    async def set_back(self) -> int:
        """If the server's clock went back, set the unfinished streams that are ahead of it back by as much.
        Otherwise they would look young until the clock has caught up. Out: how many were set back."""
        key, now_ms = self._keys.unfinished, await self.now_ms()
        ahead = await self._client.zrevrangebyscore(
            key, "+inf", f"({now_ms}", start=0, num=SET_BACK, withscores=True
        )
        if ahead:
            by_ms = ahead[0][1] - now_ms
            await self._client.zadd(key, {name: score - by_ms for name, score in ahead}, xx=True, lt=True)
        return len(ahead)

    async def sign_of_life(self, worker: str, now_ms: int, forget_before_ms: int) -> None:
        """Note that a worker lives. Forget workers that gave no sign of life for long, and those that were noted
        before the server's clock went back."""
        key = self._keys.workers
        await self._runner.run(self._vital, (key,), ("ZADD", key, now_ms, worker))
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(key, "-inf", forget_before_ms)
            pipe.zremrangebyscore(key, 2 * now_ms - forget_before_ms, "+inf")
            await pipe.execute()

    async def sign_off(self, worker: str) -> None:
        """Forget this worker: it stops."""
        await self._client.zrem(self._keys.workers, worker)

    async def workers(self) -> int:
        """The number of workers that gave a sign of life within :data:`WORKER_SEEN_MS`.

        A sign of life that is further ahead is from before the server's clock went back. It does not count: a
        living worker gives another within a second.
        """
        now_ms = await self.now_ms()
        return int(await self._client.zcount(self._keys.workers, now_ms - WORKER_SEEN_MS, now_ms + WORKER_SEEN_MS))

    async def counts(self) -> tuple[int, int, int]:
        """The numbers of waiting jobs, unfinished streams and living workers."""
        return await self.waiting(), int(await self._client.zcard(self._keys.unfinished)), await self.workers()

    async def cancelled(self, stream_id: str) -> None:
        """Tell all workers (one of them may run the stream) and all readers that it was cancelled."""
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.publish(self._keys.cancelled_channel, stream_id)
            pipe.publish(self._keys.wake_channel, stream_id)
            await pipe.execute()

    async def hint(self, stream_id: str) -> None:
        """Tell the readers that a log changed."""
        await self._client.publish(self._keys.wake_channel, stream_id)

    async def secret(self, proposal: str) -> str:
        """The secret for idempotency keys and read tokens: the first proposal is stored, and stays."""
        await self._client.set(self._keys.secret, proposal, nx=True)
        value = await self._client.get(self._keys.secret)
        return (value or proposal.encode()).decode()
