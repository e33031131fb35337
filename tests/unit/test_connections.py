"""Connections that wait: what is late, silent or crowded is closed, and told so."""

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_network

import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http import connections
from api.http.connections import Connections
from shared.process.files import RESERVED, find_room
from tests.support.served import GET, WITHIN_S, served

LARGE = b"x" * (8 * 1024 * 1024)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body; answers ``/large`` with much."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
    await Response(LARGE if scope["path"] == "/large" else b"ok")(scope, receive, send)


def behind(table: Connections, app: ASGIApp = app) -> AbstractAsyncContextManager[int]:
    """The application behind this table of connections, which are cut off in the end."""
    return served(app, table, waits=False)


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SWEEP_S", 0.05)
    for name in ("HEAD_S", "BODY_S", "KEEP_ALIVE_S", "FLUSH_S", "LINGER_S"):
        monkeypatch.setattr(connections, name, 0.3)


async def answer(port: int, *said: bytes, pause_s: float = 0.0) -> bytes:
    """All that one connection answers, until it is closed, to what it is told in these pieces."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(WITHIN_S):
            for piece in said:
                writer.write(piece)
                await asyncio.sleep(pause_s)
            return await reader.read(-1)
    finally:
        writer.transport.abort()


def code(said: bytes) -> tuple[int, str]:
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.parametrize(
    "said",
    [
        [],
        [b"GET / HTT"],
        [b"\r\n"],
        [b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx"],
        [b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"],
    ],
    ids=["nothing", "half a head", "a blank line", "half a body", "no chunk"],
)
async def test_a_late_request_gets_408(said: list[bytes]) -> None:
    async with behind(Connections(100)) as port:
        assert code(await answer(port, *said)) == (408, "request_timeout")


async def test_a_blank_line_keeps_no_connection_open_behind_a_response() -> None:
    """uvicorn's own timer ends with any byte that comes."""
    async with behind(Connections(100)) as port:
        said = await answer(port, GET, b"\r\n", pause_s=0.1)
        assert said.startswith(b"HTTP/1.1 200")
        assert b"408" in said


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with behind(Connections(100)) as port:
        said = await answer(port, GET)
        assert said.endswith(b"\r\n\r\nok")


async def test_a_body_that_comes_fast_enough_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MIN_BODY_RATE", 100)
    head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n"
    async with behind(Connections(100)) as port:
        said = await answer(port, head, *[b"x" * 100] * 10, pause_s=0.1)
        assert said.startswith(b"HTTP/1.1 200")


async def test_a_response_that_its_peer_does_not_take_is_cut_off() -> None:
    for close in (b"", b"Connection: close\r\n"):
        table = Connections(100)
        async with behind(table) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"GET /large HTTP/1.1\r\nHost: h\r\n" + close + b"\r\n")
            await reader.readuntil(b"200 OK")
            async with asyncio.timeout(WITHIN_S):
                while not table._waiting:
                    await asyncio.sleep(0.01)
                while table._waiting:
                    await asyncio.sleep(0.01)
            with pytest.raises((ConnectionError, EOFError)):
                await reader.readexactly(len(LARGE))
            writer.close()


async def test_the_oldest_idle_connections_go_where_too_many_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 60.0)
    monkeypatch.setattr(connections, "SAFE_S", 0.1)
    for table in (Connections(100, most_waiting=5), Connections(100, 5), Connections(5)):
        async with behind(table) as port:
            silent = [asyncio.create_task(answer(port, b"GET /")) for _ in range(5)]
            await asyncio.sleep(0.3)
            assert not any(task.done() for task in silent)
            assert (await answer(port, GET)).startswith(b"HTTP/1.1 200")
            async with asyncio.timeout(WITHIN_S):
                assert code(await silent[0]) == (408, "request_timeout")
            assert not silent[4].done()
            for task in silent:
                task.cancel()


async def test_a_trusted_proxys_connections_are_not_counted_as_one_addresss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 60.0)
    monkeypatch.setattr(connections, "SAFE_S", 0.1)
    for network, stay in (("127.0.0.0/8", True), ("10.0.0.0/8", False)):
        async with behind(Connections(100, 5, proxies=[ip_network(network)])) as port:
            silent = [asyncio.create_task(answer(port, b"GET /")) for _ in range(5)]
            await asyncio.sleep(0.3)
            assert (await answer(port, GET)).startswith(b"HTTP/1.1 200")
            assert all(not task.done() for task in silent) is stay
            for task in silent:
                task.cancel()


async def test_a_body_that_nobody_wants_is_read_for_its_time_and_then_cut() -> None:
    """A response came before the body's end, and the connection is to be closed behind it."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(b"no", 413)(scope, receive, send)

    head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n"
    async with behind(Connections(100), refuse) as port:
        whole = await answer(port, head, *[b"x" * 10_000] * 10, pause_s=0.02)
        assert whole.endswith(b"\r\n\r\nno")
        assert await answer(port, head, b"x") == whole


async def test_a_body_in_crumbs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_S", 60.0)
    head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with behind(Connections(100)) as port:
        most = b"1\r\nx\r\n" * connections.MAX_PIECES
        assert (await answer(port, head, most, connections.LAST_CHUNK)).startswith(b"HTTP/1.1 200")
        assert code(await answer(port, head, most, b"1\r\nx\r\n")) == (400, "bad_http")


async def test_a_storm_of_connections_does_not_drive_itself_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 60.0)
    async with behind(Connections(100, 5, most_waiting=5)) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(30)]
        for _, writer in opened:
            writer.write(GET)
        async with asyncio.timeout(WITHIN_S):
            for reader, writer in opened:
                assert b"200 OK" in await reader.readline()
                writer.close()


async def test_a_connection_is_safe_for_a_while_however_many_come_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 60.0)
    monkeypatch.setattr(connections, "SAFE_S", 60.0)
    table = Connections(100, 5, most_waiting=5)
    async with behind(table) as port:
        early = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        async with asyncio.timeout(WITHIN_S):
            while table.sweeps < 4:
                await asyncio.sleep(0.01)
        late = [await asyncio.open_connection("127.0.0.1", port) for _ in range(10)]
        for _, writer in (*early, *late):
            writer.write(GET)
        async with asyncio.timeout(WITHIN_S):
            for reader, writer in (*early, *late):
                assert b"200 OK" in await reader.readline()
                writer.close()


async def test_a_storm_on_a_busy_machine_does_not_drive_itself_out_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read late was not sent late."""
    monkeypatch.setattr(connections, "SAFE_S", 0.0)
    monkeypatch.setattr(connections, "SWEEP_S", 60.0)
    await test_a_storm_of_connections_does_not_drive_itself_out(monkeypatch)


async def test_a_connection_is_refused_where_all_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FLUSH_S", 60.0)
    table = Connections(1)
    async with behind(table) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n")
        await asyncio.sleep(0.1)
        for connection in list(table._waiting):
            table.discard(connection)
        assert code(await answer(port)) == (503, "too_many_connections")
        writer.close()


def test_open_files_are_divided_between_viewers_and_waiting_connections() -> None:
    room = find_room(1024, 10_000)
    assert room.connections == 1024 - RESERVED
    assert room.viewers + room.waiting == room.connections
    assert not room.enough
    assert find_room(20_000, 10_000).enough
    assert find_room(10, 5).connections > 0
