"""Creating a stream in one round trip, where its log and the queue live on one server.

Theory of operation. The steps are those of :mod:`api.creation`, in their order, in one transaction: a crash leaves
all of them or none, and a server at its memory limit refuses them as a whole. Only for ids that nobody can have met
before; a lost reply, or a server that has forgotten the scripts, sends the caller back to the single steps, which
meet the same record again by its nonce. (A job that such a server has already, without its stream, costs a look.)

With a round trip for each step a burst of creates stands in line five times.
"""

from collections.abc import Mapping

from redis.asyncio import Redis

from shared.keys import Keys
from shared.new_stream import NewStream
from shared.queue import Queue
from shared.scripts import Script


class JoinedCreate:
    """Creates streams of one server."""

    def __init__(self, client: Redis, keys: Keys, scripts: Mapping[str, Script], queue: Queue) -> None:
        self._client = client
        self._keys = keys
        self._create = scripts["create"]
        self._confirm = scripts["confirm"]
        self._queue = queue
        self._loaded = False

    async def create(self, new: NewStream, nonce: str) -> tuple[str, ...]:
        """Make the record, enqueue the job of its first attempt, confirm it, and wake a worker.

        Out: the answer of ``create.lua``, split. Raises one of :data:`shared.connections.AWAY` (nobody knows
        then), or a RedisError (there is no stream then).
        """
        if not self._loaded:
            for script in (self._create, self._confirm):
                await self._client.script_load(script.text)
            self._loaded = True
        keys = self._keys.stream(new.stream_id)
        args = new.args(nonce)
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.evalsha(self._create.sha, len(keys), *keys, *args)  # type: ignore[arg-type]
            self._queue.put_on(pipe, new.stream_id, 1, new.now_ms)
            pipe.evalsha(self._confirm.sha, len(keys), *keys)
            self._queue.wake_on(pipe)
            created, *_ = await pipe.execute()
        return tuple(created.decode().split())
