"""Sockets of `headrace up`: the one that all API processes share, free ports, and a small HTTP check."""

import asyncio
import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from cli.errors import CannotStart

BACKLOG = 2048
"""Connections that may wait while an API process starts again. The system reduces it to its own limit."""

ANSWER_WITHIN_S = 2.0
"""A process that is up answers a health check in milliseconds. If it takes longer than this, it is not up yet."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket that outlives the API processes: while one restarts, clients wait instead of failing.

    In: an address or name, and a port (0: any free one). Raises :class:`CannotStart`, which says what to do.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        raise CannotStart(_refusal(host, port, error)) from None


def _refusal(host: str, port: int, error: OSError | UnicodeError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use by another program (another `headrace up`, perhaps). "
            f"Stop it, or choose another port: --port {port + 1 if port < 65535 else 8000}, "
            "or --port 0 for any free one."
        )
    if number == errno.EACCES:
        return f"Port {port} is reserved for root on this machine. Choose one from 1024 on: --port 8000."
    return (
        f"{host} can't be listened on ({error}). Give an address of this machine: "
        "--host 127.0.0.1, or 0.0.0.0 for all of them."
    )


@contextmanager
def held_port() -> Iterator[int]:
    """A free loopback port that the system gives to no other program as long as the block lasts. The program that
    gets its number can listen on it (with SO_REUSEADDR, as servers do), also after a restart.

    Without this, two programs that look for a port at the same moment could get the same one, and both use one
    server without knowing it. Only Linux keeps a port that is bound without listening; elsewhere it is a port that
    was free a moment ago.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port = int(holder.getsockname()[1])
        if sys.platform != "linux":
            holder.close()
        yield port


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with held_port() as port:
        return port


def reachable_host(host: str) -> str:
    """The address at which this machine itself reaches a server that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104


def base_url(host: str, port: int) -> str:
    """The URL of a server that listens there."""
    name = reachable_host(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


async def answers_ok(host: str, port: int, path: str) -> bool:
    """Whether a GET of ``path`` is answered with 200 within :data:`ANSWER_WITHIN_S`."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_connection(reachable_host(host), port)
            try:
                name = urlsplit(base_url(host, port)).netloc
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return status_line.split(b" ")[1:2] == [b"200"]
