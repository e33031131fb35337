"""A server's URL in arq's own form, for a stock arq worker."""

from dataclasses import fields
from typing import Any

from arq.connections import RedisSettings
from redis.asyncio.connection import SSLConnection, parse_url


def arq_server(url: str) -> RedisSettings:
    """A server's URL, as redis-py reads it, in arq's form."""
    options: dict[str, Any] = dict(parse_url(url))
    named = {"database": options.get("db", 0), "unix_socket_path": options.get("path"), **options}
    known = {field.name: named[field.name] for field in fields(RedisSettings) if field.name in named}
    return RedisSettings(**known, ssl=options.get("connection_class") is SSLConnection)
