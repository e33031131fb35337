"""Faults of workers and API processes: killed, stopped, told to end."""

import asyncio
import random
import signal

from tests.chaos.blockable_worker import BLOCKED_S
from tests.chaos.faults import Fault
from tests.chaos.world import World

STOPPED_S = (3.5, 5.5)
"""Longer than a lease of 3 s."""
GRACE_S = 10.0
"""As a supervisor: who has not ended so long after SIGTERM is killed."""


async def _end(world: World, rng: random.Random, kind: str, sig: signal.Signals) -> str:
    with world.holding(kind, rng) as slot:
        if slot is None or slot.child is None:
            return ""
        ended, how = slot.child, ""
        if sig == signal.SIGKILL:
            ended.kill()
        elif await asyncio.to_thread(ended.terminate, GRACE_S) == -signal.SIGKILL:
            how = f", which took longer than {GRACE_S:.0f} s and was killed"
        await asyncio.sleep(rng.uniform(0, 1.5))
        await world.start(slot)
        return ended.name + how


async def _stand_still(world: World, rng: random.Random, kind: str) -> str:
    with world.holding(kind, rng) as slot:
        if slot is None or slot.child is None:
            return ""
        seconds = rng.uniform(*STOPPED_S)
        slot.child.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            slot.child.resume()
        return f"{slot.child.name} for {seconds:.1f} s"


async def kill_worker(world: World, rng: random.Random) -> str:
    return await _end(world, rng, "worker", signal.SIGKILL)


async def end_worker(world: World, rng: random.Random) -> str:
    return await _end(world, rng, "worker", signal.SIGTERM)


async def stop_worker(world: World, rng: random.Random) -> str:
    return await _stand_still(world, rng, "worker")


async def block_worker(world: World, rng: random.Random) -> str:
    with world.holding("worker", rng) as slot:
        if slot is None or slot.child is None:
            return ""
        slot.child.send(signal.SIGUSR2)
        await asyncio.sleep(BLOCKED_S)
        return slot.child.name


async def kill_api(world: World, rng: random.Random) -> str:
    return await _end(world, rng, "api", signal.SIGKILL)


async def end_api(world: World, rng: random.Random) -> str:
    return await _end(world, rng, "api", signal.SIGTERM)


async def stop_api(world: World, rng: random.Random) -> str:
    return await _stand_still(world, rng, "api")


KILLED = Fault("worker: SIGKILL", "worker", kill_worker, weight=4, alone_s=4.5, calm_s=4.0, first=True)
API_KILLED = Fault("API: SIGKILL", "api", kill_api, first=True)
ENDED = Fault("worker: SIGTERM", "worker", end_worker, weight=3, alone_s=1.5, calm_s=0.5)
FAULTS = (
    KILLED,
    ENDED,
    Fault("worker: stands still longer than its lease", "worker", stop_worker),
    Fault("worker: event loop blocked longer than its lease", "worker", block_worker, weight=1),
    API_KILLED,
    Fault("API: SIGTERM", "api", end_api),
    Fault("API: stands still", "api", stop_api, weight=1),
)
