"""The client whose calls share one connection, on a real server: whose reply is whose, and what a loss means."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis import AWAY, open_client
from tests.support.processes import Server


@pytest_asyncio.fixture
async def client(valkey: Server) -> AsyncIterator[Redis]:
    client = open_client(valkey.url)
    yield client
    await client.aclose()


async def connections(client: Redis) -> int:
    return len([one for one in await client.client_list() if one["lib-name"] == "redis-py"])


async def test_calls_of_one_moment_get_each_its_own_reply_over_one_connection(client: Redis) -> None:
    before = await connections(client)
    echoed = await asyncio.gather(*(client.echo(str(n)) for n in range(500)))
    assert echoed == [str(n).encode() for n in range(500)]
    assert await connections(client) == before


async def test_a_call_that_is_given_up_takes_nobody_else_s_reply(client: Redis) -> None:
    await client.ping()
    given_up = asyncio.create_task(client.echo("given up"))
    await asyncio.sleep(0)
    kept = asyncio.create_task(client.echo("kept"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await kept == b"kept"
    assert await client.echo("next") == b"next"


async def test_a_refusal_is_the_one_call_s_alone(client: Redis) -> None:
    await client.set("w:text", "x")
    refused, fine = await asyncio.gather(client.lpush("w:text", "1"), client.get("w:text"), return_exceptions=True)
    assert isinstance(refused, ResponseError)
    assert fine == b"x"


async def test_a_pipeline_raises_its_first_refusal_and_a_transaction_what_broke_it(client: Redis) -> None:
    await client.set("w:text", "x")
    for transaction in (False, True):
        async with client.pipeline(transaction=transaction) as pipe:
            pipe.set("w:a", "1").lpush("w:text", "1").get("w:a")
            with pytest.raises(ResponseError, match="WRONGTYPE"):
                await pipe.execute()
    async with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("NOSUCHCOMMAND")
        with pytest.raises(ResponseError, match="unknown command"):
            await pipe.execute()
    async with client.pipeline(transaction=True) as pipe:
        pipe.evalsha("0" * 40, 0)
        with pytest.raises(NoScriptError):
            await pipe.execute()
    assert await client.ping()


async def test_a_server_that_comes_back_is_found_by_the_next_call(valkey: Server, client: Redis) -> None:
    await client.ping()
    valkey.stop()
    with pytest.raises(AWAY):
        await client.ping()
    valkey.start_again()
    assert await asyncio.gather(*(client.ping() for _ in range(20))) == [True] * 20


async def test_a_server_that_stands_still_costs_every_caller_the_time_out_and_no_more(valkey: Server) -> None:
    client = open_client(valkey.url, timeout_s=0.5)
    await client.ping()
    valkey.pause()
    try:
        async with asyncio.timeout(3):
            found = await asyncio.gather(*(client.ping() for _ in range(5)), return_exceptions=True)
            assert {type(one) for one in found} == {RedisTimeoutError}
            with pytest.raises(AWAY):
                await client.ping()
    finally:
        valkey.resume()
    assert await client.echo("new") == b"new", "and no late reply is taken for another call's"
    await client.aclose()


async def test_a_watch_has_a_connection_of_its_own(client: Redis) -> None:
    async with client.pipeline(transaction=True) as pipe:
        await pipe.watch("w:watched")
        pipe.multi()
        pipe.set("w:watched", "1")
        assert await pipe.execute() == [True]
