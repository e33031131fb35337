"""Faults of Redis: killed, paused, its connections cut, its last seconds gone, full, read-only; and fail-overs."""

import asyncio
import random
import time

from redis.exceptions import ResponseError

from cli.up.sockets import free_port
from tests.chaos.faults import Fault
from tests.chaos.stores import FailOver
from tests.chaos.world import World


async def kill(world: World, rng: random.Random) -> str:
    seconds = rng.uniform(0, 3)
    await asyncio.to_thread(world.one.server.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.one.server.start_again)
    return f"away for {seconds:.1f} s"


async def lose_the_end(world: World, rng: random.Random) -> str:
    """Kill it, cut the last seconds off its file (at a command's end or anywhere), and start it again."""
    seconds = rng.uniform(0.5, 2.0)
    killed = time.monotonic()
    await asyncio.to_thread(world.one.server.kill)
    path = world.one.log_file()
    whole = path.stat().st_size
    keep = next((size for at, file, size in world.one.sizes if file == path and at >= killed - seconds), whole)
    anywhere = rng.random() < 0.5
    if anywhere:
        keep += rng.randrange(1, 300)
    # A size from before the last restart may be more than there is.
    keep = min(whole, keep)
    world.one.power.shorten(path, keep)
    await asyncio.sleep(rng.uniform(0, 1.5))
    await asyncio.to_thread(world.one.server.start_again)
    world.one.sizes.clear()
    return f"{whole - keep} bytes of {seconds:.1f} s gone, cut {'anywhere' if anywhere else 'between commands'}"


async def stand_still(world: World, rng: random.Random) -> str:
    seconds = rng.choice((2.0, 3.5, 5.0))
    world.one.server.pause()
    try:
        await asyncio.sleep(seconds)
    finally:
        world.one.server.resume()
    return f"{seconds:.1f} s"


async def client_pause(world: World, rng: random.Random) -> str:
    seconds = rng.choice((1.0, 3.5, 5.0))
    await world.one.command("CLIENT", "PAUSE", int(seconds * 1000), "ALL")
    await asyncio.sleep(seconds)
    return f"{seconds:.1f} s"


async def cut_connections(world: World, rng: random.Random) -> str:
    kind = rng.choice(("normal", "pubsub", "normal"))
    return f"{await world.one.command('CLIENT', 'KILL', 'TYPE', kind)} of type {kind}"


async def rewrite(world: World, rng: random.Random) -> str:
    """Its files change their names meanwhile. A rewrite that runs already is none of ours."""
    try:
        return str(await world.one.command("BGREWRITEAOF"))
    except ResponseError as error:
        return str(error)


async def fill(world: World, rng: random.Random) -> str:
    """maxmemory reached for a while; sometimes for longer than a worker waits."""
    seconds, room = rng.choice((0.5, 1.5, 3.0, 6.5)), rng.randrange(0, 200_000)
    info = await world.one.command("INFO", "memory")
    assert isinstance(info, dict)
    await world.one.command("CONFIG", "SET", "maxmemory", int(info["used_memory"]) + room)
    try:
        await asyncio.sleep(seconds)
    finally:
        await world.one.command("CONFIG", "SET", "maxmemory", 0)
    return f"{room} bytes left, for {seconds:.1f} s"


async def read_only(world: World, rng: random.Random) -> str:
    """A replica of a server that is not there: it never syncs, so it keeps its data and refuses writes."""
    seconds = rng.uniform(0.3, 4)
    await world.one.command("REPLICAOF", "127.0.0.1", free_port())
    try:
        await asyncio.sleep(seconds)
    finally:
        await world.one.command("REPLICAOF", "NO", "ONE")
    return f"{seconds:.1f} s"


async def _fail_over(world: World, rng: random.Random, behind_s: float) -> str:
    assert isinstance(world.store, FailOver)
    return await asyncio.to_thread(world.store.lose_master, rng, behind_s)


async def fail_over(world: World, rng: random.Random) -> str:
    return await _fail_over(world, rng, 0)


async def fail_over_behind(world: World, rng: random.Random) -> str:
    """The replica was away, and takes over before it was told what it had missed."""
    return await _fail_over(world, rng, rng.uniform(0.3, 2))


FAULTS = (
    Fault("Redis: SIGKILL, restart", "redis", kill, weight=4, loses=True),
    Fault("Redis: stands still", "redis", stand_still, weight=1),
    Fault("Redis: CLIENT PAUSE", "redis", client_pause, weight=1),
    Fault("Redis: connections cut", "redis", cut_connections, weight=3),
    Fault("Redis: maxmemory reached", "redis", fill),
    Fault("Redis: read-only replica", "redis", read_only),
)
REWRITE = Fault("Redis: append-only file written anew", "redis", rewrite)
"""Not under ``everysec``: there the server leaves a moment in which the file before the last is not synced."""
END_LOST = Fault("Redis: last seconds of the log gone", "redis", lose_the_end, weight=5, loses=True, first=True)
FAIL_OVER = Fault("Redis: fail-over", "redis", fail_over, weight=5, loses=True, first=True)
FAIL_OVER_BEHIND = Fault(
    "Redis: fail-over to one that is behind", "redis", fail_over_behind, weight=5, loses=True, first=True
)
