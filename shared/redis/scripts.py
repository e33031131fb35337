"""The Lua scripts, their loader and their runner. Changes that belong together are one script, on keys of one slot.

Theory of operation. Redis runs one script at a time, so each script is a transaction. The keys of a script of the
log's side share the hash tag ``{id}``, so it also runs on a cluster (except ``create``, which also takes keys of
the queue). A script's reply may be lost; then the caller sends the call again.
Scripts whose second run would give another result (create, record, claim, finish, cancel, release) take the
caller's nonce, and return the first result again; the others change nothing the second time. Scripts that end a
stream, keep streams going, or note that workers live are flagged ``allow-oom``: at ``maxmemory`` a stream can still
be closed.

Every script of the log's side is ``shared/store/lua/<name>.lua`` behind the transition table and ``prelude.lua``;
the comment at its top tells its arguments and replies. Rejected: Redis functions (FUNCTION LOAD needs rights that
hosted servers don't give, and a server-wide name), and optimistic WATCH loops (three round trips, and no bound
under contention).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Protocol

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from shared.protocol.status import lua_table
from shared.redis.commands import Command, command

FLAGS: Final[dict[str, str]] = {
    "create": "",
    "record": "",
    "claim": "",
    "snapshot": "",
    "finish": "allow-oom",
    "cancel": "allow-oom",
    "release": "allow-oom",
    "renew": "allow-oom",
    "charge": "",
    "show": "allow-oom",
    "read": "no-writes",
}
"""Every script of the log's side, and its flags (``#!lua flags=…``, Redis 7)."""

VITAL: Final = frozenset({"enqueue", "erasure", "settle", "take", "turn", "vital"})
"""Scripts of the queue's side that run at full memory, too: streams go on, workers are seen, erasures are noted."""

PARTS: Final[dict[str, tuple[str, ...]]] = {"create": ("admit", "record", "enqueue")}
"""Script -> scripts that stand in front of it, each as a Lua function of its KEYS and ARGV."""


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its name, its whole text, and the digest for EVALSHA."""

    name: str
    text: str
    sha: str


def load_scripts(*, shebang: bool = True) -> Mapping[str, Script]:
    """Read all scripts of the log's side. ``shebang=False`` is for fakeredis, whose Lua knows no flags."""
    return {name: load_script(name, shebang=shebang) for name in FLAGS}


def load_script(name: str, *, shebang: bool = True) -> Script:
    """Read one script from the package. A script without an entry in :data:`FLAGS` belongs to the queue's side,
    whose scripts know nothing of streams: nothing is put in front of it."""
    source = _source(name)
    if name in FLAGS:
        parts = [f"local function {part}(KEYS, ARGV)\n{_source(part)}\nend" for part in PARTS.get(name, ())]
        head = f"#!lua flags={FLAGS[name]}" if shebang else ""
        source = "\n".join([head, lua_table(), _source("prelude"), *parts, source]).lstrip()
    elif name in VITAL and shebang:
        source = "#!lua flags=allow-oom\n" + source
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


def _source(name: str) -> str:
    return (files("shared.store") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


KeysAndArguments = tuple[Sequence[str], Sequence[str | bytes | int]]
"""KEYS and ARGV of one call. All keys lie in one slot."""


class ScriptRunner:
    """Runs scripts with a client. If the server does not know a script (NOSCRIPT: the server is new, or was
    restarted), nothing has run, so the call is made again with the script's text.

    Both methods raise the server's refusal, or one of :data:`shared.redis.connection.AWAY`; then a script may or
    may not have run.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run a script once. Out: its reply."""
        try:
            return await self._client.evalsha(script.sha, len(keys), *keys, *args)  # type: ignore[misc, arg-type]
        except NoScriptError:
            return await self._client.eval(script.text, len(keys), *keys, *args)  # type: ignore[misc, arg-type]

    async def run_all(self, script: Script, calls: Sequence[KeysAndArguments]) -> list[Any]:
        """Run a script once for each call, all in one round trip. Out: the replies, in order."""
        replies = await self._pipelined(script, calls)
        unknown = [number for number, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            await self._client.script_load(script.text)
            again = await self._pipelined(script, [calls[number] for number in unknown])
            for number, reply in zip(unknown, again, strict=True):
                replies[number] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _pipelined(self, script: Script, calls: Sequence[KeysAndArguments]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            for keys, args in calls:
                # Not the method evalsha: a cluster's pipeline refuses it, because it has no single node to go to.
                pipe.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies


class ScriptConnection(Protocol):
    """The part of an owned connection that is needed here (:class:`shared.redis.connection.OwnedConnection`)."""

    async def exchange(self, commands: Sequence[Command]) -> list[Any]: ...


async def teach(connection: ScriptConnection, scripts: Iterable[Script]) -> None:
    """Load these scripts into the server (of a cluster: into each master), so that EVALSHA finds them.

    Raises the server's refusal, or one of :data:`shared.redis.connection.AWAY`.
    """
    for reply in await connection.exchange([command(None, "SCRIPT", "LOAD", script.text) for script in scripts]):
        if isinstance(reply, ResponseError):
            raise reply
