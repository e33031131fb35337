"""A provider that answers every request with the same recorded bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def replaying(
    body: bytes,
    *,
    chunk_bytes: int = 1 << 20,
    status: int = 200,
    kind: str = "text/event-stream",
    seen: list[str] | None = None,
) -> AsyncIterator[str]:
    """Out: the base URL. ``seen`` collects each request's head; ``chunk_bytes`` is how much one write holds."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head.decode())
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode())
        for at in range(0, len(body), chunk_bytes):
            writer.write(body[at : at + chunk_bytes])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
