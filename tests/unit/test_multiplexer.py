"""Calls over one transport: every reply in its place, and no doubt survives."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis import Command, is_out_of_memory, is_trouble
from shared.redis.multiplexer import Multiplexer


class Pipe(asyncio.Transport):
    """A transport of which only the near end exists."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = False

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: Any) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True


def made(timeout_s: float = 5.0) -> Multiplexer:
    multiplexer = Multiplexer(timeout_s)
    multiplexer.connection_made(Pipe())
    return multiplexer


async def asked(multiplexer: Multiplexer, count: int) -> "asyncio.Task[list[Any]]":
    async def ask() -> list[Any]:
        return await multiplexer.ask([Command(None, b"?", count)])

    task = asyncio.create_task(ask())
    await asyncio.sleep(0)
    return task


async def test_replies_come_in_order_however_the_bytes_are_cut() -> None:
    raw = b"$3\r\n5-1\r\n:7\r\n*2\r\n+OK\r\n$-1\r\n+QUEUED\r\n"
    for cut in range(len(raw)):
        multiplexer = made()
        exchange = await asked(multiplexer, 4)
        multiplexer.data_received(raw[:cut])
        multiplexer.data_received(raw[cut:])
        assert await exchange == [b"5-1", 7, [b"OK", None], b"QUEUED"]
        assert not multiplexer.closed


async def test_refusals_stand_in_their_place_and_keep_their_meaning() -> None:
    multiplexer = made()
    exchange = await asked(multiplexer, 6)
    multiplexer.data_received(
        b"-ERR The ID specified in XADD is equal or smaller than the target stream top item\r\n"
        b"-NOSCRIPT No matching script.\r\n-READONLY You can't write.\r\n-MOVED 1 a:1\r\n"
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n*1\r\n-OOM command not allowed.\r\n"
    )
    smaller, *troubles, full, (nested,) = await exchange
    assert isinstance(smaller, ResponseError)
    assert "equal or smaller" in str(smaller)
    assert not is_trouble(smaller)
    assert all(isinstance(one, ResponseError) and is_trouble(one) for one in troubles)
    assert is_out_of_memory(full)
    assert isinstance(nested, ResponseError)
    assert not multiplexer.closed


@pytest.mark.parametrize("raw", [b"-LOADING Redis is loading\r\n", b"-NOAUTH Authentication required.\r\n"])
async def test_a_server_that_answers_nothing_yet_is_a_lost_one(raw: bytes) -> None:
    multiplexer = made()
    exchange = await asked(multiplexer, 2)
    multiplexer.data_received(b"+OK\r\n" + raw)
    with pytest.raises(RedisConnectionError):
        await exchange
    assert multiplexer.closed


async def test_what_is_no_reply_ends_the_connection() -> None:
    multiplexer = made()
    exchange = await asked(multiplexer, 1)
    multiplexer.data_received(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(InvalidResponse):
        await exchange
    assert multiplexer.closed


async def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    idle = made()
    idle.data_received(b"+OK\r\n")
    assert idle.closed
    answered = made()
    exchange = await asked(answered, 1)
    answered.data_received(b"+OK\r\n+OK\r\n")
    assert await exchange == [b"OK"]
    assert answered.closed


async def test_a_connection_that_is_lost_while_it_is_asked_says_so() -> None:
    multiplexer = made()
    exchange = await asked(multiplexer, 1)
    multiplexer.connection_lost(OSError("reset"))
    with pytest.raises(RedisConnectionError):
        await exchange


async def test_a_server_that_says_nothing_is_lost_for_all_who_wait() -> None:
    multiplexer = made(timeout_s=0.05)
    calls = [await asked(multiplexer, 1) for _ in range(2)]
    for call in calls:
        with pytest.raises(RedisTimeoutError):
            await call
    assert multiplexer.closed


async def test_calls_of_one_moment_leave_in_one_write_and_get_their_own_replies() -> None:
    multiplexer = made()
    first, second = (
        multiplexer.ask([Command(None, b"a"), Command(None, b"b")]),
        multiplexer.ask([Command(None, b"c")]),
    )
    given_up = multiplexer.ask([Command(None, b"d")])
    given_up.cancel()
    await asyncio.sleep(0)
    assert multiplexer._transport.sent == b"abcd"
    multiplexer.data_received(b":1\r\n:2\r\n:3\r\n:4\r\n")
    assert (await first, await second) == ([1, 2], [3])
    assert not multiplexer.closed
