"""The sink: a viewer's socket, for whoever has ready bytes.

Theory of operation. A viewer that has got everything so far waits at the end of the shared buffer. What comes then
is the same for all of them, so the reader frames it once and writes it to each socket itself: no task wakes up, and
nothing runs through the response's generators, the framework and the server's framing. A socket that is full takes
nothing this way; its viewer wakes up, and goes on at its own pace.

With 1,000 viewers of 50 events/s an event costs 13 µs for each viewer, all processes together; with a task for each
viewer it was 21.
"""

from typing import Any, Protocol


class Connection(Protocol):
    """What is needed of the server's HTTP protocol."""

    flow: Any
    transport: Any


def frame(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, section 7.1); b'' of nothing, for an empty chunk is the end."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def framed(data: bytes) -> tuple[bytes, bytes, bytes]:
    """As :func:`frame`, in parts: the data is not copied."""
    return b"%x\r\n" % len(data), data, b"\r\n"


class Sink:
    """Open while a response's chunked body is under way. (To HTTP/1.0, which knows no chunks, a viewer writes by
    itself.)"""

    __slots__ = ("_flow", "_transport")

    def __init__(self) -> None:
        self._flow: Any = None
        self._transport: Any = None

    def open(self, connection: Connection) -> None:
        """The response's head was sent, with a chunked body."""
        self._flow, self._transport = connection.flow, connection.transport

    def close(self) -> None:
        """Nothing may be written any more."""
        self._transport = None

    def write(self, framed: bytes) -> bool:
        """Hand framed bytes to the socket. Out: False if it takes none now; nothing was written then."""
        transport = self._transport
        # One that was lost, or dropped, is closed before anybody is told.
        if transport is None or self._flow.write_paused or transport.is_closing():
            return False
        transport.write(framed)
        return True
