"""Attacks by reading: viewers that come again and again, that never read, or that are very many."""

import asyncio
import contextlib
import random
import time

from tests.hostile.attack import Attack, Told
from tests.hostile.wire import connect, head, outcome_of
from tests.hostile.world import SCRIPTED, World, spread
from tests.support.sse_socket import SseSocket

SECONDS = 4.0
NEVER_READ = 1000
NEVER_READ_MB = 80
"""What 1,000 viewers that never read may take of an API process: 80 KiB each, where 215 kB were seen. It is the
viewer, its socket and what may lie in the write buffer; the kernel's own buffers are not in it."""
UNREAD_MB = {"api": 128, "worker": 64, "redis": 64}
"""The answer of 4 MiB is read, taken apart and encoded in several pieces at once; 844 MB were seen of the API."""
SNAPSHOTS_MB = {"api": 160, "worker": 160, "redis": 192}
"""12 answers of 3.4 MB: of each its shared buffer and its last snapshot, and MAX_UNSENT of others; 409 MB were seen
of the API."""


async def reconnecting(world: World, told: Told) -> None:
    """400 connections that open one stream with a cursor by chance, read a little, and come again."""
    made = await world.create(told, {"tokens": 3000}, model=SCRIPTED)
    record = await world.until_ended(made["id"], 10)
    epoch, _, last = record["last_event_id"].partition("-")
    until = time.monotonic() + SECONDS
    rng = random.Random(7)

    async def one(url: str) -> None:
        while time.monotonic() < until:
            cursor = f"{epoch}-{rng.randrange(int(last))}" if rng.random() < 0.7 else f"{rng.randrange(10**12)}-0"
            try:
                reader, writer = await connect(url)
            except OSError:
                told.outcomes["reset"] += 1
                continue
            try:
                path = f"/v1/streams/{made['id']}/events"
                writer.write(head("GET", path, world.bearer(world.me), f"Last-Event-ID: {cursor}"))
                piece = await asyncio.wait_for(reader.read(4096), 5)
                # A viewer that is sent back is told so by a 200 that ends with retry: and a comment.
                sent_back = b"retry:" in piece and b"\n: " in piece and b"\nid: " not in piece
                status = int(piece.split(b" ", 2)[1]) if piece.count(b" ") >= 2 else 0
                told.outcomes["200 sent back" if sent_back else outcome_of(status, piece)] += 1
            except (OSError, TimeoutError):
                told.outcomes["no answer"] += 1
            finally:
                writer.transport.abort()

    await asyncio.gather(*(one(url) for url in world.urls for _ in range(400)))


async def never_reading(world: World, told: Told) -> None:
    """Viewers with the smallest receive buffer, of a large answer, that never read it."""
    made = await world.create(told, {"tokens": 500, "times": 300}, model=SCRIPTED)
    await world.until_ended(made["id"], 10)

    async def one(url: str) -> None:
        try:
            viewer = await SseSocket.open(url + made["events_url"], receive_buffer=4096)
        except (OSError, EOFError):
            told.outcomes["closed"] += 1
            return
        world.closing.callback(viewer.drop)
        told.outcomes[str(viewer.status)] += 1

    await spread(100, (one(url) for url in world.urls for _ in range(NEVER_READ)))
    await asyncio.sleep(2)


async def unread_records(world: World, told: Told) -> None:
    """200 callers ask for the record of a large answer, and never read it."""
    made = await world.ask_harm(told, "endless text", f"unread {world.me}")
    await world.until_ended(made["id"], 20)

    async def one(url: str) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await connect(url)
            writer.transport.pause_reading()
            world.keep_open(reader, writer)
            writer.write(head("GET", f"/v1/streams/{made['id']}", world.bearer(world.me)))
            told.outcomes["asked"] += 1
            await asyncio.sleep(0.05)

    await spread(4, (one(url) for url in world.urls for _ in range(200)))
    await asyncio.sleep(2)


async def unread_snapshots(world: World, told: Told) -> None:
    """Viewers of 12 large answers that grow, who each get a snapshot as it is then, and never read it."""
    made = await asyncio.gather(*(world.ask_harm(told, "large and slow", f"unread {world.me}") for _ in range(12)))
    ids = [one["id"] for one in made if one]
    until = time.monotonic() + 20
    while time.monotonic() < until and world.harm.calls[f"unread {world.me}"].sent < len(ids) * 64 * 65_000:
        await asyncio.sleep(0.1)

    async def one(url: str, stream_id: str) -> None:
        with contextlib.suppress(OSError):
            reader, writer = await connect(url)
            world.keep_open(reader, writer)
            path = f"/v1/streams/{stream_id}/events"
            writer.write(head("GET", path, world.bearer(world.me), "Last-Event-ID: 1-0"))
            writer.transport.pause_reading()
            told.outcomes["asked"] += 1

    for _ in range(8):
        await asyncio.gather(*(one(url, stream_id) for url in world.urls for stream_id in ids))
        await asyncio.sleep(1.2)


async def one_token_fills_the_seats(world: World, told: Told) -> None:
    """One read token opens more viewers than this API process takes in all."""
    made = await world.create(told, {"tokens": 2000, "interval_ms": 50}, model=SCRIPTED)

    async def one(url: str) -> None:
        with contextlib.suppress(OSError, EOFError):
            viewer = await SseSocket.open(url + made["events_url"])
            world.closing.callback(viewer.drop)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    piece = await anext(viewer.body(4096))
                    told.outcomes["200 sent back" if b"come back soon" in piece else str(viewer.status)] += 1

    await spread(100, (one(url) for url in world.urls for _ in range(300)))
    told.expect(0 < told.outcomes["200"] <= 200 * len(world.urls), f"{told.outcomes['200']} of them watch")
    await asyncio.sleep(2)


ATTACKS = (
    Attack("400 connections that come again and again", reconnecting, also=("20", "429")),
    Attack("opens of one stream past its limit", reconnecting, ("200 sent back", "429"), ("20",), where="tight"),
    Attack("1,000 viewers that never read", never_reading, also=("20", "closed"), growth_mb={"api": NEVER_READ_MB}),
    Attack("200 records of 4 MB that nobody reads", unread_records, also=("202", "asked"), growth_mb=UNREAD_MB),
    Attack("snapshots of 3 MB that nobody reads", unread_snapshots, also=("202", "asked"), growth_mb=SNAPSHOTS_MB),
    Attack("one token opens 300 viewers", one_token_fills_the_seats, ("200 sent back",), ("20",), where="tight"),
)
