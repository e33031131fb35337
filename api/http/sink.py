"""The sink: a viewer's socket, into which the reader of the log writes ready bytes.

Theory of operation. A viewer that has got everything so far waits at the end of the shared buffer. The next bytes
are the same for all such viewers, so the reader frames them once and writes them to each socket itself: no task
wakes up, and nothing passes through the response's generators, the framework and uvicorn's framing. A full socket
takes nothing this way; its viewer wakes up and goes on at its own pace.

With 1,000 viewers of 50 events/s an event costs 13 µs for each viewer, all processes together; with a task for each
viewer it was 21.
"""

from typing import Any, Protocol


class Connection(Protocol):
    """The part of uvicorn's HTTP protocol that is needed here."""

    flow: Any
    transport: Any


def frame(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, section 7.1). No data gives b'': an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def framed(data: bytes) -> tuple[bytes, bytes, bytes]:
    """As :func:`frame`, in parts: the data is not copied."""
    return b"%x\r\n" % len(data), data, b"\r\n"


class Sink:
    """Open while a response's chunked body is under way. (HTTP/1.0 has no chunks: a viewer writes by itself.)"""

    __slots__ = ("_flow", "_transport")

    def __init__(self) -> None:
        self._flow: Any = None
        self._transport: Any = None

    def open(self, connection: Connection) -> None:
        """The response's head was sent, with a chunked body."""
        self._flow, self._transport = connection.flow, connection.transport

    def close(self) -> None:
        """End writing: later writes are refused."""
        self._transport = None

    def write(self, framed: bytes) -> bool:
        """Write framed bytes to the socket. Out: False if it takes none now; then nothing was written."""
        transport = self._transport
        # A transport that was lost or aborted is closing before the sink is closed.
        if transport is None or self._flow.write_paused or transport.is_closing():
            return False
        transport.write(framed)
        return True
