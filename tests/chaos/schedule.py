"""Which fault strikes when: drawn from a seed.

Up to ``AT_ONCE`` faults strike at the same time, no two of one group. What no run may be without is drawn first,
and a short run on a slow machine goes on until it has it. Some strike alone: those that stop everything, and now
and then those whose take-overs are timed.
"""

import asyncio
import random
import time
from collections.abc import Sequence

from tests.chaos.faults import Fault
from tests.chaos.world import Struck, World

GAP_S = (0.1, 0.7)
ALONE = 0.4
"""Of those faults that can be timed this part strikes alone."""
AT_ONCE = 3
MORE_S = 60.0
"""That a run may be longer than it was told, for what it may not be without. A free machine needs 20 s for it."""
FINISH_S = 60.0
"""A fault mends what it broke within seconds; one that does not has found something, or is broken itself."""


class Schedule:
    """Strikes, and sees that all is mended."""

    def __init__(self, world: World, faults: Sequence[Fault], rng: random.Random, *, strong: bool) -> None:
        """``strong``: the server loses nothing that was acknowledged."""
        self._world = world
        self._faults = faults
        self._rng = rng
        self._active: dict[asyncio.Task[None], Fault] = {}
        self._strong = strong

    async def strike(self, until: float) -> None:
        """Strike until this moment (s, monotonic), and until all has struck that no run may be without."""
        while (now := time.monotonic()) < until or (now < until + MORE_S and any(map(self._is_due, self._faults))):
            fault = self._choose()
            if fault is not None:
                await self._begin(fault)
            await asyncio.sleep(self._rng.uniform(*GAP_S))
            self._raise_broken()

    async def finish(self) -> None:
        """Wait until all is mended."""
        if self._active:
            await asyncio.wait(self._active, timeout=FINISH_S)
        self._raise_broken()
        assert not self._active, f"not over: {[fault.name for fault in self._active.values()]}"

    def _choose(self) -> Fault | None:
        busy = {fault.group for fault in self._active.values()}
        fit = [fault for fault in self._faults if fault.group not in busy]
        if not fit or len(self._active) >= self._rng.choice((1, 1, 2, AT_ONCE)):
            return None
        if due := [fault for fault in fit if self._is_due(fault)]:
            return self._rng.choice(due)
        return self._rng.choices(fit, [fault.weight for fault in fit])[0]

    def _is_due(self, fault: Fault) -> bool:
        """Whether the run may not be without it, and still is."""
        return fault.first and all(struck.name != fault.name for struck in self._world.struck)

    async def _begin(self, fault: Fault) -> None:
        alone_s = fault.alone_s if self._rng.random() < ALONE and not self._is_due(fault) else 0.0
        if self._active and (alone_s or fault.exclusive):
            await asyncio.wait(self._active, timeout=FINISH_S)
        if alone_s:
            await asyncio.sleep(fault.calm_s)
        task = asyncio.create_task(self._strike(fault, random.Random(self._rng.random())))
        self._active[task] = fault
        if fault.exclusive:
            await asyncio.wait({task}, timeout=FINISH_S)
        elif alone_s:
            await asyncio.sleep(alone_s)

    async def _strike(self, fault: Fault, rng: random.Random) -> None:
        struck = Struck(fault.name, time.monotonic(), loses=fault.loses and not self._strong)
        self._world.struck.append(struck)
        try:
            struck.detail = await fault.strike(self._world, rng)
            if not struck.detail:
                self._world.struck.remove(struck)
        finally:
            struck.ended = time.monotonic()

    def _raise_broken(self) -> None:
        for task in [task for task in self._active if task.done()]:
            del self._active[task]
            task.result()
