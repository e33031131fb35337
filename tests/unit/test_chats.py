"""A chat and the stream that answers in it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from fakeredis import FakeAsyncRedis

from shared.store.chats import CHAT_LIFE_MS, Chats
from shared.store.keys import Keys

KEY = Keys("t").chat("alice", "c")


@pytest_asyncio.fixture
async def redis() -> AsyncIterator[Any]:
    client = FakeAsyncRedis(version=(7, 2))
    yield client
    await client.aclose()


@pytest.fixture
def chats(redis: Any) -> Chats:
    return Chats(redis, Keys("t"))


async def test_a_chat_has_the_stream_that_it_was_given_last_and_for_its_key_alone(chats: Chats, redis: Any) -> None:
    assert await chats.stream_of("alice", "c") is None
    assert await chats.give("alice", "c", "s1") is None
    assert await chats.give("alice", "c", "s2") == "s1"
    assert await chats.stream_of("alice", "c") == "s2"
    assert await chats.stream_of("bob", "c") is None
    assert 0 < await redis.pttl(KEY) <= CHAT_LIFE_MS


async def test_a_stream_that_was_not_made_is_taken_back(chats: Chats, redis: Any) -> None:
    await chats.give("alice", "c", "s1")
    before = await chats.give("alice", "c", "s2")
    await chats.take_back("alice", "c", "s2", before)
    assert await chats.stream_of("alice", "c") == "s1"
    assert 0 < await redis.pttl(KEY) <= CHAT_LIFE_MS
    await chats.take_back("alice", "c", "s1")
    assert await chats.stream_of("alice", "c") is None


async def test_taking_back_a_stream_keeps_a_later_one(chats: Chats) -> None:
    before = await chats.give("alice", "c", "s1")
    await chats.give("alice", "c", "s2")
    await chats.take_back("alice", "c", "s1", before)
    assert await chats.stream_of("alice", "c") == "s2"


def test_a_chat_s_own_name_is_no_matter_for_the_size_of_its_key() -> None:
    """A chat outlives the stream that counts for its key: with names of 200 characters it took 1 KB."""
    sizes = {len(Keys("t").chat("alice", name).encode()) for name in ("", "c", "c" * 200, "é" * 200)}
    assert len(sizes) == 1
    assert Keys("t").chat("alice", "c") != Keys("t").chat("alice", "d")
