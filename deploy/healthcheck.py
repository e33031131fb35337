"""Whether the process of this container is well: exit code 0, or 1. For Docker's HEALTHCHECK; standard library.

Only the process itself is checked. An API without its Redis, or without a worker, is well: a restart would not
help, and it tells its viewers to wait. (``/readyz/viewers`` and ``/readyz/creates`` say whether it can serve.) An
API answers ``/healthz``. A worker gives a sign of life in Redis each second, so a worker that hangs is found too. A
check costs 30 ms of CPU. With redis-py it would cost 0.3 s, so redis-py is imported only if the URL is more than
``redis://[user:password@]host[:port][/db]``.
"""

import os
import socket
import sys
from http.client import HTTPConnection
from urllib.parse import unquote, urlsplit

WITHIN_S = 4
SEEN_MS = 10_000


def api_is_well() -> bool:
    # Not urllib.request, which would ask a proxy that the environment names.
    api = HTTPConnection("127.0.0.1", api_port(), timeout=WITHIN_S)
    api.request("GET", "/healthz")
    return api.getresponse().status == 200


def api_port() -> int:
    """The setting as the API reads it. Kubernetes sets another value for a service named headrace (``tcp://…``)."""
    port = os.environ.get("HEADRACE_PORT", "").strip()
    return int(port) if port.isdigit() else 8000


def worker_is_well() -> bool:
    """Whether a worker of this container gave a sign of life lately, by Redis's clock, which may differ from the
    container's. A sign of life that is far ahead does not count: Redis's clock was set back after it."""
    prefix = os.environ.get("HEADRACE_KEY_PREFIX") or "headrace"
    url = os.environ.get("HEADRACE_QUEUE_URL") or os.environ.get("HEADRACE_REDIS_URL") or "redis://127.0.0.1:6379/0"
    parts = urlsplit(url)
    ask = ask_by_redis_py if parts.scheme != "redis" or parts.query else ask_redis
    (now_s, _), signs = ask(url, [["TIME"], ["ZRANGE", f"{prefix}:workers", "0", "-1", "WITHSCORES"]])
    host, now_ms = socket.gethostname().encode(), int(now_s) * 1000
    return any(
        name.startswith(host) and abs(float(at_ms) - now_ms) < SEEN_MS
        for name, at_ms in zip(signs[::2], signs[1::2], strict=True)
    )


def ask_redis(url: str, commands: list[list[str]]) -> list:
    """The replies to these commands."""
    parts = urlsplit(url)
    before = []
    if parts.password is not None:
        before.append(["AUTH", unquote(parts.username or "") or "default", unquote(parts.password)])
    if parts.path.strip("/"):
        before.append(["SELECT", parts.path.strip("/")])
    with socket.create_connection((parts.hostname, parts.port or 6379), timeout=WITHIN_S) as redis:
        redis.sendall(b"".join(packed(command) for command in before + commands))
        with redis.makefile("rb") as replies:
            return [reply(replies) for _ in before + commands][len(before) :]


def packed(command: list[str]) -> bytes:
    words = [word.encode() for word in command]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def reply(replies):
    """The next reply (RESP2): bytes, or a list of replies. Raises ConnectionError for an error."""
    line = replies.readline()
    kind, rest = line[:1], line[1:].strip()
    if kind == b"*":
        return [reply(replies) for _ in range(int(rest))]
    if kind == b"$":
        return replies.read(int(rest) + 2)[:-2]
    if kind in b"+:" and kind:
        return rest
    raise ConnectionError(rest.decode("utf-8", "replace") or "Redis closed the connection")


def ask_by_redis_py(url: str, commands: list[list[str]]) -> list:
    import asyncio

    sys.path.insert(0, "/app")
    from shared.redis import open_client

    async def ask() -> list:
        client = open_client(url, WITHIN_S)
        try:
            # Raw replies, as those of ask_redis.
            client.response_callbacks.clear()
            return [await client.execute_command(*command) for command in commands]
        finally:
            await client.aclose()

    return asyncio.run(ask())


def process() -> list[str]:
    """The arguments of the container's first process; with ``--init`` they follow those of Docker's own init."""
    with open("/proc/1/cmdline", "rb") as file:
        return file.read().decode().split("\0")


if __name__ == "__main__":
    look = worker_is_well if any(word.startswith("worker") for word in process()) else api_is_well
    try:
        sys.exit(not look())
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}"[:200])
