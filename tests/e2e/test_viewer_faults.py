"""Viewers that misbehave hurt nobody, and get the exact text as soon as they read."""

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from shared.protocol.sse import SseParser
from tests.chaos.viewer import Viewer
from tests.support.bare_provider import bare_provider, bulk_text
from tests.support.proc import resident
from tests.support.script import script_text, script_tokens
from tests.support.sse_socket import SseSocket
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEND_TIMEOUT_S = 2
STORM = 1000
STORM_S = 120.0
"""A few seconds alone; tests may run beside others."""
AT_ONCE = 100
"""Of those that leave; those that come back come all at once."""
STALLED = 30
BULK_MIB = 8
"""More than two sockets hold, so that a viewer that reads nothing is noticed."""


@pytest.fixture(scope="module", autouse=True)
def enough_files() -> Iterator[None]:
    """A storm needs more open sockets than some systems allow at first; children inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * STORM)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(enough_files: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    directory: Path = tmp_path_factory.mktemp("viewer-faults")
    async with (
        bare_provider() as bare_url,
        running_stack(
            directory,
            HEADRACE_MAX_ANSWER_BYTES=str(64 * 1024 * 1024),
            HEADRACE_SEND_TIMEOUT_S=str(SEND_TIMEOUT_S),
            HEADRACE_IDLE_TIMEOUT_S="110",
            OPENAI_BASE_URL=bare_url,
            OPENAI_API_KEY="sk-for-nobody",
        ) as made,
    ):
        yield made


def never_read(url: str) -> socket.socket:
    """A viewer that asks, and then reads nothing."""
    parts = urlsplit(url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((parts.hostname, parts.port))
    sock.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    return sock


async def test_viewers_that_never_read_are_closed_cost_nothing_and_slow_nobody(stack: Stack) -> None:
    text = bulk_text(BULK_MIB)
    made = await stack.create({"bulk": BULK_MIB}, model="openai/bare")
    await stack.until_status(made["id"], "done")
    url, api_pid = stack.apis[0].url + made["events_url"], stack.apis[0].pid
    # What one good viewer costs was paid before.
    assert (await view_to_end(stack.client, made["events_url"])).text == text
    before = resident(api_pid)
    script = {"tokens": 100, "interval_ms": 20, "name": "beside"}
    beside = await stack.create(script)
    with contextlib.ExitStack() as open_sockets:
        for _ in range(STALLED):
            open_sockets.enter_context(contextlib.closing(never_read(url)))
        began = time.monotonic()
        seen = await view_to_end(stack.client, beside["events_url"])
        took_s = time.monotonic() - began
        assert seen.text == script_text(script)
        most = resident(api_pid) - before
        async with asyncio.timeout(10 * SEND_TIMEOUT_S):
            while await stack.viewers():
                most = max(most, resident(api_pid) - before)
                await asyncio.sleep(0.05)
    print(f"{STALLED} viewers that never read: {most:.1f} MiB; a viewer beside them took {took_s:.1f} s")
    assert took_s < 6, "a generous reading of two seconds"
    # A write of 64 KiB each, twice over on its way, and the stream beside them.
    assert most < STALLED / 2
    assert "viewer_stalled" in stack.apis[0].output()


async def test_a_viewer_that_reads_a_byte_a_second_has_the_exact_text_when_it_drains(stack: Stack) -> None:
    script = {"tokens": 400, "interval_ms": 5, "name": "trickle"}
    made = await stack.create(script)
    viewer = Viewer("trickle")
    parser = SseParser()
    url = stack.apis[0].url + made["events_url"]
    async with await SseSocket.open(url, receive_buffer=2048) as response, aclosing(response.body(1)) as trickle:
        for _ in range(5):
            for event in parser.feed(await anext(trickle)):
                viewer.take(event)
            await asyncio.sleep(1)
        with contextlib.suppress(OSError, EOFError):
            async for piece in trickle:
                for event in parser.feed(piece):
                    viewer.take(event)
    while not viewer.over:
        await viewer.read(url)
    assert viewer.answer.text == script_text(script)
    assert [seen.kind for seen in viewer.events].count("started") == 1


async def length_of(url: str, text: str, *, ended: bool) -> int:
    """How many bytes tell all of this text, and the end as well if that is wanted."""
    viewer, parser, length = Viewer("scout"), SseParser(), 0
    async with await SseSocket.open(url) as response, aclosing(response.body(1)) as pieces:
        while viewer.answer.text != text or viewer.over != ended:
            length += 1
            for event in parser.feed(await anext(pieces)):
                viewer.take(event)
    return length


async def leave_after(count: int, url: str, room: asyncio.Semaphore) -> Viewer:
    """Read so many bytes of the body, and drop the connection. Out: the viewer, which knows what it understood."""
    viewer, parser = Viewer(f"{count} bytes"), SseParser()
    async with room, await SseSocket.open(url) as response, aclosing(response.body()) as pieces:
        while count:
            piece = (await anext(pieces))[:count]
            count -= len(piece)
            for event in parser.feed(piece):
                viewer.take(event)
    return viewer


async def leave_at_every_byte(url: str, length: int, wanted: str, release: Callable[[], None]) -> None:
    """So many viewers leave, each at another byte, and come back with what they understood."""
    room = asyncio.Semaphore(AT_ONCE)
    viewers = await asyncio.gather(*(leave_after(count, url, room) for count in range(length + 1)))
    back = [asyncio.create_task(come(viewer, url)) for viewer in viewers]
    release()
    await asyncio.gather(*back)
    assert [viewer.habit for viewer in viewers if viewer.answer.text != wanted] == []
    assert [viewer.habit for viewer in viewers if len({e.id for e in viewer.events}) != len(viewer.events)] == []


async def test_a_viewer_may_leave_at_every_byte(stack: Stack) -> None:
    script = {"tokens": 5, "interval_ms": 10, "hang_after": 3, "name": "bytes"}
    made = await stack.create(script)
    url = stack.apis[0].url + made["events_url"]
    said, wanted = "".join(script_tokens(script)[:3]), script_text(script)
    await stack.until_said(made["id"], len(said))
    running = await length_of(url, said, ended=False)
    await leave_at_every_byte(url, running, wanted, lambda: stack.provider.release("bytes"))
    await stack.until_status(made["id"], "done")
    ended = await length_of(url, wanted, ended=True)
    await leave_at_every_byte(url, ended, wanted, lambda: None)
    print(f"left at {running} bytes while it ran, at {ended} when it had ended")
    assert ended > running > 100


async def come(viewer: Viewer, url: str) -> None:
    """Read until the end; whoever finds no room in time comes again, as EventSource would."""
    while not viewer.over:
        with contextlib.suppress(OSError, EOFError):
            await viewer.read(url)
    assert not viewer.trouble, viewer.trouble


@pytest.mark.timeout(4 * STORM_S)
async def test_a_reconnect_storm_of_a_thousand_ends_with_the_exact_text_for_each(stack: Stack) -> None:
    script = {"tokens": 80, "interval_ms": 20, "name": "storm", "hang_after": 40}
    made = await stack.create(script)
    url = stack.apis[0].url + made["events_url"]
    crowd = [Viewer(str(n)) for n in range(STORM)]
    before = [asyncio.create_task(come(viewer, url)) for viewer in crowd]
    async with asyncio.timeout(STORM_S):
        while not all(viewer.events for viewer in crowd):
            await asyncio.sleep(0.05)
    for task in before:
        task.cancel()
    await asyncio.gather(*before, return_exceptions=True)
    assert not any(viewer.over for viewer in crowd)
    seen_before = {viewer.habit: viewer.responses for viewer in crowd}
    began = time.monotonic()
    behind = [asyncio.create_task(come(viewer, url)) for viewer in crowd]
    async with asyncio.timeout(STORM_S):
        while any(viewer.responses == seen_before[viewer.habit] for viewer in crowd):
            await asyncio.sleep(0.05)
    back_s = time.monotonic() - began
    stack.provider.release("storm")
    async with asyncio.timeout(STORM_S):
        await asyncio.gather(*behind)
    print(f"{STORM} viewers were back after {back_s:.1f} s and at the end after {time.monotonic() - began:.1f} s")
    wanted = script_text(script)
    assert [viewer.habit for viewer in crowd if viewer.answer.text != wanted] == []
    assert [viewer.habit for viewer in crowd if len({e.id for e in viewer.events}) != len(viewer.events)] == []
