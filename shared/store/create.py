"""Creating a stream: its quota, its record with the ``queued`` event, its place among the unfinished, and its job.

Theory of operation. Where one server holds log and queue all of it is one script and one round trip: a crash leaves
everything or nothing, what is refused leaves nothing, and a server at its memory limit refuses the whole. On two
servers (or on a cluster) there are three steps: the quota and the unfinished set, then the record, then the job. A
crash behind the record leaves a stream without a job, which the sweep finds among the unfinished; one in front of
it leaves an id without a record, which the sweep takes out after a minute.

Every step may be repeated. A call whose reply was lost is sent again with the same nonce, meets what it made, and
takes nothing of the quota again. With an ``Idempotency-Key`` the id follows from the key, so a repeated create
meets the same record: it is answered, and takes nothing either.

A server that stood still executes what it was sent when it goes on, and its caller was told an error long before.
So the call says until when somebody waits for it, by the server's clock as its last answer told it; one that comes
too late makes nothing. A first call, and one behind a leap of that clock, learns the clock by being late; each
stream that is made tells it anew, for behind a leap back no call is late.

Measured: with a round trip for each step a burst of creates stands in line six times.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.protocol.cursor import entry_cursor
from shared.store.new_stream import NewStream, new_nonce
from shared.store.queue import Queue, job_id
from shared.store.quotas import Quotas
from shared.store.streams import Streams

FIRST_ATTEMPT: Final = 1


@dataclass(frozen=True, slots=True)
class CreateResult:
    """What a create led to. ``outcome``: created; exists, with the ``status`` that the stream has; conflict (the id
    belongs to another request); or the name of the limit that refused it, with the ``number`` that ``admit.lua``
    tells beside it. ``created_ms``: when the stream that is there was created, by the server's clock."""

    outcome: str
    status: str = "queued"
    number: int = 0
    created_ms: int = field(default=0, compare=False)


class Creator:
    """Creates the streams of one deployment."""

    def __init__(self, streams: Streams, queue: Queue, limits: Quotas, *, one_server: bool) -> None:
        """``one_server``: log and queue live on the same server, which is no cluster."""
        self._streams = streams
        self._queue = queue
        self._limits = limits
        self._one_server = one_server
        self._clock_s = 0.0
        """The clock of the record's server less this loop's."""

    async def create(self, new: NewStream, until: float, *, may_exist: bool) -> CreateResult:
        """Create a stream, or meet the one that is there.

        In: ``until`` when the caller waits (loop time, s); ``may_exist``: others may have made a stream of this id.
        Raises one of :data:`shared.redis.AWAY` (nobody knows then whether there is a stream), or a RedisError
        (there is none).
        """
        nonce = new_nonce()
        if self._one_server:
            return await self._in_one_step(new, nonce, until)
        return await self._in_three_steps(new, nonce, until, may_exist=may_exist)

    async def _in_one_step(self, new: NewStream, nonce: str, until: float) -> CreateResult:
        keys, args = self._queue.enqueuing(job_id(new.stream_id, FIRST_ATTEMPT, new.lane), new.stream_id)
        more = (*self._limits.keys(new.owner), *keys)
        head = (*self._limits.args(new.owner, new.stream_id, new.size), *args)
        while True:
            args = (*head, *new.args(nonce, self._until_ms(until)))
            answer, number = await self._streams.call("create", new.stream_id, *args, more=more)
            created = _read(answer.decode().split(), int(number))
            if created.outcome in ("late", "created"):
                self._learn(int(number))
            if created.outcome != "late":
                return created

    async def _in_three_steps(self, new: NewStream, nonce: str, until: float, *, may_exist: bool) -> CreateResult:
        stream_id = new.stream_id
        if not may_exist or (await self._streams.fields(stream_id, "status"))[0] is None:
            word, number = await self._limits.admit(new.owner, stream_id, new.size)
            if word != b"ok":
                return CreateResult(word.decode(), number=number)
        answer = await self._streams.record(new, nonce, self._until_ms(until))
        while answer[0] == "late":
            self._learn(int(answer[1]))
            answer = await self._streams.record(new, nonce, self._until_ms(until))
        created = _read(answer, 0)
        if created.outcome == "created":
            self._learn(created.created_ms)  # the moment at which it was made
        if created.outcome != "conflict" and created.status == "queued":
            await self._queue.put(stream_id, FIRST_ATTEMPT, new.lane)
        return created

    def _until_ms(self, until: float) -> int:
        return int((self._clock_s + until) * 1000)

    def _learn(self, now_ms: int) -> None:
        self._clock_s = now_ms / 1000 - asyncio.get_running_loop().time()


def _read(answer: Sequence[str], number: int) -> CreateResult:
    match answer:
        case ["created", first]:
            # The first event's epoch is the moment of the creation (see record.lua).
            return CreateResult("created", created_ms=entry_cursor(first.encode()).epoch)
        case ["exists", status, created_ms]:
            return CreateResult("exists", status, created_ms=int(created_ms))
        case _:
            return CreateResult(answer[0], number=number)
