"""Creating a stream in one round trip, where its log and the queue live on one server.

Theory of operation. The steps are those of :mod:`api.creation`, in their order, behind the limits
(:mod:`shared.limits`), and in one script: a crash leaves all of them or none, what is refused leaves nothing, and a
server at its memory limit refuses them as a whole. Only for ids that nobody can have met before. A call whose reply
was lost is repeated with the same nonce: it meets what it made, and takes nothing of the limits again.

A server that stands still reads what it was sent when it goes on, and its caller was told long before that nothing
was started. So the call says until when somebody waits for it, by the server's clock as its last answer told it;
one that comes too late makes nothing. A first call, and one behind a leap of that clock, learns it by being late.

With a round trip for each step a burst of creates stands in line six times.
"""

import asyncio

from shared.keys import Keys
from shared.limits import Admission, Limits
from shared.new_stream import NewStream
from shared.queue import JOB_LIFE_MS, job_id, job_key, job_payload
from shared.streams import Streams


class JoinedCreate:
    """Creates streams of one server."""

    def __init__(self, streams: Streams, keys: Keys, limits: Limits) -> None:
        self._streams = streams
        self._keys = keys
        self._limits = limits
        self._clock = 0.0
        """The server's less this loop's (s)."""

    async def create(self, new: NewStream, nonce: str, until: float) -> Admission:
        """Admit, make the record, confirm it, and enqueue the job of its first attempt.

        In: ``until`` when the caller waits (loop time, s). Out: whether it was admitted, and then the ``epoch``
        that the stream began with. Raises one of :data:`shared.connections.AWAY` (nobody knows then), or a
        RedisError (there is no stream then).
        """
        job = job_id(new.stream_id, 1)
        more = (*self._limits.keys(new.owner), self._keys.unfinished, job_key(job))
        head = (*self._limits.args(new.stream_id), job, job_payload(new.stream_id), JOB_LIFE_MS)
        made = new.args(nonce)
        while True:
            until_ms = int((self._clock + until) * 1000)
            answer = await self._streams.call("joined", new.stream_id, *head, until_ms, *made, more=more)
            if answer[0] in (b"ok", b"late"):
                self._clock = int(answer[1]) / 1000 - asyncio.get_running_loop().time()
            if answer[0] != b"late":
                return self._limits.read(*answer)
