"""One chaos run, from the seed to the result; and which faults belong to which promise."""

import asyncio
import random
import time
from pathlib import Path

import httpx

from cli.up.valkey import ALWAYS, EVERYSEC
from shared.store.keys import Keys
from tests.chaos import network_faults, process_faults, redis_faults
from tests.chaos.client import Client
from tests.chaos.faults import Fault
from tests.chaos.load import Load
from tests.chaos.power_faults import PLUG
from tests.chaos.report import Result
from tests.chaos.schedule import Schedule
from tests.chaos.world import World, running_world

STRONG, WEAK = "strong", "weak"
PROMISES = (STRONG, WEAK)
_EVERYWHERE: tuple[Fault, ...] = (*process_faults.FAULTS, *network_faults.FAULTS)


def faults(promise: str, store: str) -> tuple[Fault, ...]:
    """What strikes a store of this kind that promises so much."""
    if store != "server":
        return (*_EVERYWHERE, redis_faults.FAIL_OVER, redis_faults.FAIL_OVER_BEHIND)
    own = redis_faults.REWRITE if promise == STRONG else redis_faults.END_LOST
    return (*_EVERYWHERE, *redis_faults.FAULTS, own, PLUG)


WARM_UP_S = 1.0
CLOSED_WITHIN_S = 10.0
"""When all streams have ended, every upstream is closed within this; an attempt that nobody needs any more
learns so within a second or a lease."""


async def run_chaos(
    directory: Path,
    seed: str,
    seconds: float,
    *,
    at_once: int = 20,
    on_failure: tuple[str, ...] = ("restart", "continue"),
    promise: str = STRONG,
    store: str = "server",
) -> Result:
    """Strike for ``seconds``, or until all has struck that no run may be without; wait for every end, and look at
    everything once more."""
    began = time.monotonic()
    # What takes over is behind, however often each node syncs its file.
    strong = promise == STRONG and store == "server"
    async with (
        running_world(directory, store, ALWAYS if promise == STRONG else EVERYSEC) as world,
        httpx.AsyncClient() as http,
    ):
        client = Client(world, http)
        load = Load(world, client, seed, at_once, on_failure)
        struck = faults(promise, store)
        schedule = Schedule(world, struck, random.Random(f"{seed}/faults"), strong=strong)
        until = time.monotonic() + seconds
        loading = asyncio.create_task(load.run())
        try:
            await asyncio.sleep(WARM_UP_S)
            await schedule.strike(until)
            load.end()
            await schedule.finish()
            await loading
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        await _until_closed(world)
        await load.look_again()
        result = Result(
            f"{promise} promise, {store}",
            seed,
            time.monotonic() - began,
            load.streams,
            world.struck,
            world.provider.calls,
            client.refusals,
        )
        result.broken += world.deaths
        result.broken += await _unasked(world, {stream.id for stream in load.streams})
        result.false_starts = len(world.false_starts)
    return result


async def _unasked(world: World, known: set[str]) -> list[str]:
    """Streams that nobody was given: a create that was repeated, for its reply was lost, made a second one."""
    found = await world.store.keys(Keys("headrace").stream("*").meta)
    ids = {key.partition("{")[2].partition("}")[0] for key in found}
    return [f"a stream that no caller was given: {stream_id}" for stream_id in sorted(ids - known)]


async def _until_closed(world: World) -> None:
    until = time.monotonic() + CLOSED_WITHIN_S
    while time.monotonic() < until and any(call.closed_by is None for call in world.provider.calls):
        await asyncio.sleep(0.1)
