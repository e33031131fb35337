"""How long to wait before the next try, and when to give up. Pure, except for the random number that is passed
in."""

import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 8.0
MOST: Final = 10
"""Tries in a row without an event. With the delays above they take about half a minute, longer than any restart."""
MOST_ASKED_S: Final = 30.0
"""If the server asks for a longer wait, give up: a person should decide."""


class Backoff:
    """Exponential backoff with jitter. The wait that the server asks for is the minimum."""

    def __init__(self, most: int = MOST, chance: Callable[[], float] = random.random) -> None:
        """``most``: tries in a row without success; ``chance``: a number from 0 to 1."""
        self.most = most
        self.tried = 0
        self._chance = chance

    def succeeded(self) -> None:
        """An event came: start counting again."""
        self.tried = 0

    def next_s(self, asked_s: float = 0.0) -> float | None:
        """A try failed. Out: seconds until the next one; None: give up."""
        self.tried += 1
        if self.tried >= self.most or asked_s > MOST_ASKED_S:
            return None
        longest_s = min(LONGEST_S, FIRST_S * 2.0 ** (self.tried - 1))
        return float(max(asked_s, longest_s * (0.5 + self._chance() / 2)))
