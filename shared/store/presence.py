"""Presence: whether a stream with ``flow: "client"`` has a viewer, as keys that expire by themselves."""

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from shared.redis import ScriptRunner, load_script
from shared.store.keys import Keys


class PresenceKeys:
    """The presence keys of one log server (or cluster). All methods raise one of AWAY, or a RedisError."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._runner = ScriptRunner(client)
        self._show = load_script("show")

    async def show(self, life_ms: Mapping[str, int]) -> None:
        """Note that these streams have viewers, or got a heartbeat. In: stream id → life of the note (ms)."""
        if life_ms:
            await self._runner.run_all(
                self._show, [(self._keys.stream(stream_id), (life,)) for stream_id, life in life_ms.items()]
            )

    async def present(self, stream_ids: Sequence[str]) -> list[bool]:
        """Whether each of these streams has a viewer, in one round trip."""
        async with self._client.pipeline(transaction=False) as pipe:
            for stream_id in stream_ids:
                pipe.exists(self._keys.stream(stream_id).presence)
            return [bool(there) for there in await pipe.execute()]
