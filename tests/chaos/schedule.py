"""Which fault strikes when: drawn from a seed, with WRITER and LOSS kept apart.

Theory of operation. The run alternates between phases in which faults of one danger may strike, beside the
harmless ones; at a border only harmless ones strike until APART_S have passed since the last of the other danger
was over. Up to ``AT_ONCE`` strike at the same time. What no run may be without is drawn first, so that also a short
run on a slow machine has it.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace

from tests.chaos.faults import APART_S, HARMLESS, LOSS, WRITER, Fault
from tests.chaos.world import Struck, World

PHASE_S = {WRITER: (6.0, 14.0), LOSS: (6.0, 10.0)}
GAP_S = (0.1, 0.7)
ALONE = 0.4
"""Of those faults that can be timed this part strikes alone."""
AT_ONCE = 3
FINISH_S = 60.0
"""A fault mends what it broke within seconds; one that does not has found something, or is broken itself."""


class Schedule:
    """Strikes until told to stop."""

    def __init__(self, world: World, faults: Sequence[Fault], rng: random.Random) -> None:
        self._world = world
        self._faults = faults
        self._rng = rng
        self._active: dict[asyncio.Task[None], Fault] = {}
        self._last = {WRITER: 0.0, LOSS: 0.0}
        self._phase = rng.choice((WRITER, LOSS))
        self._phase_ends = 0.0

    async def run(self, until: float) -> None:
        """Strike until this moment (s, monotonic), then wait until all is mended."""
        while (now := time.monotonic()) < until:
            if now > self._phase_ends:
                self._phase = LOSS if self._phase == WRITER else WRITER
                self._phase_ends = now + self._rng.uniform(*PHASE_S[self._phase])
            fault = self._choose()
            if fault is not None:
                await self._begin(fault)
            await asyncio.sleep(self._rng.uniform(*GAP_S))
            self._raise_broken()
        if self._active:
            await asyncio.wait(self._active, timeout=FINISH_S)
        self._raise_broken()
        assert not self._active, f"not over: {[fault.name for fault in self._active.values()]}"

    def _choose(self) -> Fault | None:
        now = time.monotonic()
        other = LOSS if self._phase == WRITER else WRITER
        busy = {fault.group for fault in self._active.values()}
        apart = other not in {f.danger for f in self._active.values()} and now - self._last[other] > APART_S
        if self._phase == WRITER and not apart:
            # What struck the server now would put the border off, and the phase never begin.
            busy.add("redis")
        allowed = {HARMLESS, *([self._phase] if apart else [])}
        fit = [f for f in self._faults if f.danger in allowed and f.group not in busy]
        if not fit or len(self._active) >= self._rng.choice((1, 1, 2, AT_ONCE)):
            return None
        if due := [fault for fault in fit if self._is_due(fault)]:
            return self._rng.choice(due)
        # At a border what is only harmless would come too often.
        if not apart and self._rng.random() < 0.5:
            return None
        return self._rng.choices(fit, [fault.weight * (3 if fault.danger else 1) for fault in fit])[0]

    def _is_due(self, fault: Fault) -> bool:
        """Whether the run may not be without it, and still is."""
        return fault.first and all(struck.name != fault.name for struck in self._world.struck)

    async def _begin(self, fault: Fault) -> None:
        alone_s = fault.alone_s if self._rng.random() < ALONE and not self._is_due(fault) else 0.0
        if alone_s:
            if self._active:
                await asyncio.wait(self._active, timeout=FINISH_S)
            await asyncio.sleep(fault.calm_s)
        if fault.group == "redis" and time.monotonic() - self._last[LOSS] <= APART_S:
            # The server goes on not taking the writes that would mend what it lost.
            fault = replace(fault, danger=LOSS)
        task = asyncio.create_task(self._strike(fault, random.Random(self._rng.random())))
        self._active[task] = fault
        if alone_s:
            await asyncio.sleep(alone_s)

    async def _strike(self, fault: Fault, rng: random.Random) -> None:
        struck = Struck(fault.name, time.monotonic())
        self._world.struck.append(struck)
        try:
            struck.detail = await fault.strike(self._world, rng)
            if not struck.detail:
                self._world.struck.remove(struck)
        finally:
            struck.ended = time.monotonic()
            if fault.danger:
                self._last[fault.danger] = struck.ended

    def _raise_broken(self) -> None:
        for task in [task for task in self._active if task.done()]:
            del self._active[task]
            task.result()
