"""One exchange at a time on an open transport: every reply in its place, and no doubt survives."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError

from shared.resp import is_out_of_memory, is_trouble
from shared.wire import Wire


class Pipe(asyncio.Transport):
    """A transport of which only the near end exists."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.aborted = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: Any) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True


async def asked(wire: Wire, count: int) -> "asyncio.Task[list[Any]]":
    task = asyncio.create_task(wire.exchange(b"?", count))
    await asyncio.sleep(0)
    return task


async def test_replies_come_in_order_however_the_bytes_are_cut() -> None:
    raw = b"$3\r\n5-1\r\n:7\r\n*2\r\n+OK\r\n$-1\r\n+QUEUED\r\n"
    for cut in range(len(raw)):
        wire = Wire(Pipe())
        exchange = await asked(wire, 4)
        wire.data_received(raw[:cut])
        wire.data_received(raw[cut:])
        assert await exchange == [b"5-1", 7, [b"OK", None], b"QUEUED"]
        assert wire.is_open


async def test_refusals_stand_in_their_place_and_keep_their_meaning() -> None:
    wire = Wire(Pipe())
    exchange = await asked(wire, 6)
    wire.data_received(
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
    assert wire.is_open


@pytest.mark.parametrize("raw", [b"-LOADING Redis is loading\r\n", b"-NOAUTH Authentication required.\r\n"])
async def test_a_server_that_answers_nothing_yet_is_a_lost_one(raw: bytes) -> None:
    wire = Wire(Pipe())
    exchange = await asked(wire, 2)
    wire.data_received(b"+OK\r\n" + raw)
    with pytest.raises(RedisConnectionError):
        await exchange
    assert not wire.is_open


async def test_what_is_no_reply_ends_the_connection() -> None:
    wire = Wire(Pipe())
    exchange = await asked(wire, 1)
    wire.data_received(b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(InvalidResponse):
        await exchange
    assert not wire.is_open


async def test_a_reply_that_nobody_asked_for_ends_the_connection() -> None:
    idle = Wire(Pipe())
    idle.data_received(b"+OK\r\n")
    assert not idle.is_open
    answered = Wire(Pipe())
    exchange = await asked(answered, 1)
    answered.data_received(b"+OK\r\n+OK\r\n")
    with pytest.raises(RedisConnectionError):
        await exchange
    assert not answered.is_open


async def test_a_connection_that_is_lost_while_it_is_asked_says_so() -> None:
    wire = Wire(Pipe())
    exchange = await asked(wire, 1)
    wire.connection_lost(OSError("reset"))
    with pytest.raises(RedisConnectionError):
        await exchange
