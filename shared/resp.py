"""Commands on the wire, and what refusals mean. Pure, no I/O."""

from collections.abc import Iterable

import hiredis
from redis.exceptions import RedisError

Command = tuple[str | int | float | bytes | memoryview, ...]


def pack(commands: Iterable[Command]) -> bytes:
    """Commands as RESP, by hiredis: 41 µs a token against 61 with redis-py's own pipeline."""
    return b"".join(hiredis.pack_command(command) for command in commands)  # type: ignore[arg-type]


_TROUBLE = (
    "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "MISCONF", "NOREPLICAS",
    "BUSY", "NOSCRIPT", "UNBLOCKED", "NOAUTH", "NOPERM",
)  # fmt: skip


def is_trouble(refusal: object) -> bool:
    """Whether a refusal speaks of the server's state, which passes, and not of what was sent."""
    # redis-py takes the code off the text of the errors that it knows, and keeps it in the class's name.
    known = (
        "BusyLoading",
        "ReadOnly",
        "MasterDown",
        "ClusterDown",
        "TryAgain",
        "Moved",
        "Ask",
        "NoScript",
        "Auth",
        "NoPerm",
    )
    return isinstance(refusal, RedisError) and (
        str(refusal).startswith(_TROUBLE) or type(refusal).__name__.startswith(known)
    )


def is_out_of_memory(refusal: object) -> bool:
    """Whether the server refused a write because it is at ``maxmemory`` (alone, or as a MULTI's EXEC)."""
    return isinstance(refusal, RedisError) and ("OOM" in str(refusal) or "used memory" in str(refusal))
