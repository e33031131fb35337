"""Presence: whether somebody watches a stream with ``flow: "client"``, as keys that run out by themselves."""

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from shared.redis import ScriptRunner, load_script
from shared.store.keys import Keys


class PresenceKeys:
    """The presence keys of one log server (or cluster). What is raised is one of AWAY, or a RedisError."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._runner = ScriptRunner(client)
        self._show = load_script("show")

    async def show(self, life_ms: Mapping[str, int]) -> None:
        """Somebody watches these streams, or gave a sign of life: good for so long, each."""
        if life_ms:
            await self._runner.run_all(
                self._show, [(self._keys.stream(stream_id), (life,)) for stream_id, life in life_ms.items()]
            )

    async def present(self, stream_ids: Sequence[str]) -> list[bool]:
        """Whether somebody watches, of each stream; in one round trip."""
        async with self._client.pipeline(transaction=False) as pipe:
            for stream_id in stream_ids:
                pipe.exists(self._keys.stream(stream_id).presence)
            return [bool(there) for there in await pipe.execute()]
