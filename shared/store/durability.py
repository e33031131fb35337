"""Which of the two promises a Redis server can give, by its own INFO and configuration.

*Strong*: everything that was acknowledged, or seen by a viewer, is on disk. For that the server syncs its
append-only file before it replies (``appendfsync always``). *Weak*: the server may lose its last moments. Then no
text is doubled, reordered or mixed and every stream ends, but a 202 may become a 404, an ended stream may be
generated again, and a cancel may be forgotten. A replica that takes over may lack the last writes that its master
acknowledged, so with replicas the promise is the weak one.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.redis import AWAY, open_client, read_url, reason

ASK_WITHIN_S: Final = 5.0
AGAIN_S: Final = 1.0
"""Time between two questions to a server that is away. No other work waits for the reply."""

log = structlog.get_logger("durability")


@dataclass(frozen=True, slots=True)
class Durability:
    """``promise``: strong or weak; unknown where the server does not tell. ``why``: half a sentence for people."""

    promise: Literal["strong", "weak", "unknown"]
    why: str


def durability(info: Mapping[str, Any], appendfsync: str | None) -> Durability:
    """The promise of a server. In: its INFO with the sections ``persistence`` and ``replication``; its reply to
    ``CONFIG GET appendfsync``, None where it refuses that."""
    if not int(info.get("aof_enabled", 0)):
        return Durability("weak", "no append-only file: a restart of the server may lose every stream")
    if appendfsync is None:
        return Durability(
            "unknown", "an append-only file, but the server does not tell its appendfsync: always makes it strong"
        )
    if appendfsync == "no":
        return Durability("weak", "appendfsync no: a crash of its machine loses half a minute, and more")
    if appendfsync != "always":
        return Durability("weak", f"appendfsync {appendfsync}: a crash of its machine loses a second or two")
    if int(info.get("connected_slaves", 0)) or int(info.get("cluster_enabled", 0)) or info.get("role") == "slave":
        return Durability(
            "weak", "appendfsync always, but a replica that takes over may lack what was just acknowledged"
        )
    return Durability("strong", "appendfsync always: what was acknowledged is on disk")


async def ask_appendfsync(client: Redis) -> str | None:
    """The server's ``appendfsync``; None where it refuses CONFIG, as many hosted servers do. Raises as redis-py
    does when the server is away."""
    try:
        config: dict[str, str] = await client.config_get("appendfsync")
        return config.get("appendfsync")
    except AWAY:
        raise
    except RedisError:
        return None


async def log_durability(url: str) -> None:
    """Log which promise the Redis of this URL can give, as soon as it replies."""
    if read_url(url).kind != "server":
        # In a cluster, and behind Sentinels, a replica takes over.
        log.info("durability", promise="weak", why="a replica that takes over may lack what was just acknowledged")
        return
    client = open_client(url, ASK_WITHIN_S)
    try:
        while True:
            try:
                info = {**await client.info("persistence"), **await client.info("replication")}
                found = durability(info, await ask_appendfsync(client))
            except AWAY:
                await asyncio.sleep(AGAIN_S)
            except RedisError as error:
                log.warning("durability", promise="unknown", why=f"the server refuses INFO: {reason(error)}")
                return
            else:
                log.info("durability", promise=found.promise, why=found.why)
                return
    finally:
        await client.aclose()
