"""Chats: a caller's own name for a conversation, and the stream that answers in it.

Theory of operation. A chat gets its stream *before* the stream is created. From then on a caller who asks any API
process for the chat learns which stream to wait for. If the create is refused, the chat gets its earlier stream
back, unless it got a later one meanwhile. The record of a stream says whether the stream exists and runs, so an
entry without a stream does no harm, and it expires. A chat belongs to the API key that named it: two keys may use
the same name for two chats.
"""

from typing import Final

from redis.asyncio import Redis

from shared.redis import ScriptRunner, load_script
from shared.store.keys import Keys

CHAT_LIFE_MS: Final = 48 * 3600 * 1000
"""Longer than a job may wait and its stream run."""


class Chats:
    """The chats of one deployment. All methods raise one of AWAY, or a RedisError."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        """``client``: of the queue's server."""
        self._client = client
        self._keys = keys
        self._runner = ScriptRunner(client)
        self._take_back = load_script("chat")

    async def give(self, owner: str, chat: str, stream_id: str) -> str | None:
        """Let this stream, which is created next, answer in the chat. Out: the stream that answered before."""
        key = self._keys.chat(owner, chat)
        before: bytes | None = await self._client.set(key, stream_id, px=CHAT_LIFE_MS, get=True)
        return None if before is None else before.decode()

    async def take_back(self, owner: str, chat: str, stream_id: str, before: str | None = None) -> None:
        """Let ``before`` (None: no stream) answer again, because this stream was not created, or was erased."""
        await self._runner.run(
            self._take_back, (self._keys.chat(owner, chat),), (stream_id, before or "", CHAT_LIFE_MS)
        )

    async def stream_of(self, owner: str, chat: str) -> str | None:
        """The stream that answers in this chat, or answered last; None where there is none."""
        found: bytes | None = await self._client.get(self._keys.chat(owner, chat))
        return None if found is None else found.decode()
