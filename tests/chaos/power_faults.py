"""The plug is pulled: everything ends in one moment, and the disk holds what was synced by then."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable

from tests.chaos.faults import Fault
from tests.chaos.world import World


async def pull(world: World, rng: random.Random) -> str:
    with world.holding_all() as slots:
        children = [slot.child for slot in slots if slot.child]
        if not children:
            return ""
        store = world.one
        groups = [store.server.pid, *(child.pid for child in children)]
        rng.shuffle(groups)
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        await asyncio.to_thread(lambda: [one.kill() for one in (store.server, *children)])
        gone = store.power.cut(rng)
        store.sizes.clear()
        starts: list[Awaitable[object]] = [asyncio.to_thread(store.server.start_again), *map(world.start, slots)]
        await asyncio.gather(*(_later(rng.uniform(0, 1.5), start) for start in starts))
        return f"{gone} bytes were not synced"


async def _later(seconds: float, start: Awaitable[object]) -> None:
    await asyncio.sleep(seconds)
    await start


PLUG = Fault("the plug is pulled", "everything", pull, weight=4, loses=True, exclusive=True, first=True)
