"""A server that has just started is left to those who spoke before, however its seconds are rounded."""

import asyncio
import time
from pathlib import Path

from shared.connections import open_client
from shared.keys import Keys
from shared.new_stream import NewStream
from shared.scripts import load_scripts
from shared.streams import Streams
from tests.support.processes import start_server

KEYS = Keys("settling")
CALM_MS = 3_600_000


async def test_a_stream_that_is_a_little_older_than_the_server_is_not_claimed_before_it_settled(
    tmp_path: Path,
) -> None:
    # Begun in mid-second: whole seconds of age tick over while the server is half a second old.
    time.sleep((1.4 - time.time() % 1) % 1)
    before_ms = int(time.time() * 1000) - 1
    with start_server(tmp_path) as server:
        client = open_client(server.url)
        streams = Streams(client, KEYS, load_scripts())
        fields = {"request": "{}", "about": "{}", "model": "m", "on_failure": "continue"}
        await streams.create(NewStream("s", "h", "", b"{}", fields))
        await streams.confirm("s")
        await client.hset(KEYS.stream("s").meta, "created_ms", before_ms)
        while time.time() * 1000 < before_ms + 3500:
            claim = await streams.claim("s", "w", 3000, 3, CALM_MS)
            assert claim.outcome == "settling"
            await asyncio.sleep(0.02)
        await client.aclose()
