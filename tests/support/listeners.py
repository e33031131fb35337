"""Ports at which a connection gets nowhere."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def full_listener() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel drops what comes after."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as held:
        port: int = listener.getsockname()[1]
        for _ in range(8):
            sock = held.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
        yield port


@contextmanager
def silent_listener() -> Iterator[int]:
    """A port that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
