"""What the routes work with: made by the composition root, handed over in ``app.state``."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

from api.creation import Creation
from api.dialects.base import Dialect
from api.follow import Follow
from api.reader import Reader
from api.responses import SendWatch
from shared.ids import Cursor
from shared.providers import Provider
from shared.queue import Queue
from shared.settings import Settings
from shared.streams import Streams

LOAD_TIMEOUT_S: Final = 5.0


class Viewing:
    """The viewers of this process: how many there are, and whether they should leave."""

    def __init__(self, reader: Reader, dialect: Dialect, most: int) -> None:
        self._reader = reader
        self._dialect = dialect
        self._most = most
        self._stopping = False
        self.viewers = 0

    @property
    def full(self) -> bool:
        return self.viewers >= self._most

    def is_stopping(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """Let every viewer end its response cleanly."""
        self._stopping = True
        self._reader.wake_viewers()

    def follow(self, stream_id: str, text_from: Cursor) -> AbstractAsyncContextManager[Follow]:
        return self._reader.follow(stream_id, self._dialect, text_from)

    async def loaded(self, follow: Follow) -> None:
        """Wait until the log was read once. Raises TimeoutError while Redis is away."""
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            await follow.loaded.wait()

    async def counted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same chunks, counted as a viewer while they last."""
        self.viewers += 1
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            self.viewers -= 1


class Cancellation:
    """Cancels streams, and writes a cancel again where the log lost it.

    A server that restarts from its append-only file may have lost its last seconds, and a cancelled stream
    must not come back to life. Whoever wrote keeps what it wrote for KEEP_S and repeats it when the server
    was away meanwhile; the nonce makes a repetition harmless.
    """

    KEEP_S: Final = 3.0

    def __init__(self, settings: Settings, streams: Streams, queue: Queue) -> None:
        self._retention_ms = int(settings.retention_s * 1000)
        self._keep_prompt = settings.keep_prompt
        self._streams = streams
        self._queue = queue
        self._recent: list[tuple[float, str, bytes, str]] = []

    async def cancel(self, stream_id: str, data: bytes, nonce: str) -> tuple[str, ...]:
        """Write the terminal event under a new epoch, and tell the worker and the readers."""
        answer = await self._streams.cancel(stream_id, data, self._retention_ms, self._keep_prompt, nonce)
        if answer[0] == "cancelled":
            now = asyncio.get_running_loop().time()
            self._recent = [item for item in self._recent if item[0] > now - self.KEEP_S]
            self._recent.append((now, stream_id, data, nonce))
            await self._queue.cancelled(stream_id)
            await self._queue.finished(stream_id)
        return answer

    async def repeat(self, lost_at: float) -> None:
        """The server is back: cancel again what was cancelled up to KEEP_S before it went (loop time)."""
        for item in [item for item in self._recent if item[0] > lost_at - self.KEEP_S]:
            _, stream_id, data, nonce = item
            await self.cancel(stream_id, data, nonce)


@dataclass(frozen=True, slots=True)
class Services:
    """One API process's parts."""

    settings: Settings
    providers: Mapping[str, Provider]
    streams: Streams
    queue: Queue
    reader: Reader
    viewing: Viewing
    creation: Creation
    cancellation: Cancellation
    watch: SendWatch
