"""An attempt that is cancelled while its end is on its way, on a real server: nothing is asked for again."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from shared.claims import Claim
from shared.events import FINISHING
from shared.keys import Keys
from shared.new_stream import NewStream
from shared.queue import Queue
from shared.redis import connect_to_logs, load_scripts, open_client
from shared.settings import Settings
from shared.streams import Streams
from tests.support.processes import Server
from worker.carried import Carried
from worker.course import Course
from worker.endings import Endings
from worker.link import Link
from worker.log_writer import LogWriter
from worker.reconcile import Reconciler

KEYS = Keys("endings")
LEASE_MS = 3000
CALM_MS = 3_600_000
FLUSH_S = 0.2
ANSWER = {"finish_reason": "stop"}


class Worker:
    """The writing half of one worker, and what another one sees."""

    def __init__(self, url: str) -> None:
        scripts = load_scripts()
        self.client = open_client(url)
        self.streams = Streams(self.client, KEYS, scripts)
        self.queue = Queue(self.client, KEYS)
        link = Link(lambda: connect_to_logs(url), scripts.values())
        self.writer = LogWriter(link, Reconciler(KEYS, scripts["reclaim"], "w1", LEASE_MS, 4096), scripts, FLUSH_S)
        self.endings = Endings(Settings(), self.streams, self.queue, self.writer)

    async def claim(self, stream_id: str, worker: str) -> Claim:
        while (claim := await self.streams.claim(stream_id, worker, LEASE_MS, 3, CALM_MS)).outcome == "settling":
            await asyncio.sleep(0.2)  # the server has just started
        return claim

    async def said(self, stream_id: str) -> Carried:
        """An attempt that has said all but its end."""
        fields = {"request": "{}", "about": "{}", "model": "m", "on_failure": "continue"}
        await self.streams.create(NewStream(stream_id, "h", "", b"{}", fields))
        await self.streams.confirm(stream_id)
        carried = self.writer.carry(stream_id, await self.claim(stream_id, "w1"))
        carried.say({"text": "all of it"})
        assert await self.writer.settled(carried)
        carried.note(FINISHING, ANSWER)
        return carried

    async def attempt(self, carried: Carried) -> None:
        """Its end, as a generation has it."""
        try:
            await self.endings.end(carried, "done", dict(ANSWER), Course(0.0))
        except asyncio.CancelledError:
            await self.endings.hand_over(carried)
            raise
        finally:
            self.writer.drop(carried)


@pytest_asyncio.fixture
async def worker(shared_valkey: Server) -> AsyncIterator[Worker]:
    made = Worker(shared_valkey.url)
    running = asyncio.create_task(made.writer.run())
    yield made
    running.cancel()
    await asyncio.wait({running})
    await made.client.aclose()


async def test_a_finish_reason_that_the_end_should_have_told_is_told_all_the_same(worker: Worker) -> None:
    carried = await worker.said("cancelled")
    task = asyncio.create_task(worker.attempt(carried))
    await asyncio.sleep(FLUSH_S / 4)
    task.cancel()
    await asyncio.wait({task})
    claim = await worker.claim("cancelled", "w2")
    assert (claim.outcome, claim.why) == ("end", FINISHING)


async def test_an_end_that_was_written_while_it_was_given_up_stays(worker: Worker) -> None:
    carried = await worker.said("written")
    task = asyncio.create_task(worker.attempt(carried))
    async with asyncio.timeout(5):
        while (await worker.streams.fields("written", "status")) != ["done"]:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    reading = await worker.streams.read("written")
    assert reading is not None
    assert [entry.type for entry in reading.tail] == [FINISHING, "done"]
    assert (await worker.claim("written", "w2")).outcome == "ended"
