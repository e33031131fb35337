"""The Lua scripts: what must change together is one script each, on keys of one ``{id}``.

Theory of operation. Redis runs a script alone, so each is a transaction, and since all of its keys share
the hash tag ``{id}``, all of it runs on a cluster as it is. A script's reply may be lost, so the caller
sends it again: scripts whose second run would answer otherwise (create, record, claim, finish, cancel, release)
carry the caller's nonce and answer the first result again; the others change nothing the second time.
Scripts that end a stream are flagged ``allow-oom``: at ``maxmemory`` a stream can still be closed.

Every script is ``shared/lua/<name>.lua`` behind the transition table and ``prelude.lua``; its head tells
its arguments and answers. Rejected: Redis functions (FUNCTION LOAD needs rights that hosted servers keep,
and a server-wide name), and optimistic WATCH loops (three round trips, and no bound under contention).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from shared.transitions import lua_table

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
    "read": "no-writes",
}
"""Every script and the flags it runs under (``#!lua flags=…``, Redis 7)."""

PARTS: Final[dict[str, tuple[str, ...]]] = {"create": ("admit", "record")}
"""What a script is made of: these stand in front of it, each as a function of its KEYS and ARGV."""


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its name, its whole text, and the digest that EVALSHA calls it by."""

    name: str
    text: str
    sha: str


def load_scripts(*, shebang: bool = True) -> Mapping[str, Script]:
    """Read all scripts from the package. ``shebang=False`` is for fakeredis, whose Lua knows no flags."""
    scripts = {}
    for name, flags in FLAGS.items():
        parts = [f"local function {part}(KEYS, ARGV)\n{_source(part)}\nend" for part in PARTS.get(name, ())]
        head = f"#!lua flags={flags}" if shebang else ""
        text = "\n".join([head, lua_table(), _source("prelude"), *parts, _source(name)]).lstrip()
        scripts[name] = Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return scripts


def _source(name: str) -> str:
    return (files("shared") / "lua" / f"{name}.lua").read_text(encoding="utf-8")
