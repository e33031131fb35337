"""The queue side: arq's jobs, and the sorted set of unfinished streams.

Theory of operation. A job has arq's own form: its id stands in the queue's sorted set, and its payload under
``arq:job:<id>``. So a program that knows arq alone can enqueue a job here, and arq's own worker can run one.
Payloads are JSON. arq's default is pickle, which is never read: whoever can write to Redis must not be able to run
code in a worker.

A stream's life never hangs on the queue's bookkeeping, which is not fenced: a job that is lost or doubled only
costs a look (the claim script decides who runs), and a stream without a lease and without a job gets a new job from
the sweep. So a worker takes jobs out of the queue by the very call that waits for them, and reads and deletes the
payloads of all that it took in one more round trip (a script, which chooses them). arq's own way is four round
trips a job: a look at the queue, a mark (``arq:in-progress:<id>``), the payload, and taking the job out at its end.
A payload that nobody takes expires after a day; a job without one is dropped, and the sweep sees to its stream. All
of this may live on another server than the logs.

*Order: start-time fair queueing.* A job's place (its score) is no time, but the number of its turn: a new job gets
``max(served, last of its owner) + 1``, where ``served`` is the highest place that was taken so far. So the n-th
waiting job of a key stands beside the n-th of every other key, and a key that comes with its first job waits for
one job of each other key at the most, however many these have. Jobs of equal places come in the order of their ids.
A stream that has begun already (a hand-over, the sweep) gets place 0: it comes before all new ones. Places are far
below the time in ms, so a stock arq worker, which runs jobs whose score is not in the future, takes them in the
same order.

*Shares.* Places alone do not help where one key's long streams hold every place of a worker. So a worker takes no
job of a key (and none for a provider) that has as many of its places as are free: one busy key gets a half of them,
two get a third each, and something is always left for whoever comes next (dynamic thresholds, as switches share
their buffer). Streams that have begun already may go to three times as many as are free, for their viewers wait in
mid-answer: where a worker ends, its neighbour takes over more than it would begin. (A stock arq worker knows no
shares.) Where providers share as well, a key gets a third of the places at one provider at the most: the other
callers of that provider need what is left of its half. To pass over the jobs of a key that has its share, all
waiting jobs of one key for one provider stand in a *lane*, a sorted set of their own beside the queue, and the
lanes stand in a sorted set by the place of their first job. Taking a job costs O(log n), and one step for each lane
that is passed over. Owner and provider are parts of the job's id, so whoever knows a job knows its lane.

arq's queue is what counts. The lanes are an index over it, and mend themselves: a job that only the queue has (of a
program that knows arq alone) is noted when a worker looks, one that only a lane has is dropped, and when the queue
is empty the books begin anew. A worker waits for the queue itself: the job that wakes it goes back to its place in
the script that chooses. A worker that may take nothing of what waits says so in the books, and waits for the
*bell*, which the next job rings. The bell wakes one worker alone, and a share may have become free, so it looks
again every :data:`LOOK_S`.
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
"""The function that every job names. It takes the stream's id."""
JOB_LIFE_MS: Final = expires_extra_ms
FIRST: Final = 0.0
"""The place of a stream that has begun already: in front of all new ones."""
LOOK_S: Final = 0.05
"""How soon a worker looks again at jobs that it may not take now: a share may have become free."""
MAX_MS: Final = 10**14
"""The year 5138. arq's worker breaks at a time that is no date."""

WORKER_SEEN_MS: Final = 5000
"""Workers show themselves each second; five missed ones are no hiccup any more."""
SET_BACK: Final = 1000
"""Streams that one sweep sets back. The next one goes on."""

_JOB_ID: Final = re.compile(r"[^:]*:[0-9]+:([^:]*):([^:]*)", re.DOTALL)

log = structlog.get_logger("shared.queue")


class Lane(NamedTuple):
    """Whose jobs for which provider; '' is unknown, or nobody in particular: it has no share."""

    provider: str = ""
    owner: str = ""

    def __str__(self) -> str:
        return f"{self.provider}:{self.owner}"


class Job(NamedTuple):
    """A job that was taken out of the queue."""

    id: str
    stream_id: str
    place: float
    """Its place in line."""

    @property
    def lane(self) -> Lane:
        """Its lane, as its id tells it."""
        return lane_of(self.id)


class Shares(NamedTuple):
    """What a worker can take: its ``free`` places; how many ``more`` streams it may hold (with those that hold no
    place); whether keys and providers share; most places of a key (0: its share); and for each ``key:NAME``,
    ``provider:NAME`` and ``lane:LANE`` that it has streams of, how many hold a place, and how many there are."""

    free: int
    more: int
    keys: bool = False
    providers: bool = False
    most_of_key: int = 0
    held: Mapping[str, tuple[int, int]] = MappingProxyType({})

    def args(self) -> list[str | int]:
        """What ``take.lua`` takes."""
        held = [part for name, numbers in self.held.items() for part in (name, *numbers)]
        return [self.free, self.more, int(self.keys), int(self.providers), self.most_of_key, *held]


class Taken(NamedTuple):
    """The jobs that were taken, and how many still wait."""

    jobs: list[Job]
    waiting: int


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


def job_id(stream_id: str, attempt: int, lane: Lane) -> str:
    """The job that brings this attempt: one id, so that enqueuing twice is one job."""
    return f"{stream_id}:{attempt}:{lane}"


def lane_of(name: str) -> Lane:
    """The lane of the job with this id; that of nobody where the id is another program's (as in ``take.lua``)."""
    found = _JOB_ID.fullmatch(name)
    return Lane(*found.groups()) if found else Lane()


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
        self._runner = ScriptRunner(client)
        self._enqueue = load_script("enqueue")
        self._take = load_script("take")
        self._vital = load_script("vital")

    async def put(self, stream_id: str, attempt: int, lane: Lane, place: float | None = None) -> None:
        """Note the stream as unfinished and enqueue the job for its attempt, idempotent.

        ``place``: None: behind the last one of its owner. (:data:`FIRST`: it has begun already.)
        """
        # First, for a stream that is noted and has no job is found by the sweep.
        await self._client.zadd(self._keys.unfinished, {stream_id: await self.now_ms()}, nx=True)
        await self._put(job_id(stream_id, attempt, lane), stream_id, place)

    async def _put(self, name: str, stream_id: str, place: float | None) -> None:
        keys, args = self.enqueuing(name, stream_id, place)
        await self._runner.run(self._enqueue, keys, args)
        # It may be the mark of a worker of arq's that died: no other one would take the job for hours.
        await self._client.delete(in_progress_key_prefix + name)

    def enqueuing(
        self, name: str, stream_id: str, place: float | None = None
    ) -> tuple[tuple[str, ...], tuple[str | bytes | int, ...]]:
        """What ``enqueue.lua`` takes for the job of this id."""
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
        """Take jobs out of the queue; where there are none, wait until one comes or the time is over.

        In: ``client``, whose connection is kept for so long; None: wait for nothing; ``passing_over``: the last
        look left jobs that may not be taken here, so wait for another one, :data:`LOOK_S` at the most. Out: the
        jobs that can be run here, in order, and how many wait that may not be taken now. What is no job that runs
        here is dropped with a line in the log.
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
        """Jobs that were taken go back to their places in line."""
        for job in jobs:
            await self._put(job.id, job.stream_id, job.place)

    async def take_out(self, name: str) -> None:
        """Take out one job that a worker of arq's has marked as its own: it waits no longer."""
        lane = lane_of(name)
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.zrem(self._keys.queue, name)
            pipe.zrem(self._keys.lane(str(lane)), name)
            pipe.hincrby(self._keys.books, f"waiting:{lane.owner}", -1)
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

    async def lined_up(self) -> set[str]:
        """For the sweep: the streams whose jobs stand in the queue, as their jobs' ids tell."""
        names = await self._client.zrange(self._keys.queue, 0, -1)
        return {name.partition(b":")[0].decode("utf-8", "replace") for name in names}

    async def unfinished(self, start: int, count: int) -> dict[str, int]:
        """A page of the unfinished streams, oldest first, with when they were created (ms, the server's clock)."""
        raw = await self._client.zrange(self._keys.unfinished, start, start + count - 1, withscores=True)
        return {item.decode(): int(score) for item, score in raw}

    async def waiting(self) -> int:
        """How many jobs wait."""
        return int(await self._client.zcard(self._keys.queue))

    async def now_ms(self) -> int:
        """The queue server's clock."""
        seconds, micros = await self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def take_turn(self, life_ms: int) -> bool:
        """Whether it is this worker's turn to sweep: one worker each ``life_ms``. Only saves work.

        The server keeps the moment at which a key expires: where its clock went back, that may be hours ahead.
        """
        key = self._keys.sweeper
        if await self._runner.run(self._vital, (key,), ("SET", key, b"1", "NX", "PX", life_ms)):
            return True
        await self._client.pexpire(key, life_ms, lt=True)
        return False

    async def set_back(self) -> int:
        """Where the server's clock went back, set the unfinished streams that stand ahead of it back by as much.
        Out: how many. Until the clock has caught up they would be young."""
        key, now_ms = self._keys.unfinished, await self.now_ms()
        ahead = await self._client.zrevrangebyscore(
            key, "+inf", f"({now_ms}", start=0, num=SET_BACK, withscores=True
        )
        if ahead:
            by_ms = ahead[0][1] - now_ms
            await self._client.zadd(key, {name: score - by_ms for name, score in ahead}, xx=True, lt=True)
        return len(ahead)

    async def sign_of_life(self, worker: str, now_ms: int, forget_before_ms: int) -> None:
        """Note that a worker is there; forget those silent for long, and those that were noted before the server's
        clock went back."""
        key = self._keys.workers
        await self._runner.run(self._vital, (key,), ("ZADD", key, now_ms, worker))
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(key, "-inf", forget_before_ms)
            pipe.zremrangebyscore(key, 2 * now_ms - forget_before_ms, "+inf")
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
