"""An SSE response on its connection: whoever asks again there waits for its end; a lost connection ends it."""

import asyncio

import pytest

from api.http import connections
from tests.support.served import GET, WITHIN_S, NumberedStreams, served


@pytest.mark.parametrize("pipelined", [True, False])
async def test_a_second_request_on_a_connection_is_answered_behind_the_end(pipelined: bool) -> None:
    app = NumberedStreams()
    async with served(app) as port, asyncio.timeout(WITHIN_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert b"200 OK" in await reader.readuntil(b"stream 0\r\n")
        if pipelined:
            writer.write(GET)
            await asyncio.sleep(0.05)
            assert len(app.said) == 1
        app.said[0].put_nowait(b"more")
        app.said[0].put_nowait(b"")
        assert await reader.readuntil(b"0\r\n\r\n") == b"4\r\nmore\r\n0\r\n\r\n"
        if not pipelined:
            writer.write(GET)
        assert b"200 OK" in await reader.readuntil(b"stream 1\r\n")
        app.said[1].put_nowait(b"")
        await reader.readuntil(b"0\r\n\r\n")
        writer.close()
    assert app.ended == [0, 1]


async def test_a_lost_connection_ends_what_is_sent_over_it() -> None:
    app = NumberedStreams()
    async with served(app) as port, asyncio.timeout(WITHIN_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await reader.readuntil(b"stream 0\r\n")
        writer.transport.abort()
        while not app.ended:
            await asyncio.sleep(0.01)


async def test_the_server_waits_for_a_response_when_it_stops_and_closes_behind_it() -> None:
    app = NumberedStreams()
    async with served(app) as port, asyncio.timeout(WITHIN_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await reader.readuntil(b"stream 0\r\n")
        asyncio.get_running_loop().call_later(0.3, app.said[0].put_nowait, b"last")
        asyncio.get_running_loop().call_later(0.4, app.said[0].put_nowait, b"")
    async with asyncio.timeout(WITHIN_S):
        assert await reader.read() == b"4\r\nlast\r\n0\r\n\r\n"
    writer.close()


BODY = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("behind", "refusal"),
    [
        (b"no http at all\r\n\r\n", b"400"),
        (GET * 17, b"400"),
        (b"GET / HT", b"408"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (BODY + b"1\r\nx\r\n" * 5000, b"400"),
    ],
    ids=["garbage", "17 requests", "half a head", "a long URL", "crumbs"],
)
async def test_what_is_refused_behind_a_response_is_told_so_behind_it(
    behind: bytes, refusal: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SWEEP_S", "HEAD_S"):
        monkeypatch.setattr(connections, name, 0.1)
    app = NumberedStreams()
    waiting = behind.count(GET) - 1
    async with served(app) as port, asyncio.timeout(WITHIN_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await reader.readuntil(b"stream 0\r\n")
        writer.write(behind)
        await asyncio.sleep(0.4)
        writer.write(GET)  # is dropped
        app.said[0].put_nowait(b"more")
        assert await reader.readuntil(b"more\r\n") == b"4\r\nmore\r\n"
        app.said[0].put_nowait(b"")
        assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
        for number in range(1, waiting + 1):
            await reader.readuntil(b"stream %d\r\n" % number)
            app.said[number].put_nowait(b"")
            await reader.readuntil(b"0\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + refusal)
        assert b"connection: close" in head
        assert (await reader.read()).endswith(b"}")
        writer.close()
    assert len(app.said) == max(0, waiting) + 1


async def test_whoever_sends_no_more_is_told_of_a_refusal_too() -> None:
    app = NumberedStreams()
    async with served(app) as port, asyncio.timeout(WITHIN_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        await reader.readuntil(b"stream 0\r\n")
        writer.write(b"no http at all\r\n\r\n")
        writer.write_eof()
        await asyncio.sleep(0.1)
        app.said[0].put_nowait(b"")
        assert b"HTTP/1.1 400" in await reader.read()
        writer.close()
