"""Redis URLs, read in one place. Pure, no I/O.

    redis://[user:password@]host[:port][/db]                       one server (rediss://: over TLS)
    unix://[user:password@]/path/to/socket[?db=1]                  one server, through a socket file
    redis+cluster://[user:password@]host:port,host:port            a cluster: some of its nodes (rediss+cluster://)

Options stand behind ``?``, as redis-py names them (``ssl_ca_certs``, …). They and the login count for every node.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio.connection import parse_url

CLUSTER_SCHEMES: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL names: one server, or a cluster by some of its nodes, each as a URL of its own."""

    kind: Literal["server", "cluster"]
    nodes: tuple[str, ...]


def read_url(url: str) -> Place:
    """What the URL says. Raises ``ValueError``."""
    scheme, _, rest = url.partition("://")
    if scheme not in CLUSTER_SCHEMES:
        arguments(url)
        return Place("server", (url,))
    parts = urlsplit(f"{CLUSTER_SCHEMES[scheme]}://{rest}")
    login, at, hosts = parts.netloc.rpartition("@")
    nodes = [urlunsplit(parts._replace(netloc=f"{login}{at}{host}")) for host in hosts.split(",")]
    for node in nodes:
        arguments(node)
    return Place("cluster", tuple(nodes))


def arguments(url: str) -> dict[str, Any]:
    """What the URL of one server says to redis-py. Raises ``ValueError``."""
    return dict(parse_url(url))


def with_address(url: str, host: str, port: int) -> str:
    """The same login, options and database, at another address (an IPv6 one without brackets)."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    shown = f"[{host}]" if ":" in host else host
    return urlunsplit(parts._replace(netloc=f"{login}{at}{shown}:{port}"))
