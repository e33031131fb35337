"""Where the logs of a chaos run are: one server on a disk that forgets, a cluster, or a master behind Sentinels."""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Self

from redis import Redis as Blocking
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.chaos.power import Power
from tests.support.cluster import running_cluster
from tests.support.processes import Server, start_server, wait_until
from tests.support.sentinel import running_sentinels

CONTROL_S = 20.0
"""Longer than any pause of the server that a fault makes."""
OVER_S = 40.0
"""A fail-over takes about three seconds, and a Sentinel takes ten to tell the old master whom to follow."""
SAMPLE_S = 0.05
REMEMBERED = 200


class OneServer:
    """A server whose disk can be cut back to what was synced."""

    def __init__(self, directory: Path, appendfsync: str) -> None:
        self.power = Power(directory)
        self._files = directory / "appendonlydir"
        self.server = start_server(
            directory,
            env=self.power.env,
            appendfsync=appendfsync,
            auto_aof_rewrite_percentage="0",
            aof_load_truncated="yes",
        )
        self.url = self.server.url
        self.queue_url = ""
        self.sizes: deque[tuple[float, Path, int]] = deque(maxlen=REMEMBERED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    async def command(self, *words: str | int) -> object:
        return await command(self.url, *words)

    async def keys(self, pattern: str) -> list[str]:
        return await keys(self.url, pattern)

    def log_file(self) -> Path:
        """The file that the server appends to now."""
        return max(self._files.glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    async def remember_sizes(self) -> None:
        """Until cancelled: how long the server's file was, and when."""
        while True:
            with contextlib.suppress(OSError, ValueError):
                path = self.log_file()
                self.sizes.append((time.monotonic(), path, path.stat().st_size))
            await asyncio.sleep(SAMPLE_S)


class FailOver:
    """Nodes of which one takes over from another, without having all that the other had."""

    def __init__(self, url: str, nodes: list[Server], queue_url: str = "") -> None:
        self.url = url
        self.queue_url = queue_url
        self._nodes = nodes

    async def keys(self, pattern: str) -> list[str]:
        found = [await keys(node.url, pattern) for node in self._nodes]
        return sorted({key for part in found for key in part})

    def lose_master(self, rng: random.Random, behind_s: float) -> str:
        """Kill a master; its replica takes over, which has missed the last ``behind_s``; then start it again as the
        new one's replica. Blocks. Out: what was done, for people."""
        master, replica = self._pair(rng)
        if behind_s:
            replica.kill()
            time.sleep(behind_s)
        master.kill()
        began = time.monotonic()
        if behind_s:
            # It has what its own file has, and finds no master to ask for the rest.
            replica.start_again()
        wait_until(lambda: _links(replica).get("role") == "master", OVER_S, "the replica to take over")
        took_s = time.monotonic() - began
        time.sleep(rng.uniform(0, 2))
        master.start_again()
        # On a busy machine the two may change places once more meanwhile.
        wait_until(self._is_in_step, OVER_S, "the nodes to be in step")
        return f"one that was {behind_s:.1f} s behind took over within {took_s:.1f} s"

    def _is_in_step(self) -> bool:
        """Whether there are as many masters as there were, each other node follows one of them, and each one's file
        holds what it has (who was sent everything anew writes its file anew behind that)."""
        links = [_links(node) for node in self._nodes]
        if any(one.get("aof_rewrite_in_progress", 1) or one["aof_rewrite_scheduled"] for one in links):
            return False
        masters = [one for one in links if one.get("role") == "master" and "slave0" in one]
        others = [one for one in links if one.get("master_link_status") == "up"]
        return len(masters) == len(others) == len(self._nodes) // 2

    def _pair(self, rng: random.Random) -> tuple[Server, Server]:
        """A master, and its replica."""
        pairs = []
        for node in self._nodes:
            links = _links(node)
            if links.get("role") == "master" and "slave0" in links:
                replica = next(one for one in self._nodes if one.port == links["slave0"]["port"])
                pairs.append((node, replica))
        return rng.choice(pairs)


Store = OneServer | FailOver


@contextlib.contextmanager
def open_store(kind: str, directory: Path, appendfsync: str) -> Iterator[Store]:
    """A store of this kind (``STORES``), which is gone when the block ends."""
    if kind == "server":
        with OneServer(directory, appendfsync) as one:
            yield one
    elif kind == "cluster":
        with running_cluster(directory, appendfsync=appendfsync) as cluster:
            # A cluster holds the logs alone.
            (directory / "queue").mkdir()
            with start_server(directory / "queue", appendfsync=appendfsync) as queue:
                yield FailOver(cluster.url, cluster.nodes, queue.url)
    else:
        with running_sentinels(directory, appendfsync=appendfsync) as sentinels:
            yield FailOver(sentinels.url, sentinels.servers)


STORES: Final = ("server", "cluster", "sentinel")


async def command(url: str, *words: str | int) -> object:
    """A command to the server itself, past all proxies; tried until it answers (``CONTROL_S`` at most)."""
    async with asyncio.timeout(CONTROL_S):
        while True:
            try:
                async with Redis.from_url(url, socket_timeout=CONTROL_S) as redis:
                    return await redis.execute_command(*words)
            except (RedisError, OSError):
                await asyncio.sleep(0.1)


async def keys(url: str, pattern: str) -> list[str]:
    found = await command(url, "KEYS", pattern)
    assert isinstance(found, list)
    return [key.decode() for key in found]


def _links(node: Server) -> dict[str, Any]:
    """What the node says of whom it follows, who follows it, and its file; nothing while it does not answer."""
    with contextlib.suppress(RedisError, OSError), Blocking(port=node.port, socket_timeout=1) as redis:
        return {**redis.info("replication"), **redis.info("persistence")}  # type: ignore[dict-item]
    return {}
