"""The pump: what an answer says into a log that pulls, at a pace, and to its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from shared.config.providers import Provider
from shared.store.claims import Claim
from shared.store.log import Log
from tests.support.open_answer import FINISH, Wire, opened, said
from worker.attempt.outcome import Outcome
from worker.attempt.pump import Flow, Pump
from worker.background.presence_watch import Watched
from worker.log.attempt_log import AttemptLog
from worker.places import Places
from worker.providers.base import GenerationRequest, ProviderError
from worker.providers.http.connection import DirectConnection
from worker.providers.stream import ProviderStream

ASKED = GenerationRequest(model="m", messages=[])


class Scene:
    """A pump whose log is pulled when a test says so."""

    def __init__(
        self, upstream: DirectConnection, stream: ProviderStream, per_second: float, watched: Watched | None
    ) -> None:
        self.attempt = AttemptLog("s", Claim("run", "started", epoch=1, attempt=1), Log("k", 1000))
        self.outcome = Outcome(0.0)
        self.upstream = upstream
        self.touched = False

        @asynccontextmanager
        async def answer(*_: object) -> AsyncIterator[ProviderStream]:
            yield stream
            stream.close()

        @asynccontextmanager
        async def nobody(*_: object) -> AsyncIterator[None]:
            yield None

        class Watching:
            def watch(self, _: str) -> Any:
                return nullcontext(watched)

        anything: Any = SimpleNamespace(answer=answer, touch=self.touch, turn=nobody)
        presence_watch: Any = Watching()
        provider = Provider("local", "openai", "http://x", "", rate_per_second=per_second)
        flow = Flow(0.3) if watched else None
        pump = Pump(anything, anything, anything, presence_watch, {}, Places(1))
        self.running = asyncio.create_task(pump.run(self.attempt, provider, ASKED, flow, self.outcome))

    def touch(self, _: AttemptLog) -> None:
        self.touched = True

    async def flush(self) -> str:
        """What one flush writes, as the log has it: nothing of an attempt that nobody touched."""
        await asyncio.sleep(0)
        if not self.touched:
            return ""
        self.touched = False
        entries = self.attempt.take()
        self.touched = self.touched or self.attempt.has_pending
        self.attempt.acknowledged(0.0)
        await asyncio.sleep(0)
        return b" ".join(entries).decode("utf-8", "replace")


async def scene(per_second: float = 0, watched: Watched | None = None) -> Scene:
    upstream, stream = await opened(Wire())
    made = Scene(upstream, stream, per_second, watched)
    await asyncio.sleep(0)
    return made


async def test_pieces_between_two_flushes_are_pulled_once_and_the_reason_is_told_at_the_end() -> None:
    run = await scene()
    for text in ("one", "two"):
        run.upstream.data_received(said(text))
    assert '{"text":"onetwo"}' in await run.flush()
    assert await run.flush() == ""
    run.upstream.data_received(said("three") + FINISH)
    assert "three" in await run.flush()
    assert not run.running.done()
    assert run.outcome.reason is None
    run.upstream.data_received(b"data: [DONE]\n\n")
    assert await run.flush() == ""
    await run.running
    assert (run.outcome.reason, run.attempt.has_pending) == ("stop", False)


async def test_the_source_is_not_pulled_while_something_is_in_flight() -> None:
    run = await scene()
    run.upstream.data_received(said("one"))
    await asyncio.sleep(0)
    assert run.attempt.take()
    run.upstream.data_received(said("two"))
    await asyncio.sleep(0)
    assert run.attempt.take() == []
    run.attempt.acknowledged(0.0)
    assert "two" in await run.flush()
    run.running.cancel()


async def test_an_error_is_raised_behind_what_came_before_it() -> None:
    run = await scene()
    run.upstream.data_received(said("one") + b'data: {"error": "x"}\n\n')
    assert "one" in await run.flush()
    with pytest.raises(ProviderError):
        await run.running


async def test_a_pace_spreads_what_came_at_once_to_the_last_of_it() -> None:
    run = await scene(per_second=100)
    words = [f"w{n} " for n in range(30)]
    run.upstream.data_received(b"".join(map(said, words[:20])))
    began = asyncio.get_running_loop().time()
    written = await run.flush()
    run.upstream.data_received(b"".join(map(said, words[20:])) + FINISH + b"data: [DONE]\n\n")
    assert "w0 " in written
    assert "w9 " not in written
    async with asyncio.timeout(60):
        while not run.running.done():
            written += await run.flush()
            await asyncio.sleep(0.005)
    assert [word for word in words if word not in written] == []
    assert asyncio.get_running_loop().time() - began > 0.2
    assert run.outcome.reason == "stop"


async def test_the_source_is_not_pulled_while_nobody_watches() -> None:
    watched = Watched()
    run = await scene(watched=watched)
    run.upstream.data_received(said("one"))
    assert "one" in await run.flush()
    watched.tell(False)
    run.upstream.data_received(said("two"))
    assert "two" not in await run.flush()
    assert "paused" in await run.flush()
    watched.tell(True)
    await asyncio.sleep(0.01)
    written = await run.flush() + await run.flush()
    assert "resumed" in written
    assert "two" in written
    run.upstream.data_received(FINISH + b"data: [DONE]\n\n")
    await run.flush()
    async with asyncio.timeout(60):
        await run.running
