"""Each process says which of the two promises its server can give, and the doctor does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs

from shared.store.durability import durability, log_durability
from tests.support.processes import Server, start_server

AOF: dict[str, Any] = {"aof_enabled": 1, "role": "master", "connected_slaves": 0}


@pytest.mark.parametrize(
    ("info", "appendfsync", "promise"),
    [
        ({}, "always", "strong"),
        ({}, "everysec", "weak"),
        ({}, "no", "weak"),
        ({}, None, "unknown"),
        ({"aof_enabled": 0}, "always", "weak"),
        ({"aof_enabled": 0}, None, "weak"),
        ({"connected_slaves": 1}, "always", "weak"),
        ({"cluster_enabled": 1}, "always", "weak"),
        ({"role": "slave"}, "always", "weak"),
    ],
)
def test_the_promise_follows_from_what_a_server_tells(
    info: dict[str, Any], appendfsync: str | None, promise: str
) -> None:
    assert durability({**AOF, **info}, appendfsync).promise == promise


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with start_server(tmp_path) as server:
        yield server


async def said(url: str) -> dict[str, Any]:
    with capture_logs() as lines:
        await asyncio.wait_for(log_durability(url), 10)
    assert len(lines) == 1
    return dict(lines[0])


async def test_the_server_that_is_shipped_gives_the_strong_promise(server: Server) -> None:
    assert (await said(server.url))["promise"] == "strong"
    with Redis(port=server.port) as redis:
        redis.config_set("appendfsync", "everysec")
    line = await said(server.url)
    assert line["promise"] == "weak"
    assert "everysec" in line["why"]


async def test_one_that_refuses_config_or_info_is_no_reason_to_end(server: Server) -> None:
    with Redis(port=server.port) as redis:
        redis.execute_command("ACL", "SETUSER", "hosted", "on", ">secret", "~*", "&*", "+@all", "-config")
        redis.execute_command("ACL", "SETUSER", "strict", "on", ">secret", "~*", "&*", "+@all", "-config", "-info")
    for user in ("hosted", "strict"):
        line = await said(f"redis://{user}:secret@127.0.0.1:{server.port}/0")
        assert line["promise"] == "unknown"
        assert "secret" not in str(line)


async def test_a_server_that_is_away_is_waited_for(server: Server) -> None:
    server.stop()
    waiting = asyncio.create_task(said(server.url))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(server.start_again)
    assert (await waiting)["promise"] == "strong"


async def test_a_replica_of_a_cluster_may_be_behind() -> None:
    assert (await said("redis+cluster://127.0.0.1:1,127.0.0.1:2"))["promise"] == "weak"
