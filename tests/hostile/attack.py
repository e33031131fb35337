"""What an attack is, and what it tells."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.hostile.world import World

GROWTH_MB: Final[Mapping[str, int]] = {"api": 64, "worker": 64, "redis": 64}
"""How much a process may grow under an attack that has no other bound. Buffers of a few hundred connections, and
what Python's allocator keeps, are less; a header of 100 MB in memory is more."""


@dataclass
class Told:
    """What an attack saw. ``outcomes``: how often each thing happened. ``wrong``: what must not be, in words."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    """Measured on the way, for the table."""

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note a violation unless this holds; the same one once."""
        if not holds and otherwise not in self.wrong:
            self.wrong.append(otherwise)


@dataclass(frozen=True)
class Attack:
    """One attack. ``run`` returns when it is over; it leaves open what ``world.closing`` closes.

    ``refused``: outcomes of which at least one must be seen (empty: none is asked for). ``also``: outcomes that may
    be seen beside them. Both hold beginnings: ``"401"`` stands for ``"401 key_unknown"`` too.
    """

    name: str
    run: "Callable[[World, Told], Awaitable[None]]"
    refused: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    where: str = "keys"
    """Which world it strikes (see :data:`tests.hostile.world.WORLDS`)."""
    growth_mb: Mapping[str, int] = field(default_factory=dict)
    """Other bounds than GROWTH_MB, each with its reason beside the attack."""
    short: bool = False
    """Whether the short form has it: it takes a second or two."""

    def may_grow_mb(self, kind: str) -> int:
        return self.growth_mb.get(kind, GROWTH_MB[kind])

    def judge(self, told: Told) -> list[str]:
        """What is wrong with the outcomes."""
        wrong = list(told.wrong)
        if self.refused and not any(one.startswith(self.refused) for one in told.outcomes):
            wrong.append(f"none was refused with {' or '.join(self.refused)}")
        if self.refused or self.also:
            wrong += [f"outcome {one}" for one in told.outcomes if not one.startswith(self.refused + self.also)]
        return wrong
