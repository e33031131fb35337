"""The API's server hears of its signal, and does not look for it."""

import asyncio
import signal
from typing import Any

import pytest
import uvicorn
from starlette.responses import Response

from api import server as server_module
from api.server import ApiServer

WITHIN_S = 10.0


class Viewing:
    """Viewers that were told to leave, or not yet."""

    stopped = False

    def stop(self) -> None:
        self.stopped = True


async def test_a_signal_ends_it_long_before_its_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "TICK_S", 10 * WITHIN_S)
    viewing: Any = Viewing()
    server = ApiServer(uvicorn.Config(Response("x"), lifespan="off", port=0, log_level="error"), viewing)
    running = asyncio.create_task(server._serve())
    async with asyncio.timeout(WITHIN_S):
        while not server.started:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # it waits for the signal
        server.handle_exit(signal.SIGTERM, None)
        await running
    assert viewing.stopped
