"""Wake-ups: the names of the logs that workers touched."""

from collections.abc import Callable

from shared.redis import listen


class Hints:
    """Listens to one channel."""

    def __init__(self, url: str, channel: str) -> None:
        """``url``: the channel's server."""
        self._url = url
        self._channel = channel

    async def listen(self, hinted: Callable[[bytes], None], subscribed: Callable[[], None]) -> None:
        """Call ``hinted`` with each message, and ``subscribed`` whenever hints may have been missed."""
        await listen(self._url, self._channel, hinted, subscribed)
