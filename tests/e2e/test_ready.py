"""Readiness where the logs and the queue lie on a server each."""

import asyncio
import time
from pathlib import Path

from tests.support.processes import start_server
from tests.support.stack import running_stack


async def test_it_is_not_ready_while_either_server_is_gone(tmp_path: Path) -> None:
    place = tmp_path / "logs"
    place.mkdir()
    with start_server(place) as logs:
        async with running_stack(tmp_path, logs=logs.url) as stack:
            await stack.until_ready()
            for server in (logs, stack.server):
                for lose, bring_back in ((server.pause, server.resume), (server.kill, server.start_again)):
                    await asyncio.to_thread(lose)
                    began = time.monotonic()
                    answer = await stack.client.get("/readyz")
                    assert answer.status_code == 503
                    assert answer.json()["code"] == "redis_unavailable"
                    assert time.monotonic() - began < 3.0, "a generous reading of one and a half seconds"
                    await asyncio.to_thread(bring_back)
                    await stack.until_ready()
