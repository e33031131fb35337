"""One walk through everything that Headrace asks of a Redis, by the URL that leads there."""

import asyncio
from typing import Any

from shared.redis import (
    ScriptRunner,
    by_command,
    check_masters,
    command,
    connect_to_logs,
    listen,
    load_scripts,
    node_urls,
    open_client,
    read_url,
    teach,
)

KEYS = tuple(f"walk:{{s}}:{name}" for name in ("meta", "log", "snapshot", "lease", "presence"))
WITHIN_S = 60.0


async def walk(url: str) -> None:
    """Fails the test where anything does not work. A cluster has no channel, and nothing that waits."""
    async with asyncio.timeout(WITHIN_S):
        await walk_client(url)
        await walk_log(url)
        if read_url(url).kind != "cluster":
            await walk_queue(url)


async def walk_client(url: str) -> None:
    client = open_client(url)
    try:
        await check_masters(client)
        names = [f"walk:{{{number}}}" for number in range(20)]  # on all masters of a cluster
        assert await asyncio.gather(*(client.set(name, name, px=60_000) for name in names)) == [True] * len(names)
        assert await asyncio.gather(*(client.get(name) for name in names)) == [name.encode() for name in names]
        script = load_scripts()["read"]
        runner = ScriptRunner(client)
        assert await runner.run(script, KEYS, ()) == [[], b"", []]
        assert await runner.run_all(script, [(KEYS, ())] * 3) == [[[], b"", []]] * 3
    finally:
        await client.aclose()
    for node in await node_urls(url):
        client = open_client(node)
        assert await client.ping()
        await client.aclose()


async def walk_log(url: str) -> None:
    connection = connect_to_logs(url)
    await connection.open()
    try:
        await teach(connection, load_scripts().values())
        asked = [
            command(KEYS[1], "DEL", KEYS[1]),
            command(KEYS[1], "XADD", KEYS[1], "1-0", "e", "message", "d", "{}"),
            command(KEYS[1], "XREAD", "COUNT", 10, "STREAMS", KEYS[1], "0-0"),
        ]
        _, added, read = by_command(asked, await connection.exchange(asked))
        assert added == b"1-0"
        assert read == [[KEYS[1].encode(), [[b"1-0", [b"e", b"message", b"d", b"{}"]]]]]
    finally:
        await connection.close()


async def walk_queue(url: str) -> None:
    client, waiting = open_client(url), open_client(url)
    heard: list[bytes] = []
    subscribed = asyncio.Event()
    listening = asyncio.create_task(listen(url, "walk:wake", heard.append, subscribed.set))
    try:
        await subscribed.wait()
        taking: asyncio.Task[Any] = asyncio.create_task(waiting.bzmpop(5, 1, ["walk:queue"], min=True))
        await asyncio.sleep(0.1)
        async with client.pipeline(transaction=True) as pipe:
            pipe.zadd("walk:queue", {"job": 1})
            pipe.publish("walk:wake", "s")
            assert await pipe.execute() == [1, 1]
        assert (await taking)[1] == [[b"job", b"1"]]
        while not heard:
            await asyncio.sleep(0.01)
        assert heard == [b"s"]
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await client.aclose()
        await waiting.aclose()
