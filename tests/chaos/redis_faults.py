"""Faults of the server: killed, paused, its connections cut, its last seconds gone, full, or read-only."""

import asyncio
import os
import random
import time

from cli.sockets import free_port
from tests.chaos.faults import HARMLESS, LOSS, Fault
from tests.chaos.world import World


async def kill(world: World, rng: random.Random) -> str:
    seconds = rng.uniform(0, 3)
    await asyncio.to_thread(world.server.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.server.start_again)
    return f"away for {seconds:.1f} s"


async def lose_the_end(world: World, rng: random.Random) -> str:
    """Kill it, cut the last seconds off its file (at a command's end or anywhere), and start it again."""
    seconds = rng.uniform(0.5, 2.0)
    killed = time.monotonic()
    await asyncio.to_thread(world.server.kill)
    path = world.log_file()
    whole = path.stat().st_size
    keep = next((size for at, file, size in world.sizes if file == path and at >= killed - seconds), whole)
    anywhere = rng.random() < 0.5
    if anywhere:
        keep += rng.randrange(1, 300)
    # A size from before the last restart may be more than there is, and zeros at the end are no log.
    keep = min(whole, keep)
    os.truncate(path, keep)
    await asyncio.sleep(rng.uniform(0, 1.5))
    await asyncio.to_thread(world.server.start_again)
    world.sizes.clear()
    return f"{whole - keep} bytes of {seconds:.1f} s gone, cut {'anywhere' if anywhere else 'between commands'}"


async def stand_still(world: World, rng: random.Random) -> str:
    seconds = rng.choice((2.0, 3.5, 5.0))
    world.server.pause()
    try:
        await asyncio.sleep(seconds)
    finally:
        world.server.resume()
    return f"{seconds:.1f} s"


async def client_pause(world: World, rng: random.Random) -> str:
    seconds = rng.choice((1.0, 3.5, 5.0))
    await world.command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")
    await asyncio.sleep(seconds)
    return f"{seconds:.1f} s"


async def cut_connections(world: World, rng: random.Random) -> str:
    kind = rng.choice(("normal", "pubsub", "normal"))
    return f"{await world.command('CLIENT', 'KILL', 'TYPE', kind)} of type {kind}"


async def fill(world: World, rng: random.Random) -> str:
    """maxmemory reached for a while; sometimes for longer than a worker waits."""
    seconds, room = rng.choice((0.5, 1.5, 3.0, 6.5)), rng.randrange(0, 200_000)
    async_info = await world.command("INFO", "memory")
    assert isinstance(async_info, dict)
    await world.command("CONFIG", "SET", "maxmemory", int(async_info["used_memory"]) + room)
    try:
        await asyncio.sleep(seconds)
    finally:
        await world.command("CONFIG", "SET", "maxmemory", 0)
    return f"{room} bytes left, for {seconds:.1f} s"


async def read_only(world: World, rng: random.Random) -> str:
    """A replica of a server that is not there: it never syncs, so it keeps its data and refuses writes."""
    seconds = rng.uniform(0.3, 4)
    await world.command("REPLICAOF", "127.0.0.1", free_port())
    try:
        await asyncio.sleep(seconds)
    finally:
        await world.command("REPLICAOF", "NO", "ONE")
    return f"{seconds:.1f} s"


END_LOST = Fault("Redis: last seconds of the log gone", "redis", LOSS, lose_the_end, weight=8, first=True)
FAULTS = (
    Fault("Redis: SIGKILL, restart", "redis", LOSS, kill, weight=4),
    END_LOST,
    Fault("Redis: stands still", "redis", HARMLESS, stand_still, weight=1),
    Fault("Redis: CLIENT PAUSE", "redis", HARMLESS, client_pause, weight=1),
    Fault("Redis: connections cut", "redis", HARMLESS, cut_connections, weight=3),
    Fault("Redis: maxmemory reached", "redis", HARMLESS, fill),
    Fault("Redis: read-only replica", "redis", HARMLESS, read_only),
)
