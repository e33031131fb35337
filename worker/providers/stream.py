"""One answer that comes: the connection that brings it, and the clock. What it means is
:mod:`worker.providers.decoder`.

Theory of operation. Nothing is read before somebody pulls: :meth:`ProviderStream.read` takes what lies unread in
the connection, in one step from its bytes to a batch. Whoever pulls gets a hint (``ready``, without data) when
there may be something, and may ignore it as long as it likes: then the connection stops reading, and TCP holds the
provider.

One timer serves a whole answer. It is left alone while the deadline moves away, and arms itself again when it fires
too early. While data lies unread it does nothing: the next read looks at the deadline behind what it brought, and
arms it. A read takes as much as the answer takes at once; what is left is hinted at as if it had just come.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from worker.providers.base import Batch
from worker.providers.decoder import StreamDecoder
from worker.providers.http.connection import ProviderConnection, nobody

LINGER_S: Final = 0.2
"""How long a whole answer's connection waits for the end of the body, which usually comes with the end mark. Only a
body that was read to its end leaves a connection for the next request. A new one costs less than waiting longer."""


class ProviderStream:
    """An answer whose head is there; ``close`` it whatever happens."""

    def __init__(self, answer: StreamDecoder, connection: ProviderConnection) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._time = loop.time
        self._answer = answer
        self._connection = connection
        self._ready: Callable[[], object] = nobody
        self._lies_since: float | None = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._whole = False
        """Whether the answer ended without an error, and its end was read."""
        connection.ready = self._came

    async def begin(self) -> None:
        """Wait until there is content, or the end. Raises :class:`worker.providers.base.ProviderError` for an
        answer that failed before its first content, so that nothing of it is lost by asking again."""
        here = self._loop.create_future()

        def look() -> None:
            self._advance()
            if self._answer.has_news and not here.done():
                here.set_result(None)

        self._ready = look
        look()
        try:
            await here
        finally:
            self._ready = nobody
        if self._answer.failed_unsaid is not None:
            raise self._answer.failed_unsaid

    def listen(self, ready: Callable[[], object]) -> None:
        """Hint to this reader from now on."""
        self._ready = ready
        if self._answer.has_news or self._lies_since is not None:
            ready()

    def read(self) -> Batch:
        """What came since the last call: nothing, or deltas, and at last how it ended."""
        self._advance()
        batch = self._answer.read()
        if batch.ended:
            self._whole = batch.error is None
        return batch

    def close(self) -> None:
        """Let go of the connection at once: kept if the body was read to its end, closed otherwise."""
        self._ready = self._connection.ready = nobody
        if self._timer is not None:
            self._timer.cancel()
        self._connection.close(LINGER_S if self._whole else 0.0)

    def _came(self) -> None:
        if self._lies_since is None:
            self._lies_since = self._time()
        self._ready()

    def _advance(self) -> None:
        answer, connection, now = self._answer, self._connection, self._time()
        since = self._lies_since or now
        self._lies_since = None
        behind = answer.behind
        if behind:
            answer.feed(b"", now, now - since)
            answer.sooner = True
        elif data := connection.read():
            answer.feed(data, now, now - since)
        if connection.ended is not None:
            answer.feed_eof(now, cut=connection.ended)
        if answer.sooner:
            answer.sooner = False
            answer.expire(now)
            self._arm()
            if behind or answer.behind:  # what came meanwhile has been hinted at already
                self._loop.call_soon(self._came)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._answer.ended else self._loop.call_at(self._answer.deadline, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._lies_since is not None:
            self._answer.sooner = True
            return
        self._answer.expire(self._time())
        if self._answer.ended:
            self._ready()
        else:
            self._arm()
