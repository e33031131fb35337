"""Creating a stream: its quota, its record with the ``queued`` event, its entry in the unfinished set, and its job.

Theory of operation. Where one server holds log and queue, a create is one script and one round trip: a crash leaves
everything or nothing, a refused create leaves nothing, and a server at its memory limit refuses the whole. On two
servers (or on a cluster) there are three steps: the quota and the unfinished set, then the record, then the job. A
crash after the record leaves a stream without a job, which the sweep finds in the unfinished set. A crash before
the record leaves an id without a record, which the sweep removes after a minute.

Every step may be repeated. A call whose reply was lost is sent again with the same nonce, finds the stream that it
made, and takes nothing from the quota again. With an ``Idempotency-Key`` the id follows from the key, so a repeated
create finds the same record, returns it, and takes nothing either.

A server that hung runs its waiting commands when it resumes, long after the caller got an error. So each call has a
deadline by the server's clock, and a call that runs after it creates nothing. The clock is taken from the server's
last reply. The first call, and the first one after the clock jumped forward, is refused as late, with the server's
time in the reply. The reply for a created stream has it, too, because after a jump back no call is late.

Measured: with one round trip for each step, each create of a burst waits for the server six times.
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
    """The result of a create. ``outcome``: created; exists, with the stream's ``status``; conflict (the id belongs
    to another request); or the name of the limit that refused it, with the ``number`` that ``admit.lua`` returns
    with it. ``created_ms``: when the stream was created, by the server's clock."""

    outcome: str
    status: str = "queued"
    number: int = 0
    created_ms: int = field(default=0, compare=False)


class Creator:
    """Creates the streams of one deployment."""

    def __init__(self, streams: Streams, queue: Queue, quotas: Quotas, *, one_server: bool) -> None:
        """``one_server``: log and queue live on the same server, which is no cluster."""
        self._streams = streams
        self._queue = queue
        self._quotas = quotas
        self._one_server = one_server
        self._clock_s = 0.0
        """The difference: the clock of the record's server minus this event loop's."""

    async def create(self, new: NewStream, until: float, *, may_exist: bool) -> CreateResult:
        """Create a stream, or find the existing one.

        In: ``until``, the caller's deadline (loop time, s); ``may_exist``: a stream with this id may exist already.
        Raises one of :data:`shared.redis.AWAY` (then it is unknown whether the stream exists), or a RedisError (it
        does not exist).
        """
        nonce = new_nonce()
        if self._one_server:
            return await self._in_one_step(new, nonce, until)
        return await self._in_three_steps(new, nonce, until, may_exist=may_exist)

    async def _in_one_step(self, new: NewStream, nonce: str, until: float) -> CreateResult:
        keys, args = self._queue.enqueuing(job_id(new.stream_id, FIRST_ATTEMPT, new.lane), new.stream_id)
        more = (*self._quotas.keys(new.owner), *keys)
        head = (*self._quotas.args(new.owner, new.stream_id, new.size), *args)
        while True:
            args = (*head, *new.args(nonce, self._until_ms(until)))
            reply, number = await self._streams.call("create", new.stream_id, *args, more=more)
            created = _read(reply.decode().split(), int(number))
            if created.outcome in ("late", "created"):
                self._learn(int(number))
            if created.outcome != "late":
                return created

    async def _in_three_steps(self, new: NewStream, nonce: str, until: float, *, may_exist: bool) -> CreateResult:
        stream_id = new.stream_id
        if not may_exist or (await self._streams.fields(stream_id, "status"))[0] is None:
            word, number = await self._quotas.admit(new.owner, stream_id, new.size)
            if word != b"ok":
                return CreateResult(word.decode(), number=number)
        reply = await self._streams.record(new, nonce, self._until_ms(until))
        while reply[0] == "late":
            self._learn(int(reply[1]))
            reply = await self._streams.record(new, nonce, self._until_ms(until))
        created = _read(reply, 0)
        if created.outcome == "created":
            self._learn(created.created_ms)  # which is the server's clock of this moment
        if created.outcome != "conflict" and created.status == "queued":
            await self._queue.put(stream_id, FIRST_ATTEMPT, new.lane)
        return created

    def _until_ms(self, until: float) -> int:
        return int((self._clock_s + until) * 1000)

    def _learn(self, now_ms: int) -> None:
        self._clock_s = now_ms / 1000 - asyncio.get_running_loop().time()


def _read(reply: Sequence[str], number: int) -> CreateResult:
    match reply:
        case ["created", first]:
            # The first event's epoch is the time of creation (see record.lua).
            return CreateResult("created", created_ms=entry_cursor(first.encode()).epoch)
        case ["exists", status, created_ms]:
            return CreateResult("exists", status, created_ms=int(created_ms))
        case _:
            return CreateResult(reply[0], number=number)
