"""Whether a server answers: asked over a connection of its own, which is closed again."""

import socket
import urllib.error
import urllib.request

WITHIN_S = 10.0


def pong(port: int) -> bool:
    """Whether a Redis-compatible server on this loopback port is ready for commands."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S) as connection:
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def http_ok(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        with urllib.request.urlopen(url, timeout=WITHIN_S) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return False
    except (urllib.error.URLError, OSError):
        return False
