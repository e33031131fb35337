"""A server's URL as arq's own settings, for a stock arq worker."""

from dataclasses import fields
from typing import Any

from arq.connections import RedisSettings
from redis.asyncio.connection import SSLConnection

from shared.redis.urls import arguments, read_url


def arq_server(url: str) -> RedisSettings:
    """The URL of a server, or of a master behind Sentinel, as arq's settings. (arq supports no login and no
    certificates of Sentinels.) Raises :class:`shared.redis.urls.BadUrl`."""
    place = read_url(url)
    options = arguments(place.server or url)
    named: dict[str, Any] = {"database": options.get("db", 0), "unix_socket_path": options.get("path"), **options}
    if place.kind == "sentinel":
        at = [arguments(node) for node in place.nodes]
        named |= {"sentinel": True, "sentinel_master": place.master}
        named["host"] = [(found["host"], found["port"]) for found in at]
        named.pop("port", None)
    known = {field.name: named[field.name] for field in fields(RedisSettings) if field.name in named}
    return RedisSettings(**known, ssl=options.get("connection_class") is SSLConnection)
