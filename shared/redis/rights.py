"""The rights that a Redis user needs, the check for missing ones, and the reasons why a server refuses a login.

Theory of operation. A server tells a user's rights only to users with the right to ask (``ACL``). But it checks
each command of a transaction when the command is queued. So :func:`missing_rights` begins a transaction on a
connection of its own, queues one command of each kind that Headrace uses, reads the refusals, and discards the
transaction: nothing is carried out. (MULTI is sent alone, because without a transaction the other commands would be
carried out.) Scripts run with the rights of their user, so the commands in them are checked like any others.
"""

import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, ExecAbortError, NoPermissionError

from shared.redis.cluster import node_urls
from shared.redis.commands import command, reason
from shared.redis.connection import OwnedConnection
from shared.redis.urls import read_url

NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "ping": (),
    "time": (),
    "eval": ("return 1", "0"),
    "evalsha": ("0" * 40, "0"),
    "script|load": ("return 1",),
    "publish": ("{prefix}:wake", ""),
    "subscribe": ("{prefix}:wake",),
    "exists": ("{prefix}:rights",),
    "del": ("{prefix}:rights",),
    "pexpire": ("{prefix}:rights", "1"),
    "pttl": ("{prefix}:rights",),
    "get": ("arq:job:rights",),
    "set": ("arq:job:rights", ""),
    "psetex": ("arq:job:rights", "1", ""),
    "incr": ("{prefix}:rights",),
    "append": ("{prefix}:rights", ""),
    "strlen": ("{prefix}:rights",),
    "hset": ("{prefix}:rights", "f", ""),
    "hsetnx": ("{prefix}:rights", "f", ""),
    "hget": ("{prefix}:rights", "f"),
    "hmget": ("{prefix}:rights", "f"),
    "hgetall": ("{prefix}:rights",),
    "hexists": ("{prefix}:rights", "f"),
    "hdel": ("{prefix}:rights", "f"),
    "hincrby": ("{prefix}:rights", "f", "1"),
    "xadd": ("{prefix}:rights", "1-1", "f", ""),
    "xread": ("STREAMS", "{prefix}:rights", "0"),
    "xrange": ("{prefix}:rights", "-", "+"),
    "xrevrange": ("{prefix}:rights", "+", "-"),
    "xlen": ("{prefix}:rights",),
    "zadd": ("{prefix}:rights", "1", "m"),
    "zcard": ("{prefix}:rights",),
    "zcount": ("{prefix}:rights", "0", "1"),
    "zrange": ("{prefix}:rights", "0", "1"),
    "zrangebyscore": ("{prefix}:rights", "0", "1"),
    "zrevrangebyscore": ("{prefix}:rights", "1", "0"),
    "zrank": ("{prefix}:rights", "m"),
    "zscore": ("{prefix}:rights", "m"),
    "zrem": ("{prefix}:rights", "m"),
    "zremrangebyscore": ("{prefix}:rights", "0", "1"),
    "bzmpop": ("1", "1", "{prefix}:rights", "MIN"),
}
"""Command (and subcommand) -> valid arguments: all commands that API and workers use, in scripts too. A test
compares this with a server's own statistics of commands."""
OF_KINDS: Final = {"server": (), "sentinel": ("role",), "cluster": ("cluster|slots",)}
"""The commands that are also needed to find the server, by the kind of its URL
(:class:`shared.redis.urls.RedisTarget`)."""
USEFUL: Final[Mapping[str, str]] = {
    "info": "creates are not refused when the server is nearly full, and its durability is unknown",
    "config|get": "it is unknown whether the server syncs its file before it replies",
    "bgrewriteaof": "erased text stays in the server's file until the server itself rewrites it",
}
"""Rights that are useful but not needed: right -> the loss without it."""


async def missing_rights(url: str, prefix: str) -> tuple[str, ...]:
    """The rights that the URL's user lacks on its server (of a cluster: on any node), as ACL rules: ``+time``,
    ``~headrace:*``, ``&headrace:*``. ``prefix``: the setting ``key_prefix``.

    Raises one of :data:`shared.redis.connection.AWAY`, or a RedisError.
    """
    kind = read_url(url).kind
    found = [right for node in await node_urls(url) for right in await _missing(node, prefix, OF_KINDS[kind])]
    return tuple(dict.fromkeys(found))


async def may(client: Redis, *words: str) -> bool:
    """Whether the server lets this user run that command. It is queued and discarded in the same way.

    ``client``: of one server, with a user that may use transactions. Raises one of
    :data:`shared.redis.connection.AWAY`.
    """
    async with client.pipeline(transaction=False) as pipe:
        for one in (("MULTI",), words, ("DISCARD",)):
            pipe.execute_command(*one)
        _, reply, _ = await pipe.execute(raise_on_error=False)
    return not isinstance(reply, Exception)


async def _missing(url: str, prefix: str, besides: tuple[str, ...]) -> list[str]:
    connection = OwnedConnection(url)
    await connection.open()
    try:
        begun = await connection.exchange([command(None, "MULTI")])
        if isinstance(begun[0], NoPermissionError):
            return ["+multi"]
        if isinstance(begun[0], Exception):
            raise begun[0]
        asked = {**NEEDED, **dict.fromkeys(besides, ())}
        commands = [
            command(None, *name.upper().split("|"), *(word.format(prefix=prefix) for word in words))
            for name, words in asked.items()
        ]
        replies = await connection.exchange(commands)
        rights = [
            _right(name, words, reply, prefix) for (name, words), reply in zip(asked.items(), replies, strict=True)
        ]
        (ended,) = await connection.exchange([command(None, "DISCARD")])
        rights.append(_right("discard", (), ended, prefix))
        # EXEC is checked with an empty transaction.
        _, ended = await connection.exchange([command(None, "MULTI"), command(None, "EXEC")])
        rights.append(_right("exec", (), ended, prefix))
        return [right for right in dict.fromkeys(rights) if right]
    finally:
        await connection.close()


def _right(name: str, words: tuple[str, ...], reply: Any, prefix: str) -> str:
    """The ACL rule that would allow this command; '' where it is allowed."""
    text = str(reply)
    # A forbidden EXEC is reported as EXECABORT, like a broken transaction.
    if not isinstance(reply, NoPermissionError | ExecAbortError) or (
        isinstance(reply, ExecAbortError) and "permission" not in text
    ):
        return ""
    named = next((word for word in words if word.startswith(("{prefix}:", "arq:"))), "")
    if "access a channel" in text or "channels used" in text:
        return f"&{prefix}:*"
    if named and ("access a key" in text or "keys used" in text):
        return "~arq:*" if named.startswith("arq:") else f"~{prefix}:*"
    return f"+{name}"


def what_to_grant(missing: Sequence[str]) -> str:
    """The sentence that tells people how to grant missing rights. In: the result of :func:`missing_rights`."""
    rights = " ".join(missing)
    return f"Give the user of the Redis URL: {rights} (docs/deployment.md, section Rights, has the whole line)."


def why_refused(error: BaseException) -> str:
    """Why a reachable server refuses the login or the TLS connection, and what to do, for people; '' for any other
    error. In: the error of a call."""
    if isinstance(error, AuthenticationError):
        text = str(error)
        if "without any password" in text:
            return "it has no password, and the URL names one: take that out"
        if "invalid" in text or "WRONGPASS" in text:
            return "it refuses the user and password of the URL: correct them"
        return "it wants a password, and the URL names none: redis://user:password@host:port/0"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({cause.verify_message.rstrip('.')}): let ssl_ca_certs in the URL "
                "name the file of the authority that signed it, and take the host's name from the certificate"
            )
        if isinstance(cause, ssl.SSLError):
            return f"the TLS connection failed ({reason(cause)}): for a server without TLS, write redis://"
        cause = cause.__cause__ or cause.__context__
    return ""
