"""Faults of the network between two parts: cut at any byte, delayed, dribbled, swallowed."""

import asyncio
import random
from collections.abc import Callable

from tests.chaos.faults import HARMLESS, WRITER, Fault
from tests.chaos.world import World
from tests.support.tcp_proxy import TcpProxy


def _choose(world: World, rng: random.Random) -> tuple[str, TcpProxy]:
    slot = rng.choice(world.slots)
    if slot.kind == "worker" and rng.random() < 0.4:
        return f"worker {slot.number} ↔ provider", slot.provider
    return f"{slot.kind} {slot.number} ↔ Redis", slot.redis


async def cut(world: World, rng: random.Random) -> str:
    where, proxy = _choose(world, rng)
    after = rng.choice((0, rng.randrange(1, 64), rng.randrange(1, 5000)))
    proxy.cut(after)
    await asyncio.sleep(rng.uniform(0.2, 1))
    return f"{where} after {after} bytes"


async def _for_a_while(world: World, rng: random.Random, harm: Callable[[TcpProxy], str], most_s: float) -> str:
    where, proxy = _choose(world, rng)
    seconds = rng.uniform(0.5, most_s)
    what = harm(proxy)
    try:
        await asyncio.sleep(seconds)
    finally:
        proxy.flow()
    return f"{where}, {what} for {seconds:.1f} s"


async def delay(world: World, rng: random.Random) -> str:
    delay_s = rng.choice((0.02, 0.2, 0.7))

    def harm(proxy: TcpProxy) -> str:
        proxy.delay(delay_s)
        return f"{delay_s} s"

    return await _for_a_while(world, rng, harm, 3)


async def dribble(world: World, rng: random.Random) -> str:
    def harm(proxy: TcpProxy) -> str:
        proxy.dribble(0.001)
        return "a byte each ms"

    return await _for_a_while(world, rng, harm, 2.5)


async def swallow(world: World, rng: random.Random) -> str:
    def harm(proxy: TcpProxy) -> str:
        proxy.swallow()
        return "nothing passes"

    return await _for_a_while(world, rng, harm, 5)


FAULTS = (
    Fault("network: cut at a byte", "cut", HARMLESS, cut, weight=4),
    Fault("network: delayed", "slow", HARMLESS, delay),
    Fault("network: one byte at a time", "slow", WRITER, dribble),
    Fault("network: swallowed", "slow", WRITER, swallow),
)
