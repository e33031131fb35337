"""An SSE response on its connection: whoever asks again there waits for its end; a lost connection ends it."""

import asyncio

import pytest

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
