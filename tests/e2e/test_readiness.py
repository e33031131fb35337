"""Readiness where the logs and the queue lie on a server each."""

import asyncio
import time
from pathlib import Path

from tests.support.processes import start_server
from tests.support.stack import running_stack
from tests.support.viewing import view_to_end


async def test_an_api_is_not_ready_while_either_server_is_gone(tmp_path: Path) -> None:
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


async def test_an_api_without_a_worker_serves_viewers_and_takes_no_creates(tmp_path: Path) -> None:
    async with running_stack(tmp_path) as stack:
        made = await stack.create({"tokens": 5})
        await stack.until_status(made["id"], "done")
        assert (await stack.client.get("/readyz/creates")).json()["creates"] == "taken"
        await asyncio.to_thread(stack.workers[0].terminate)
        async with asyncio.timeout(60):
            while (answer := await stack.client.get("/readyz/creates")).status_code == 200:
                await asyncio.sleep(0.1)
        assert (answer.status_code, answer.json()["code"]) == (503, "no_workers")
        assert (await stack.client.get("/readyz")).status_code == 503
        assert (await stack.client.get("/readyz/viewers")).json() == {"status": "ready"}
        assert (await view_to_end(stack.client, made["events_url"])).types[-1] == "done"
        await asyncio.to_thread(stack.server.pause)
        for path in ("/readyz/viewers", "/readyz/creates"):
            answer = await stack.client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "redis_unavailable")
        await asyncio.to_thread(stack.server.resume)
