"""How viewers behave: each habit reads one stream to its end, over whichever API process answers."""

import asyncio
import random
from collections.abc import Callable, Coroutine

from tests.chaos.viewer import Viewer

AGAIN_S = 0.15
"""A viewer that was turned away comes back; EventSource would wait a second, here time is short."""

Urls = list[str]
Habit = Callable[[Viewer, Urls, random.Random], Coroutine[None, None, None]]


async def _read(viewer: Viewer, url: str, *, most: int = 0, slowly: bool = False) -> None:
    try:
        await viewer.read(url, most=most, slowly=slowly)
    except (OSError, EOFError):
        await asyncio.sleep(AGAIN_S)
    else:
        if not viewer.events and not viewer.over:
            await asyncio.sleep(AGAIN_S)


async def steady(viewer: Viewer, urls: Urls, rng: random.Random) -> None:
    """Stays on one process as long as that answers."""
    at = rng.randrange(len(urls))
    while not (viewer.over or viewer.trouble):
        await _read(viewer, urls[at % len(urls)])
        at += 1


async def dropping(viewer: Viewer, urls: Urls, rng: random.Random) -> None:
    """Leaves after some events, and comes back anywhere."""
    while not (viewer.over or viewer.trouble):
        await _read(viewer, rng.choice(urls), most=rng.choice((1, 2, 3, 5, 8, 20, 50)))
        await asyncio.sleep(rng.choice((0, 0, 0.05, 0.5)))


async def late(viewer: Viewer, urls: Urls, rng: random.Random) -> None:
    """Comes when much was said, or all."""
    await asyncio.sleep(rng.uniform(0.5, 8))
    await steady(viewer, urls, rng)


async def slow(viewer: Viewer, urls: Urls, rng: random.Random) -> None:
    """Reads less than is said for a while, through a small buffer, then catches up."""
    try:
        async with asyncio.timeout(rng.uniform(1, 6)):
            while not (viewer.over or viewer.trouble):
                await _read(viewer, rng.choice(urls), slowly=True)
    except TimeoutError:
        await steady(viewer, urls, rng)


HABITS: dict[str, Habit] = {"steady": steady, "dropping": dropping, "late": late, "slow": slow}
