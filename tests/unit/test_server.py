"""The API's server hears of its signal, and does not look for it; it accepts connections together."""

import asyncio
import signal
import socket
from typing import Any

import pytest
import uvicorn
import uvloop
from starlette.responses import Response

from api import server as server_module
from api.server import ACCEPTED, ApiServer

WITHIN_S = 60.0


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


def test_connections_that_come_together_are_accepted_together() -> None:
    """On the loop that the API has: whoever is the last of them does not wait an iteration for each."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_accepted_together(200))


async def _accepted_together(count: int) -> None:
    loop = asyncio.get_running_loop()
    config = uvicorn.Config(Response("x"), lifespan="off", port=0, log_level="error", backlog=count)
    server = ApiServer(config, Viewing())  # type: ignore[arg-type]
    running = asyncio.create_task(server._serve())
    async with asyncio.timeout(WITHIN_S):
        while not server.started:
            await asyncio.sleep(0.01)
    iterations = 0

    def turn() -> None:
        nonlocal iterations
        iterations += 1
        loop.call_soon(turn)

    # They connect before the loop looks at its listeners again.
    callers = [socket.create_connection(server.servers[0].sockets[0].getsockname()[:2]) for _ in range(count)]
    try:
        turn()
        async with asyncio.timeout(WITHIN_S):
            while len(server.server_state.connections) < count:
                await asyncio.sleep(0)
        took = iterations
    finally:
        for caller in callers:
            caller.close()
        server.handle_exit(signal.SIGTERM, None)
        await asyncio.wait_for(running, WITHIN_S)
    assert took <= count / ACCEPTED + 5
