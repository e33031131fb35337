"""One answer as it arrives: its connection and its clock. :mod:`worker.providers.decoder` reads its meaning.

Theory of operation. Nothing is read until the caller pulls. :meth:`ProviderStream.read` takes the unread bytes of
the connection, and turns them into a batch in one step. The caller gets a hint (``ready``, without data) when there
may be something to read. It may ignore the hint for any time: then the connection stops reading, and TCP slows the
provider down.

One timer serves a whole answer. It is left alone while the deadline moves away, and set again when it fires too
early. While data is unread the timer does nothing: the next read checks the deadline after its data, and sets the
timer. A read takes only as much as the decoder takes at once. The rest gets a hint, as if it had just arrived.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from worker.providers.base import Batch
from worker.providers.decoder import StreamDecoder
from worker.providers.http.connection import ProviderConnection, ignore_hint

LINGER_S: Final = 0.2
"""How long the connection of a complete answer waits for the end of the body, which usually comes with the end
mark. A connection can be used again only if the body was read to its end. A new one costs less than waiting
longer."""


class ProviderStream:
    """An answer whose head has arrived. It must be closed in any case."""

    def __init__(self, decoder: StreamDecoder, connection: ProviderConnection) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._time = loop.time
        self._decoder = decoder
        self._connection = connection
        self._ready: Callable[[], object] = ignore_hint
        self._unread_since: float | None = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._whole = False
        """Whether the answer has ended without an error, and the caller has read its end."""
        connection.ready = self._came

    async def begin(self) -> None:
        """Wait until there is content, or the end. Raises :class:`worker.providers.base.ProviderError` if the
        answer failed before its first content: then asking again loses nothing."""
        here = self._loop.create_future()

        def look() -> None:
            self._advance()
            if self._decoder.has_news and not here.done():
                here.set_result(None)

        self._ready = look
        look()
        try:
            await here
        finally:
            self._ready = ignore_hint
        if self._decoder.failed_unsaid is not None:
            raise self._decoder.failed_unsaid

    def listen(self, ready: Callable[[], object]) -> None:
        """From now on call ``ready`` when there may be something to read."""
        self._ready = ready
        if self._decoder.has_news or self._unread_since is not None:
            ready()

    def read(self) -> Batch:
        """What came since the last call: nothing, or deltas. The last batch says how the answer ended."""
        self._advance()
        batch = self._decoder.read()
        if batch.ended:
            self._whole = batch.error is None
        return batch

    def close(self) -> None:
        """Release the connection at once. It is kept if the body was read to its end, and closed otherwise."""
        self._ready = self._connection.ready = ignore_hint
        if self._timer is not None:
            self._timer.cancel()
        self._connection.close(LINGER_S if self._whole else 0.0)

    def _came(self) -> None:
        if self._unread_since is None:
            self._unread_since = self._time()
        self._ready()

    def _advance(self) -> None:
        decoder, connection, now = self._decoder, self._connection, self._time()
        since = self._unread_since or now
        self._unread_since = None
        behind = decoder.behind
        if behind:
            decoder.feed(b"", now, now - since)
            decoder.sooner = True
        else:  # while fed bytes wait, later ones stay unread: only here the end can be reported
            if data := connection.read():
                decoder.feed(data, now, now - since)
            if connection.ended is not None:
                decoder.feed_eof(now, cut=connection.ended)
        if decoder.sooner:
            decoder.sooner = False
            decoder.expire(now)
            self._arm()
            if behind or decoder.behind:  # there was already a hint for data that came meanwhile
                self._loop.call_soon(self._came)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._decoder.ended else self._loop.call_at(self._decoder.deadline, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._unread_since is not None:
            self._decoder.sooner = True
            return
        self._decoder.expire(self._time())
        if self._decoder.ended:
            self._ready()
        else:
            self._arm()
