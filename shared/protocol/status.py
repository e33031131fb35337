"""The statuses of a stream and the allowed transitions: a literal table, pure.

The Lua scripts are loaded with this table in front of them (see :mod:`shared.redis.scripts`), and the tests walk
it, so there is one place to read and to change.
"""

from typing import Final, Literal

Status = Literal["queued", "running", "done", "failed", "cancelled"]

TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    "queued": frozenset({"running", "failed", "cancelled"}),
    "running": frozenset({"running", "done", "failed", "cancelled"}),
    "done": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
"""``running`` to ``running`` is a new attempt: the worker was lost, or it handed the stream over."""


def lua_table() -> str:
    """The table as Lua source: ``ALLOWED[from][to]`` is true where the transition is legal."""
    rows = ", ".join(
        f"{old} = {{{', '.join(f'{new} = true' for new in sorted(following))}}}"
        for old, following in TRANSITIONS.items()
    )
    return f"local ALLOWED = {{{rows}}}"
