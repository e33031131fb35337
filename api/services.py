"""What the routes work with: made by the composition root, handed over in ``app.state``."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from api.admission import Admitting
from api.creation import Creation
from api.dialects.base import Dialect
from api.follow import Follow
from api.presence import Presence
from api.problems import redis_away
from api.read_tokens import ReadTokens
from api.reader import Reader
from api.repeats import Repeats
from api.responses import SendWatch
from api.seats import Seats
from shared.ids import Cursor
from shared.providers import Provider
from shared.queue import Queue
from shared.settings import Settings
from shared.streams import How, Streams
from shared.uptime import Trouble, Uptime

LOAD_TIMEOUT_S: Final = 5.0

SETTLE_LOOK_S: Final = 0.2
SETTLE_LOOKS: Final = 32
"""A server settles within six seconds (``prelude.lua``), and what was announced is written before."""

MADE: Final = "created_ms"

Write = Callable[..., Awaitable[tuple[str, ...]]]


class Viewing:
    """The viewers of this process: how many there are, and whether they should leave."""

    def __init__(self, reader: Reader, most: int) -> None:
        self._reader = reader
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

    def follow(self, stream_id: str, dialect: Dialect, text_from: Cursor) -> AbstractContextManager[Follow]:
        return self._reader.follow(stream_id, dialect, text_from)

    async def loaded(self, follow: Follow) -> None:
        """Wait until the log was read once. Raises TimeoutError while Redis is away."""
        async with asyncio.timeout(LOAD_TIMEOUT_S):
            await follow.loaded.wait()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """One viewer more as long as the block lasts."""
        self.viewers += 1
        try:
            yield
        finally:
            self.viewers -= 1


class Cancellation:
    """Cancels and erases streams."""

    def __init__(
        self, settings: Settings, streams: Streams, queue: Queue, repeats: Repeats, trouble: Trouble
    ) -> None:
        self._retention_ms = int(settings.retention_s * 1000)
        self._keep_prompt = settings.keep_prompt
        self._streams = streams
        self._queue = queue
        self._repeats = repeats
        self._trouble = trouble

    async def cancel(self, stream_id: str, data: bytes, nonce: str) -> tuple[str, ...]:
        """Write the terminal event, under an epoch that is known before, and tell the worker and the readers.

        Raises :class:`Problem` (503) where the server does not settle after a restart.
        """
        answer = await self._settled(partial(self._cancel, stream_id, data, nonce))
        while answer[0] == "epoch":  # once, and once more for each that claims it in between
            write = partial(self._cancel, stream_id, data, nonce, int(answer[1]))
            again, announce = partial(self._counts, write, "again"), partial(self._counts, write, "announce")
            with self._repeats.writing(stream_id, again, announce) as tell:
                answer = await write()
                if answer[0] in ("cancelled", "ended", "epoch"):
                    tell(answer[0] == "cancelled")
            if answer[0] == "settling":
                answer = await self._settled(write)
        return answer

    async def _settled(self, write: Write) -> tuple[str, ...]:
        for _ in range(SETTLE_LOOKS):
            answer = await write()
            if answer[0] != "settling":
                return answer
            await asyncio.sleep(SETTLE_LOOK_S)
        raise redis_away()

    async def _counts(self, write: Write, how: How) -> bool:
        return (await write(how))[0] != "ended"

    async def _cancel(
        self, stream_id: str, data: bytes, nonce: str, epoch: int = 0, how: How = "first"
    ) -> tuple[str, ...]:
        calm_ms = self._trouble.calm_ms()
        answer = await self._streams.cancel(
            stream_id, data, self._retention_ms, self._keep_prompt, nonce, epoch, calm_ms, how
        )
        if answer[0] == "cancelled":
            await self._queue.cancelled(stream_id)
        return answer

    async def erase(self, stream_id: str) -> bool:
        """Delete everything of a stream, running or not. Out: whether it was there."""
        (made,) = await self._streams.fields(stream_id, MADE)
        if made is None or not await self._erase(stream_id):
            return False

        async def again() -> None:
            # The same Idempotency-Key may have made another stream of this id meanwhile.
            if await self._streams.fields(stream_id, MADE) == [made]:
                await self._erase(stream_id)

        self._repeats.forget(stream_id)
        self._repeats.remember(stream_id, again)
        return True

    async def _erase(self, stream_id: str) -> bool:
        erased = await self._streams.erase(stream_id)
        if erased:
            await self._queue.cancelled(stream_id)
            # At once, for a sweep that comes later would take out one that the same Idempotency-Key makes.
            await self._queue.finished(stream_id)
        return erased


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
    admitting: Admitting
    tokens: ReadTokens
    seats: Seats
    presence: Presence
    uptime: Uptime
    watch: SendWatch
