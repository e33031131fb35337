"""Wake-ups: the names of the logs that workers touched."""

from collections.abc import Awaitable, Callable

from shared.redis import listen


class Hints:
    """Listens to one channel."""

    def __init__(self, url: str, channel: str, returned: Callable[[], Awaitable[None]]) -> None:
        """``url``: the channel's server; ``returned`` is called whenever it can be reached, for the first time or
        again (also by the reader, of the log's server, which may be another one)."""
        self._url = url
        self._channel = channel
        self.returned = returned

    async def listen(self, hinted: Callable[[bytes], None], subscribed: Callable[[], None]) -> None:
        """Call ``hinted`` with each message, and ``subscribed`` whenever hints may have been missed."""

        async def back() -> None:
            await self.returned()
            subscribed()

        await listen(self._url, self._channel, hinted, back)
