"""A viewer that asked for batches: it gets fewer, larger events, and waits for them in the log.

The shared buffer tells what waits; when a batch is due one page of the log brings it, and is gathered (see
:mod:`api.batching`). So what waits costs no memory, and an outage or a reconnection loses none of it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from api.batching import Batching, BatchLimits, gather
from api.follow import Follow
from api.reader import PAGE, Reader
from api.sink import Sink
from api.viewer import Viewer
from shared.ids import Cursor
from shared.log import Entry
from shared.streams import Streams


class BatchedViewer(Viewer):
    """See :class:`api.viewer.Viewer`."""

    def __init__(
        self,
        reader: Reader,
        streams: Streams,
        follow: Follow,
        text_from: Cursor,
        stopping: Callable[[], bool],
        sink: Sink,
        limits: BatchLimits,
    ) -> None:
        super().__init__(reader, streams, follow, text_from, stopping, sink)
        self._batching = Batching(limits, asyncio.get_running_loop().time)

    async def _from_buffer(self, sequence: int) -> tuple[bytes, bool]:
        follow = self._follow
        behind = self._batching.due(follow.buffer, sequence)
        if behind is None:
            return b"", follow.terminal is not None and sequence == follow.buffer.end
        entries = await self._pages(min(behind - sequence, PAGE))
        if entries is None:
            return await self._next()
        chunk, ended = self._encode(entries)
        if chunk or not entries:
            self._batching.sent()
        self._sequence = self._place()
        return chunk, ended

    def _written(self, entries: Sequence[Entry]) -> bytes:
        return self._dialect.batch(gather(entries))

    async def _wait(self, changes: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._batching.left_s()):
                await super()._wait(changes)

    def push(self, framed: bytes, start: int, behind: int, last: bytes) -> bool:
        return False
