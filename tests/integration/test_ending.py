"""An attempt that is cancelled while its end is on its way, on a real server."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from shared.config.settings import Settings
from shared.protocol.events import FINISHING
from shared.redis import connect_to_logs, load_scripts, open_client
from shared.store.claims import Claim
from shared.store.erasures import Erasures
from shared.store.keys import Keys
from shared.store.new_stream import NewStream, new_nonce
from shared.store.queue import Lane, Queue
from shared.store.streams import Streams
from tests.support.processes import Server
from worker.attempt.ending import AttemptEnding
from worker.attempt.outcome import Outcome
from worker.log.attempt_log import AttemptLog
from worker.log.writer import LogWriter

KEYS = Keys("endings")
LEASE_MS = 3000
FLUSH_S = 0.2


class Worker:
    """The writing half of one worker, and what another one sees."""

    def __init__(self, url: str) -> None:
        scripts = load_scripts()
        self.client = open_client(url)
        self.streams = Streams(self.client, KEYS, scripts)
        self.queue = Queue(self.client, KEYS)
        self.writer = LogWriter(lambda: connect_to_logs(url), KEYS, scripts, 4096, FLUSH_S)
        self.endings = AttemptEnding(
            Settings(), self.streams, self.queue, self.writer, Erasures(Settings(), self.client, KEYS)
        )

    async def claim(self, stream_id: str, worker: str) -> Claim:
        return await self.streams.claim(stream_id, worker, LEASE_MS, 3)

    async def said(self, stream_id: str) -> AttemptLog:
        """An attempt that has said all but its end."""
        fields = {"request": "{}", "about": "{}", "model": "m", "on_failure": "continue"}
        await self.streams.record(NewStream(stream_id, "h", "", b"{}", fields), new_nonce(), 9_000_000_000_000)
        attempt = self.writer.begin(stream_id, await self.claim(stream_id, "w1"))
        attempt.add({"text": "all of it"})
        assert await self.writer.acknowledged(attempt)
        return attempt

    async def end(self, attempt: AttemptLog) -> None:
        """Its end, as a generation has it."""
        try:
            await self.endings.end(attempt, "done", {"finish_reason": "stop"}, Outcome(0.0, reason="stop"))
        except asyncio.CancelledError:
            await self.endings.hand_over(attempt, Lane())
            raise
        finally:
            self.writer.drop(attempt)


@pytest_asyncio.fixture
async def worker(shared_valkey: Server) -> AsyncIterator[Worker]:
    made = Worker(shared_valkey.url)
    running = asyncio.create_task(made.writer.run())
    yield made
    running.cancel()
    await asyncio.wait({running})
    await made.client.aclose()


async def test_an_end_that_is_on_its_way_when_the_worker_stops_still_arrives(worker: Worker) -> None:
    attempt = await worker.said("stopped")
    task = asyncio.create_task(worker.end(attempt))
    await asyncio.sleep(FLUSH_S / 4)
    task.cancel()
    await asyncio.wait({task})
    reading = await worker.streams.read("stopped")
    assert reading is not None
    assert [entry.type for entry in reading.tail] == [FINISHING, "done"]
    assert (await worker.claim("stopped", "w2")).outcome == "ended"


async def test_an_end_that_cannot_be_written_is_given_up_in_time(worker: Worker) -> None:
    attempt = await worker.said("given up")
    await worker.streams.erase("given up")
    async with asyncio.timeout(60):
        await worker.end(attempt)
    assert (await worker.claim("given up", "w2")).outcome == "gone"
