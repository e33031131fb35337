"""Who is let in by a read token: by the clock, and by what a cursor proves."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from fakeredis import FakeAsyncRedis

from api.http.problems import Problem
from api.streams.links import ReadLinks
from shared.config.api_keys import new_api_key
from shared.config.settings import Settings
from shared.protocol.cursor import Cursor
from shared.redis import leave_streams_raw, load_scripts
from shared.store.keys import Keys
from shared.store.new_stream import NewStream
from shared.store.streams import Streams

ID = "A" * 24
LIFE_S, RUNS_S, KEPT_S = 900.0, 3600.0, 86_400.0
FIRST, SECOND = 2_000_000_000_000, 2_000_000_005_000
"""The epochs of two attempts; of the first one nothing is left in the log."""


async def secret() -> bytes:
    return b"secret"


class Door:
    """A stream, a token of it, and a clock (s after the token was made)."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.streams = Streams(redis, Keys("t"), load_scripts(shebang=False), tries=1)
        self.now_s = 0.0
        settings = Settings(
            api_keys=new_api_key("a")[1], token_life_s=LIFE_S, max_stream_s=RUNS_S, retention_s=KEPT_S
        )
        self.tokens = ReadLinks(settings, secret, self.streams, lambda: 1_000_000 + self.now_s)
        self.token = ""

    async def create(self) -> None:
        new = NewStream(ID, "hash", "owner", b"{}", {"model": "m", "on_failure": "fail"})
        assert (await self.streams.record(new, "nonce", 9_000_000_000_000))[0] == "created"
        keys = Keys("t").stream(ID)
        await self.redis.delete(keys.log)
        # What is left of it: its second attempt from the third event on.
        for n in (3, 4, 5):
            await self.redis.execute_command("XADD", keys.log, f"{SECOND}-{n}", "e", "message", "d", "{}")

    async def sign(self) -> None:
        (created_ms,) = await self.streams.fields(ID, "created_ms")
        url = (await self.tokens.links(ID, int(created_ms or 0), ""))["events_url"]
        (self.token,) = parse_qs(urlsplit(url).query)["token"]

    async def code(self, cursor: Cursor | None = None) -> str:
        """Why nobody is let in; '' if this viewer is."""
        try:
            assert await self.tokens.fields(ID, self.token, cursor, "model") == ["m"]
        except Problem as problem:
            return problem.code
        return ""


@pytest_asyncio.fixture
async def door() -> AsyncIterator[Door]:
    async with FakeAsyncRedis(version=(7, 2)) as redis:
        leave_streams_raw(redis)
        made = Door(redis)
        await made.create()
        await made.sign()
        yield made


async def test_a_token_lets_everybody_in_until_it_expires(door: Door) -> None:
    for cursor in (None, Cursor(SECOND, 4), Cursor(1, 0)):
        assert await door.code(cursor) == ""
    door.now_s = LIFE_S - 1
    assert await door.code() == ""
    door.now_s = LIFE_S
    assert await door.code() == "token_expired"


@pytest.mark.parametrize(
    "cursor",
    [Cursor(SECOND, 3), Cursor(SECOND, 5), Cursor(SECOND, 0)],
    ids=["there", "the last one", "trimmed, of an epoch that is there"],
)
async def test_an_event_s_id_lets_in_for_a_bounded_time_behind_the_token_s_end(door: Door, cursor: Cursor) -> None:
    door.now_s = LIFE_S
    assert await door.code(cursor) == ""
    door.now_s = LIFE_S + RUNS_S + KEPT_S - 1
    assert await door.code(cursor) == ""
    door.now_s = LIFE_S + RUNS_S + KEPT_S
    assert await door.code(cursor) == "token_expired"


@pytest.mark.parametrize(
    "cursor",
    [Cursor(SECOND, 6), Cursor(SECOND + 1, 0), Cursor(SECOND - 1, 0), Cursor(FIRST, 1), Cursor(0, 0), Cursor(1, 0)],
    ids=["ahead", "an epoch ahead", "an epoch between", "an epoch that is gone", "zero", "made up"],
)
async def test_an_expired_token_refuses_a_cursor_that_was_never_an_event(door: Door, cursor: Cursor) -> None:
    door.now_s = LIFE_S
    assert await door.code(cursor) == "token_expired"


async def test_a_token_does_not_open_the_next_stream_of_the_same_id(door: Door) -> None:
    await door.redis.hincrby(Keys("t").stream(ID).meta, "created_ms", 1)
    assert await door.code() == "token_invalid"
    assert await door.code(Cursor(SECOND, 4)) == "token_invalid"
    await door.sign()
    assert await door.code() == ""


async def test_a_token_opens_nothing_without_its_stream(door: Door) -> None:
    await door.streams.erase(ID)
    assert await door.code() == "stream_not_found"
    assert await door.code(Cursor(SECOND, 4)) == "stream_not_found"
