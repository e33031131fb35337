"""How many viewers a key's streams may have in one API process."""

from contextlib import ExitStack
from typing import Any

from api.context import Viewing

NO_HUB: Any = None


def admitted(viewing: Viewing, owner: str, count: int, held: ExitStack) -> int:
    """How many of so many viewers get in; they stay as long as ``held`` is open."""
    found = 0
    for _ in range(count):
        if not viewing.full(owner):
            held.enter_context(viewing.counted(owner))
            found += 1
    return found


def test_a_key_has_fewer_than_there_is_room_for() -> None:
    viewing = Viewing(NO_HUB, 100, 0, shared=True)
    with ExitStack() as held:
        assert admitted(viewing, "greedy", 200, held) == 50
        assert admitted(viewing, "other", 200, held) == 25
        assert not viewing.full("third")
    assert viewing.viewers == 0


def test_a_key_has_at_most_the_viewers_that_are_set() -> None:
    viewing = Viewing(NO_HUB, 100, 7, shared=True)
    with ExitStack() as held:
        assert admitted(viewing, "greedy", 200, held) == 7
        assert admitted(viewing, "other", 200, held) == 7


def test_who_is_alone_has_nobody_to_share_with() -> None:
    with ExitStack() as held:
        assert admitted(Viewing(NO_HUB, 100, 0, shared=False), "only", 200, held) == 100
