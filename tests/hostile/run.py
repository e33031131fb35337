"""One run: each world with its attacks, each attack with the bystander."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from tests.hostile import bodies, connections, disk, greedy, keys, pages, provider_answers, reading
from tests.hostile.attack import Attack, Told
from tests.hostile.bystander import Watched
from tests.hostile.world import WORLDS, World, running_world
from tests.support.proc import begin_peak, cpu_times, peak
from tests.support.process_tree import is_alive

ATTACKS: Final[tuple[Attack, ...]] = tuple(
    attack
    for module in (connections, bodies, keys, reading, greedy, provider_answers, disk, pages)
    for attack in module.ATTACKS
)
GAP_S: Final = 0.5
"""The bar: nobody waits longer because of somebody else."""
MOST_S: Final = 60.0
"""An attack that takes longer is ended."""
LEAST_SHARE: Final = 0.25
"""Processes that mostly sleep have little of a processor on a busy machine, and that excuses only so much."""
LEAST_S: Final = 1.0
"""The bystander watches for so long at least, so that it sees what comes late."""
READY_S: Final = 10.0
"""After an attack the API says that it is ready within this time."""


@dataclass
class Result:
    """What came of one attack. ``growth``: MB by process, each with its bound."""

    attack: Attack
    watched: Watched
    told: Told
    bar_s: float
    seconds: float = 0.0
    growth: dict[str, tuple[float, int]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    share: float = 1.0
    """Of the time in which the processes could have run: for how much of it there was a processor."""
    again: bool = False
    """Whether it was repeated because of its time."""

    @property
    def slow(self) -> list[str]:
        """Waits above the bar."""
        seen = self.watched
        worst = seen.worst * self.share
        if worst <= self.bar_s:
            return []
        times = f"gap {seen.gap:.2f}, create {seen.create:.2f}, first token {seen.first:.2f}"
        return [f"the bystander waited {worst:.2f} s ({times}, clock late {seen.late:.2f}, CPU {self.share:.0%})"]

    @property
    def wrong(self) -> list[str]:
        """What violates the bar, beside the time."""
        large = [
            f"{name} grew by {grown:.0f} MB of {most}"
            for name, (grown, most) in self.growth.items()
            if grown > most
        ]
        return self.broken + self.watched.wrong + self.attack.judge(self.told) + large

    @property
    def violations(self) -> list[str]:
        return self.slow + self.wrong


def chosen(only: Sequence[str] = (), *, short: bool = False) -> list[Attack]:
    """The attacks whose names hold one of these texts; all that are short, or all."""
    found = [attack for attack in ATTACKS if attack.short or not short]
    return [attack for attack in found if any(text in attack.name for text in only)] if only else found


async def run_hostile(
    directory: Path,
    attacks: Sequence[Attack],
    *,
    apis: int = 1,
    workers: int = 1,
    gap_s: float = GAP_S,
    told: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run these attacks, world by world. ``told`` is called with each result as it comes.
    ``gap_s``: the longest that the bystander may wait."""
    results = []
    for where, kind in WORLDS.items():
        mine = [attack for attack in attacks if attack.where == where]
        if not mine:
            continue
        (directory / where).mkdir()
        async with running_world(directory / where, kind, apis=apis, workers=workers) as world:
            for attack in mine:
                result = await _strike(world, attack, gap_s)
                if result.slow and not result.wrong:
                    second = await _strike(world, attack, gap_s)
                    second.again = True
                    result = min(result, second, key=lambda one: (len(one.wrong), one.watched.worst * one.share))
                results.append(result)
                told(result)
    return results


async def _strike(world: World, attack: Attack, gap_s: float) -> Result:
    processes = {
        **{f"api {n}".removesuffix(" 1"): child.pid for n, child in enumerate(world.stack.apis, 1)},
        **{f"worker {n}".removesuffix(" 1"): child.pid for n, child in enumerate(world.stack.workers, 1)},
        "redis": world.stack.server.pid,
    }
    told = Told()
    broken = []
    streams = max(len(world.stack.apis), len(world.stack.workers))
    await world.bystander.begin(world.urls, world.keys.get("ann", ""), streams)
    before = {name: begin_peak(pid) for name, pid in processes.items()}
    times = {name: cpu_times(pid) for name, pid in processes.items()}
    world.turn()
    began = time.monotonic()
    try:
        async with asyncio.timeout(MOST_S):
            await attack.run(world, told)
    except TimeoutError:
        broken.append(f"it took longer than {MOST_S:.0f} s, or a call that it waits for did")
    except (httpx.TransportError, OSError, LookupError) as error:
        # What is asked on the way got no answer, or a refusal in place of one.
        broken.append(f"it broke off: {type(error).__name__}: {error}")
    seconds = time.monotonic() - began
    await asyncio.sleep(LEAST_S - seconds)
    watched = await world.bystander.end()
    share = _share(times.values(), [cpu_times(pid) for pid in processes.values()])
    growth = {
        name: (peak(pid) - before[name], attack.may_grow_mb(name.split()[0]))
        for name, pid in processes.items()
        if is_alive(pid)
    }
    broken += [
        f"{child.name} has ended ({child.exit_code})"
        for child in (*world.stack.apis, *world.stack.workers)
        if child.exit_code is not None
    ]
    await world.closing.aclose()
    world.closing = contextlib.AsyncExitStack()
    await world.clean()
    broken += await _unready(world)
    return Result(attack, watched, told, gap_s, seconds, growth, broken, share)


def _share(before: Iterable[tuple[float, float]], after: Iterable[tuple[float, float]]) -> float:
    """Of the time in which processes could have run: for how much of it they did."""
    early, late = (list(map(sum, zip(*times, strict=True))) for times in (before, after))
    run, waited = late[0] - early[0], late[1] - early[1]
    return max(LEAST_SHARE, run / (run + waited)) if run + waited > 0 else 1.0


async def _unready(world: World) -> list[str]:
    """What is wrong with the processes when the attack is over."""
    try:
        async with asyncio.timeout(READY_S):
            await world.stack.until_ready()
    except TimeoutError:
        return [f"not ready {READY_S:.0f} s after the attack"]
    return []
