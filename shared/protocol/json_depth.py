"""The bound on the depth of JSON from outside. Pure, no I/O.

Code that reads the JSON later runs at another depth of the stack. JSON that just fits here may not fit there, and
would raise a ``RecursionError`` in the middle of other work.
"""

from collections.abc import Iterator
from typing import Any, Final

MAX_DEPTH: Final = 64
"""No real schema, option or citation nests deeper, and every parser, a provider's or ours, can read as much."""


def levels(value: Any) -> Iterator[list[Any]]:
    """The values on each level, from the outside in. Raises ValueError past MAX_DEPTH levels."""
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
