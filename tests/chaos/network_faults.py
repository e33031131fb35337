"""Faults of the network between two parts: cut at any byte, delayed, dribbled, swallowed."""

import asyncio
import random
from collections.abc import Callable
from functools import partial

from tests.chaos.faults import Fault
from tests.chaos.world import World
from tests.support.tcp_proxy import TcpProxy

Place = tuple[str, TcpProxy]
Choose = Callable[[World, random.Random], Place]


def inside(world: World, rng: random.Random) -> Place:
    """Between one of our processes and what it needs."""
    slot = rng.choice([slot for slot in world.slots if slot.redis or slot.kind == "worker"])
    if slot.redis is None or (slot.kind == "worker" and rng.random() < 0.4):
        return f"worker {slot.number} ↔ provider", slot.far
    return f"{slot.kind} {slot.number} ↔ Redis", slot.redis


def outside(world: World, rng: random.Random) -> Place:
    """Between viewers and callers, all of them, and an API process."""
    slot = rng.choice(world.of("api"))
    return f"viewers and callers ↔ api {slot.number}", slot.far


async def cut(choose: Choose, world: World, rng: random.Random) -> str:
    where, proxy = choose(world, rng)
    after = rng.choice((0, rng.randrange(1, 64), rng.randrange(1, 5000)))
    proxy.cut(after)
    await asyncio.sleep(rng.uniform(0.2, 1))
    if proxy.is_cut_due:
        # Nothing may strike when this is over.
        proxy.cut()
        return f"{where}, though {after} bytes had not passed"
    return f"{where} after {after} bytes"


async def _for_a_while(place: Place, rng: random.Random, harm: Callable[[TcpProxy], str], most_s: float) -> str:
    where, proxy = place
    seconds = rng.uniform(0.5, most_s)
    what = harm(proxy)
    try:
        await asyncio.sleep(seconds)
    finally:
        proxy.flow()
    return f"{where}, {what} for {seconds:.1f} s"


async def delay(choose: Choose, world: World, rng: random.Random) -> str:
    delay_s = rng.choice((0.02, 0.2, 0.7))

    def harm(proxy: TcpProxy) -> str:
        proxy.delay(delay_s)
        return f"{delay_s} s"

    return await _for_a_while(choose(world, rng), rng, harm, 3)


async def dribble(choose: Choose, world: World, rng: random.Random) -> str:
    def harm(proxy: TcpProxy) -> str:
        proxy.dribble(0.001)
        return "a byte each ms"

    return await _for_a_while(choose(world, rng), rng, harm, 2.5)


async def swallow(choose: Choose, world: World, rng: random.Random) -> str:
    def harm(proxy: TcpProxy) -> str:
        proxy.swallow()
        return "nothing passes"

    return await _for_a_while(choose(world, rng), rng, harm, 5)


VIEWERS_CUT = Fault("viewers' network: cut at a byte", "viewers cut", partial(cut, outside), weight=4, first=True)
FAULTS = (
    Fault("network: cut at a byte", "cut", partial(cut, inside), weight=4),
    Fault("network: delayed", "slow", partial(delay, inside)),
    Fault("network: one byte at a time", "slow", partial(dribble, inside)),
    Fault("network: swallowed", "slow", partial(swallow, inside)),
    VIEWERS_CUT,
    Fault("viewers' network: delayed", "viewers slow", partial(delay, outside)),
    Fault("viewers' network: one byte at a time", "viewers slow", partial(dribble, outside)),
    Fault("viewers' network: swallowed", "viewers slow", partial(swallow, outside)),
)
