"""What a fault is, and which there are: a table that the schedule draws from.

Each fault is a coroutine function ``(world, rng)`` that does its damage, mends it, and returns what it did, for
people; "" if there was nothing to do it to. ``danger`` keeps faults apart (see :mod:`tests.chaos`).
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.world import World

WRITER = "writer"
LOSS = "loss"
HARMLESS = ""
APART_S = 4.5
"""From the end of one to the beginning of the other: the two seconds that may be lost, and what the others need to
write that again over a slow network (a connection takes six round trips, of up to 0.7 s)."""

Strike = Callable[[World, random.Random], Awaitable[str]]


@dataclass(frozen=True)
class Fault:
    """``group``: no two of the same group at once, for one would undo the other."""

    name: str
    group: str
    danger: str
    strike: Strike
    weight: int = 2
    alone_s: float = 0.0
    """Now and then nothing else strikes for this long, so that a take-over can be timed,"""
    calm_s: float = 0.0
    """nor had struck for this long before."""
    first: bool = False
    """No run is without it: as long as it has not struck, it is drawn before all others."""
