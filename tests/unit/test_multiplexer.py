"""Calls over one transport: every reply in its place, and no doubt survives."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis import Command, is_out_of_memory, is_trouble
from shared.redis.multiplexer import MAX_GATHERED, Multiplexer


class Pipe(asyncio.Transport):
    """A transport of which only the near end exists."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: Any) -> None:
        self.writes.append(data)

    def abort(self) -> None:
        self.aborted = True


def made(timeout_s: float = 5.0) -> Multiplexer:
    return with_pipe(timeout_s)[0]


def with_pipe(timeout_s: float = 5.0) -> tuple[Multiplexer, Pipe]:
    multiplexer, pipe = Multiplexer(timeout_s), Pipe()
    multiplexer.connection_made(pipe)
    return multiplexer, pipe


async def asked(multiplexer: Multiplexer, count: int) -> "asyncio.Task[list[Any]]":
    async def ask() -> list[Any]:
        return await multiplexer.ask([Command(None, b"?", count)])

    task = asyncio.create_task(ask())
    for _ in range(2):  # it asks, and what it asked leaves
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
    exchange = await asked(multiplexer, 5)
    multiplexer.data_received(
        b"-ERR The ID specified in XADD is equal or smaller than the target stream top item\r\n"
        b"-NOSCRIPT No matching script.\r\n-MOVED 1 a:1\r\n"
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


@pytest.mark.parametrize(
    "raw",
    [
        b"-LOADING Redis is loading\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
    ],
)
async def test_a_server_that_answers_nothing_yet_is_a_lost_one(raw: bytes) -> None:
    multiplexer = made()
    exchange = await asked(multiplexer, 2)
    multiplexer.data_received(b"+OK\r\n" + raw)
    with pytest.raises(RedisConnectionError):
        await exchange
    assert multiplexer.closed


async def test_bytes_that_are_no_reply_end_the_connection() -> None:
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
    multiplexer, pipe = with_pipe()
    first = multiplexer.ask([Command(None, b"a"), Command(None, b"b")])
    second = multiplexer.ask([Command(None, b"c")])
    await asyncio.sleep(0)
    assert pipe.writes == [b"abc"]
    multiplexer.data_received(b":1\r\n:2\r\n:3\r\n")
    assert (await first, await second) == ([1, 2], [3])
    assert not multiplexer.closed


async def test_calls_that_come_during_a_write_leave_together_as_the_next_one() -> None:
    multiplexer, pipe = with_pipe()
    first = [multiplexer.ask([Command(None, b"a", 2)])]
    await asyncio.sleep(0)
    gathered = []
    for name in (b"b", b"c", b"d"):
        gathered.append(multiplexer.ask([Command(None, name)]))
        await asyncio.sleep(0)
    multiplexer.data_received(b":1\r\n")
    await asyncio.sleep(0)
    assert pipe.writes == [b"a"], "half of the first one's replies are missing"
    multiplexer.data_received(b":2\r\n")
    # Whoever is answered now asks again in the same moment, and its call leaves with those that waited.
    assert await first[0] == [1, 2]
    gathered.append(multiplexer.ask([Command(None, b"e")]))
    await asyncio.sleep(0)
    assert pipe.writes == [b"a", b"bcde"]
    multiplexer.data_received(b":3\r\n:4\r\n:5\r\n:6\r\n")
    assert [await one for one in gathered] == [[3], [4], [5], [6]]


async def test_gathered_calls_are_bounded() -> None:
    multiplexer, pipe = with_pipe()
    multiplexer.ask([Command(None, b"a")])
    await asyncio.sleep(0)
    half = b"x" * (MAX_GATHERED // 2)
    multiplexer.ask([Command(None, half)])
    await asyncio.sleep(0)
    assert pipe.writes == [b"a"]
    last = multiplexer.ask([Command(None, half)])
    await asyncio.sleep(0)
    assert pipe.writes == [b"a", half + half]
    multiplexer.data_received(b":1\r\n:2\r\n:3\r\n")
    assert await last == [3]


async def test_a_call_that_is_given_up_before_it_left_is_not_sent_and_one_given_up_later_keeps_its_place() -> None:
    multiplexer, pipe = with_pipe()
    sent = multiplexer.ask([Command(None, b"a")])
    await asyncio.sleep(0)
    waiting, kept = multiplexer.ask([Command(None, b"b")]), multiplexer.ask([Command(None, b"c")])
    sent.cancel()
    waiting.cancel()
    multiplexer.data_received(b":1\r\n")
    await asyncio.sleep(0)
    assert pipe.writes == [b"a", b"c"]
    multiplexer.data_received(b":3\r\n")
    assert await kept == [3]
    assert not multiplexer.closed


async def test_a_time_out_counts_from_the_call_however_long_it_was_gathered() -> None:
    multiplexer, _ = with_pipe(timeout_s=1.0)
    loop = asyncio.get_running_loop()
    first = multiplexer.ask([Command(None, b"a")])
    await asyncio.sleep(0.2)
    asked_at = loop.time()
    gathered = multiplexer.ask([Command(None, b"b")])
    await asyncio.sleep(0.7)
    multiplexer.data_received(b":1\r\n")
    assert await first == [1]
    with pytest.raises(RedisTimeoutError):
        await gathered
    assert loop.time() - asked_at < 1.5, "and not 1.7, as from when it left"


async def test_gathered_calls_are_lost_with_the_connection() -> None:
    multiplexer, _ = with_pipe()
    multiplexer.ask([Command(None, b"a")])
    await asyncio.sleep(0)
    gathered = multiplexer.ask([Command(None, b"b")])
    multiplexer.connection_lost(None)
    with pytest.raises(RedisConnectionError):
        await gathered
