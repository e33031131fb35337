"""Pacing: a limit on the tokens a second from one provider to one stream. Pure: the clock is passed in.

A piece counts as one token, which is how providers send them. A longer piece counts as one token for each four
characters. One second's worth of tokens may come at once. Then reading stops until the next piece is due, and TCP
slows the provider down.
"""

from collections.abc import Callable
from typing import Final

from shared.protocol.events import Delta

CHARACTERS_A_TOKEN: Final = 4
"""English has about four characters a token, other languages have fewer. Each model counts in its own way."""


class Pacing:
    """The pace of one stream."""

    def __init__(self, per_second: float, clock: Callable[[], float]) -> None:
        """``per_second``: tokens; 0: no limit. ``clock``: seconds."""
        self._per_second = per_second
        self._clock = clock
        self._free_at = clock()

    def wait_s(self, delta: Delta) -> float:
        """Count a piece. Out: seconds to wait before the next one is read."""
        if not self._per_second:
            return 0.0
        size = len(delta.get("text") or delta.get("reasoning") or "")
        tokens = max(1, size // CHARACTERS_A_TOKEN)
        now = self._clock()
        self._free_at = max(self._free_at, now - 1.0) + tokens / self._per_second
        return max(0.0, self._free_at - now)
