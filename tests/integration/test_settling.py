"""A server that has just started is left to those who spoke before, however it rounds its age; others go on."""

import asyncio
import time

from redis.asyncio import Redis

from shared.claims import Claim
from shared.keys import Keys
from shared.new_stream import NewStream
from shared.redis import load_scripts, open_client
from shared.streams import Streams
from tests.support.processes import Server

KEYS = Keys("settling")
CALM_MS = 3_600_000


async def make(client: Redis, stream_id: str) -> Streams:
    streams = Streams(client, KEYS, load_scripts())
    fields = {"request": "{}", "about": "{}", "model": "m", "on_failure": "continue"}
    await streams.create(NewStream(stream_id, "h", "", b"{}", fields))
    await streams.confirm(stream_id)
    return streams


async def claim(streams: Streams, stream_id: str) -> Claim:
    return await streams.claim(stream_id, "w", 3000, 3, CALM_MS)


async def test_what_was_made_right_before_a_restart_is_not_claimed_before_the_server_settled(
    valkey: Server,
) -> None:
    client = open_client(valkey.url)
    await client.config_set("appendfsync", "always")
    # Begun in mid-second: whole seconds of age tick over while the server is half a second old.
    time.sleep((1.4 - time.time() % 1) % 1)
    await make(client, "s")
    await client.aclose()
    valkey.kill()
    valkey.start_again()
    started = time.monotonic()
    client = open_client(valkey.url)
    streams = Streams(client, KEYS, load_scripts())
    while time.monotonic() < started + 3.5:
        assert (await claim(streams, "s")).outcome == "settling"
        await asyncio.sleep(0.02)
    while (one := await claim(streams, "s")).outcome == "settling":
        assert time.monotonic() < started + 30
        await asyncio.sleep(0.1)
    assert one.outcome == "run"
    await client.aclose()


async def test_what_is_made_right_after_a_restart_waits_for_nobody(valkey: Server) -> None:
    client = open_client(valkey.url)
    streams = await make(client, "s")
    assert (await claim(streams, "s")).outcome == "run"
    await client.aclose()
