"""A small HTTP proxy: CONNECT for TLS, whole URLs for plain HTTP, and perhaps a login."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class ConnectProxy:
    """``asked``: the first line of each request."""

    port: int = 0
    asked: list[str] = field(default_factory=list)


@asynccontextmanager
async def connect_proxy(login: str = "", tls: ssl.SSLContext | None = None) -> AsyncIterator[ConnectProxy]:
    """``login``: the value of Proxy-Authorization that it wants."""
    proxy = ConnectProxy()
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head.split("\r\n")
            proxy.asked.append(line)
            method, target, _ = line.split()
            if login and f"proxy-authorization: {login}".lower() not in head.lower():
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            url = urlsplit(f"//{target}" if method == "CONNECT" else target)
            far_reader, far_writer = await asyncio.open_connection(url.hostname, url.port)
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                far_writer.write("\r\n".join([f"{method} {url.path} HTTP/1.1", *lines]).encode("latin-1"))
            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            serving.discard(asyncio.current_task())
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        proxy.port = server.sockets[0].getsockname()[1]
        yield proxy
        await ended(serving)


async def ended(serving: "set[asyncio.Task[None] | None]") -> None:
    """Wait for what still serves, for its clients have left; end what does not."""
    with suppress(TimeoutError):
        async with asyncio.timeout(1):
            while serving:
                await asyncio.sleep(0.005)
    for task in serving:
        if task is not None:
            task.cancel()
    await asyncio.sleep(0)


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
