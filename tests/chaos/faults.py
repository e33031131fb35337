"""What a fault is, and which there are: a table that the schedule draws from.

Each fault is a coroutine function ``(world, rng)`` that does its damage, mends it, and returns what it did, for
people; "" if there was nothing to do it to.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.world import World

Strike = Callable[[World, random.Random], Awaitable[str]]


@dataclass(frozen=True)
class Fault:
    """``group``: no two of the same group at once, for one would undo the other. ``loses``: a server that promises
    less than ``appendfsync always`` may forget by it what was acknowledged."""

    name: str
    group: str
    strike: Strike
    weight: int = 2
    loses: bool = False
    exclusive: bool = False
    """It strikes everything, so nothing else strikes meanwhile."""
    alone_s: float = 0.0
    """Now and then nothing else strikes for this long, so that a take-over can be timed,"""
    calm_s: float = 0.0
    """nor had struck for this long before."""
    first: bool = False
    """No run is without it: as long as it has not struck, it is drawn before all others."""
