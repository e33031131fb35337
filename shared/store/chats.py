"""Chats: a caller's own name for a conversation, and the stream that answers in it.

Theory of operation. A chat is given its stream *before* that is made. So a caller who asks for the chat from then
on, at any API process, learns which stream to wait for. Where the create is refused, the chat gets the stream back
that it had before, unless a later one was given to it meanwhile. The record of a stream says whether it is there
and runs, so an entry whose stream is gone does no harm, and it runs out by itself. A chat belongs to the key that
named it: another key's chat of the same name is another one.
"""

from typing import Final

from redis.asyncio import Redis

from shared.redis import ScriptRunner, load_script
from shared.store.keys import Keys

CHAT_LIFE_MS: Final = 48 * 3600 * 1000
"""Longer than a job may wait and its stream run."""


class Chats:
    """The chats of one deployment. What is raised is one of AWAY, or a RedisError."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        """``client``: of the queue's server."""
        self._client = client
        self._keys = keys
        self._runner = ScriptRunner(client)
        self._take_back = load_script("chat")

    async def give(self, owner: str, chat: str, stream_id: str) -> str | None:
        """Let this stream, which is about to be made, answer from now on. Out: the one that answered before."""
        key = self._keys.chat(owner, chat)
        before: bytes | None = await self._client.set(key, stream_id, px=CHAT_LIFE_MS, get=True)
        return None if before is None else before.decode()

    async def take_back(self, owner: str, chat: str, stream_id: str, before: str | None = None) -> None:
        """Let ``before`` (None: no stream) answer again, because this stream was not made, or is no more."""
        await self._runner.run(
            self._take_back, (self._keys.chat(owner, chat),), (stream_id, before or "", CHAT_LIFE_MS)
        )

    async def stream_of(self, owner: str, chat: str) -> str | None:
        """The stream that answers in this chat, or did last; None where there is none."""
        found: bytes | None = await self._client.get(self._keys.chat(owner, chat))
        return None if found is None else found.decode()
