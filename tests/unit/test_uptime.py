"""How calm a server is, as one process sees it."""

import asyncio
import contextlib
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from shared import uptime as module
from shared.uptime import SETTLED_S, Uptime, read_facts


class Server:
    """Has been up for long; ``paused`` while it answers nobody."""

    def __init__(self) -> None:
        self.up_s = 1000
        self.running = asyncio.Event()
        self.running.set()
        self.asked = 0

    async def info(self, *_: str) -> dict[str, Any]:
        self.asked += 1
        first = self.asked == 1
        await self.running.wait()
        if first:  # its answer is read last
            await asyncio.sleep(0.02)
        head = b"# Server\r\nredis_version:7\r\nexecutable:/home/jos\xe9/valkey-server\r\n"
        return read_facts(head + b"uptime_in_seconds:%d\r\nrole:master\r\n" % self.up_s)

    def set_response_callback(self, command: str, read: object) -> None:
        assert (command, read) == ("INFO", read_facts)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOW_S", 0.1)


def watch(server: Server) -> Uptime:
    return Uptime(cast(Redis, server))


async def test_a_server_that_is_up_for_long_is_settled_and_a_young_one_is_not() -> None:
    server = Server()
    assert await watch(server).is_settled()
    server.up_s = SETTLED_S - 1
    assert not await watch(server).is_settled()


@pytest.mark.usefixtures("quick")
async def test_a_server_that_stood_still_until_now_is_not_settled_whoever_asked_first() -> None:
    for looks_too in (True, False):
        server = Server()
        seen = watch(server)
        server.running.clear()
        look = asyncio.create_task(seen.run() if looks_too else asyncio.sleep(10))
        await asyncio.sleep(0.15 if looks_too else 0)
        asked = asyncio.create_task(seen.is_settled())
        await asyncio.sleep(0.01 if looks_too else 0.15)
        server.running.set()
        assert not await asked
        look.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await look
