"""What has ended is freed at once, and not by the garbage collector: that comes seldom
(``shared/process/gc_tuning.py``), and by then thousands of streams would lie there with all that they said."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.http.connections import CONNECTION, CYCLE
from shared.store.claims import Claim
from shared.store.log import Log
from tests.support.open_answer import FINISH, HEAD, Wire, opened, said
from tests.support.provider_calls import at
from tests.support.served import GET, WITHIN_S, NumberedStreams, served
from worker.attempt.outcome import Outcome
from worker.attempt.pump import Pump
from worker.log.attempt_log import AttemptLog
from worker.places import Places
from worker.providers.base import GenerationRequest
from worker.providers.http.connection import DirectConnection
from worker.providers.stream import ProviderStream


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class Client:
    """A provider client with one answer."""

    def __init__(self, stream: ProviderStream) -> None:
        self._stream = stream

    def answer(self, *_: object) -> "Client":
        return self

    async def __aenter__(self) -> ProviderStream:
        return self._stream

    async def __aexit__(self, *_: object) -> None:
        self._stream.close()
        del self._stream


async def read_to_its_end(upstream: DirectConnection, stream: ProviderStream) -> list[weakref.ref[Any]]:
    """Out: what carried the answer, and what read it."""
    attempt = AttemptLog("s", Claim("run", "started", epoch=1, attempt=1), Log("k", 100))
    writer: Any = SimpleNamespace(touch=lambda _: None)
    client: Any = Client(stream)
    unused: Any = None
    pump = Pump(client, writer, unused, unused, {}, Places(1))
    request = GenerationRequest(model="m", messages=[])
    reading = asyncio.create_task(pump.run(attempt, at("http://x"), request, None, Outcome(0.0)))
    for chunk in (said("a"), said("b"), FINISH + b"data: [DONE]\n\n"):
        await asyncio.sleep(0)
        upstream.data_received(chunk)
        await asyncio.sleep(0)
        attempt.take()
        attempt.acknowledged(0.0)
    upstream.connection_lost(None)
    attempt.take()
    await reading
    return [weakref.ref(attempt), weakref.ref(stream), weakref.ref(stream._decoder)]


async def test_an_answer_that_was_read_and_whatever_carried_it() -> None:
    upstream, stream = await opened(Wire())
    async with asyncio.timeout(WITHIN_S):
        refs = await read_to_its_end(upstream, stream)
    del upstream, stream
    await asyncio.sleep(0)
    assert [ref() for ref in refs] == [None, None, None]


async def test_a_connection_to_a_provider_that_was_lost() -> None:
    upstream = DirectConnection(lambda upstream, _: upstream.abort())
    upstream.connection_made(Wire())
    asking = asyncio.create_task(upstream.ask(b""))
    await asyncio.sleep(0)
    upstream.data_received(HEAD)
    assert (await asking).status == 200
    upstream.connection_lost(None)
    found = weakref.ref(upstream)
    del upstream, asking
    await asyncio.sleep(0)
    assert found() is None


class Noting(NumberedStreams):
    """Keeps what the server holds of each request in sight. Even requests get a stream, odd ones a plain answer."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[weakref.ref[Any]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.held += [scope[CONNECTION], scope[CYCLE]]
        if len(self.held) % 4 == 0:
            await Response("plain")(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


async def test_a_request_and_its_connection() -> None:
    app = Noting()
    async with served(app) as port, asyncio.timeout(WITHIN_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for wanted in (b"stream 0\r\n", b"plain"):
            writer.write(GET)
            await reader.readuntil(wanted)
            if app.said:
                app.said.pop().put_nowait(b"")
                await reader.readuntil(b"0\r\n\r\n")
        assert len(app.held) == 4
        assert app.held[1]() is None, "the request, while its connection goes on"
        writer.close()
        await writer.wait_closed()
        while any(ref() for ref in app.held):
            await asyncio.sleep(0.01)
