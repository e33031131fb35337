"""Whether the process of this container is well: exit code 0, or 1. For Docker's HEALTHCHECK; standard library.

It is about this process: an API whose Redis is away, or which has no worker, is well, for starting it again would
not help, and it tells its viewers to wait. (Whether it can serve is ``/readyz/viewers`` and ``/readyz/creates``.)
An API answers ``/healthz``; a worker gives a sign of life in Redis each second, so one that hangs is found too. A
look costs 30 ms of CPU; with redis-py it would be 0.3 s, so that is imported only where the URL is more than
``redis://[user:password@]host[:port]``.
"""

import os
import socket
import sys
import time
from http.client import HTTPConnection
from urllib.parse import unquote, urlsplit

WITHIN_S = 4
SEEN_S = 10


def api_is_well() -> bool:
    # Not urllib.request, which would ask a proxy that the environment names.
    api = HTTPConnection("127.0.0.1", int(os.environ.get("HEADRACE_PORT") or 8000), timeout=WITHIN_S)
    api.request("GET", "/healthz")
    return api.getresponse().status == 200


def worker_is_well() -> bool:
    prefix = os.environ.get("HEADRACE_KEY_PREFIX") or "headrace"
    url = os.environ.get("HEADRACE_QUEUE_URL") or os.environ.get("HEADRACE_REDIS_URL") or "redis://127.0.0.1:6379/0"
    name = socket.gethostname().encode()
    key, since_ms = f"{prefix}:workers", int((time.time() - SEEN_S) * 1000)
    parts = urlsplit(url)
    if parts.scheme != "redis" or parts.query:
        return any(one.startswith(name) for one in asked_by_redis_py(url, key, since_ms))
    commands = [["ZRANGEBYSCORE", key, str(since_ms), "+inf"]]
    if parts.path.strip("/"):
        commands.insert(0, ["SELECT", parts.path.strip("/")])
    if parts.password is not None:
        user = unquote(parts.username or "") or "default"
        commands.insert(0, ["AUTH", user, unquote(parts.password)])
    with socket.create_connection((parts.hostname, parts.port or 6379), timeout=WITHIN_S) as redis:
        redis.sendall(b"".join(packed(command) for command in commands))
        said = b""
        while name not in said:
            if not (more := redis.recv(65536)):
                return False
            said += more
    return True


def packed(command: list[str]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def asked_by_redis_py(url: str, key: str, since_ms: int) -> list[bytes]:
    import asyncio

    sys.path.insert(0, "/app")
    from shared.redis import open_client

    async def ask() -> list[bytes]:
        client = open_client(url, WITHIN_S)
        try:
            return list(await client.zrangebyscore(key, since_ms, "+inf"))
        finally:
            await client.aclose()

    return asyncio.run(ask())


def process() -> list[str]:
    """The words of the container's first process; with ``--init`` they stand behind those of Docker's own."""
    with open("/proc/1/cmdline", "rb") as file:
        return file.read().decode().split("\0")


if __name__ == "__main__":
    look = worker_is_well if any(word.startswith("worker") for word in process()) else api_is_well
    try:
        sys.exit(not look())
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}"[:200])
