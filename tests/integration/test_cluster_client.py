"""The client of a cluster, on a real one: it comes back from anything, and asks every master."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from cli.up.sockets import free_port
from shared.redis import AWAY, open_client
from shared.redis.client import POOL_SIZE
from tests.support.processes import Server, start_server

SLOTS = 16384
WAIT_S = 60.0


@pytest_asyncio.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Server]:
    """A cluster of one node."""
    with start_server(tmp_path, cluster_enabled="yes") as server:
        async with Redis(port=server.port) as redis:
            await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        yield server


async def until_set(client: Redis) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await client.set("a", "b")
                return
            except AWAY:
                await asyncio.sleep(0.05)


async def test_the_client_finds_a_cluster_again_that_was_away_as_a_whole(alone: Server) -> None:
    client = open_client(f"redis+cluster://127.0.0.1:{alone.port}")
    await until_set(client)
    await asyncio.to_thread(alone.kill)
    for _ in range(2 * POOL_SIZE):
        with pytest.raises(AWAY):
            await client.set("a", "b")
    await asyncio.to_thread(alone.start_again)
    await until_set(client)
    assert await client.get("a") == b"b"
    await client.aclose()


async def test_calls_that_are_given_up_take_no_connection_with_them(alone: Server) -> None:
    client = open_client(f"redis+cluster://127.0.0.1:{alone.port}")
    await until_set(client)
    alone.pause()
    for _ in range(2 * POOL_SIZE):
        # Two at once: one has the connection that is there, the other one opens its own.
        for failure in await asyncio.gather(*(soon(client.get("a")) for _ in range(2)), return_exceptions=True):
            assert isinstance(failure, AWAY)
    alone.resume()
    await until_set(client)
    assert await asyncio.gather(*(client.get("a") for _ in range(POOL_SIZE))) == [b"b"] * POOL_SIZE
    await client.aclose()


async def soon(asked: Awaitable[bytes]) -> bytes:
    async with asyncio.timeout(0.02):
        return await asked


async def test_any_node_of_its_url_will_do_to_find_the_others(alone: Server) -> None:
    client = open_client(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{alone.port}")
    await until_set(client)
    await client.aclose()


async def test_a_connection_that_is_closed_under_a_call_is_told_as_a_lost_one(alone: Server) -> None:
    client = open_client(f"redis+cluster://127.0.0.1:{alone.port}")
    assert isinstance(client, RedisCluster)
    await client.initialize()
    connection = client.get_default_node().acquire_connection()
    await connection.connect()

    async def ping() -> None:
        await connection.send_command("PING")
        await connection.read_response()

    # redis-py closes all connections when a node has failed: also one that is about to be written to (Python 3.11,
    # where a time-out for the write begins a task), and one whose reply is under way (3.12 and newer).
    asking = asyncio.create_task(ping())
    await asyncio.sleep(0)
    await connection.disconnect(nowait=True)
    with pytest.raises(AWAY):
        await asking
    await client.aclose()


async def test_a_pipeline_that_meets_a_map_that_is_being_learnt_tells_of_a_lost_server(alone: Server) -> None:
    client = open_client(f"redis+cluster://127.0.0.1:{alone.port}")
    assert isinstance(client, RedisCluster)
    await until_set(client)
    client.nodes_manager.default_node = None  # type: ignore[assignment]  # as redis-py has it while it asks for the map
    try:
        async with client.pipeline() as pipe:
            pipe.incr("a")  # refused, so redis-py looks whether the default node was asked
            with pytest.raises(AWAY):
                await pipe.execute(raise_on_error=False)
    finally:
        await client.aclose()
