"""A real Redis for the tests of scripts, which knows their flags (fakeredis does not), and a scripted provider."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from tests.support.processes import Server, start_server
from tests.support.scripted_provider import ScriptedProvider


@pytest.fixture(scope="session")
def unit_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all of them."""
    with start_server(tmp_path_factory.mktemp("unit-valkey")) as server:
        yield server


@pytest_asyncio.fixture
async def redis(unit_valkey: Server) -> AsyncIterator[Redis]:
    """A client of it, and nothing in it."""
    async with Redis.from_url(unit_valkey.url) as client:
        await client.flushall()
        yield client


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[ScriptedProvider]:
    """A provider of this test's own."""
    async with ScriptedProvider() as provider:
        yield provider
