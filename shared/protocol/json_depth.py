"""How deep a stranger's JSON nests. Pure, no I/O.

Whoever reads it later does so at another depth of the stack: what just fits into it here may not fit there, and
is a ``RecursionError`` in the middle of somebody else's work.
"""

from collections.abc import Iterator
from typing import Any, Final

MAX_DEPTH: Final = 64
"""No schema, option or citation nests deeper, and no provider's parser or ours stumbles over it."""


def levels(value: Any) -> Iterator[list[Any]]:
    """What stands on each level, from the outside in. Raises ValueError past MAX_DEPTH of them."""
    level = [value]
    for _ in range(MAX_DEPTH):
        yield level
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += one.values()
            elif isinstance(one, list):
                below += one
        if not below:
            return
        level = below
    raise ValueError(f"this nests deeper than {MAX_DEPTH} levels")
