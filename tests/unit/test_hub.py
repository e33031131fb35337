"""The hub's check of a log against its last entry, on a connection that answers what it is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from api.dialects.native import NativeDialect
from api.viewing.followed_log import FollowedLog
from api.viewing.hub import Hub
from shared.protocol.cursor import Cursor
from shared.store.keys import Keys

UNUSED = cast(Any, None)
TEXT_FROM = Cursor(9, 0)


class OneReply:
    """A connection of a hub: every command gets this reply."""

    def __init__(self, reply: list[Any]) -> None:
        self._reply = reply

    async def exchange(self, commands: list[Any]) -> list[Any]:
        return [self._reply for _ in commands]


@asynccontextmanager
async def checked(last: bytes | None) -> AsyncIterator[FollowedLog]:
    """A log of which nothing was read yet, after a check that found this last entry (None: no log)."""
    hub = Hub(UNUSED, UNUSED, "", Keys("p"), 1.0, lambda _: None)
    with hub.follow("s", NativeDialect(), TEXT_FROM, 9) as followed:
        hub._mark(followed, check=True)
        entry = [] if last is None else [[last, [b"e", b"done", b"d", b"{}", b"a", b""]]]
        await hub._check_last(cast(Any, OneReply(entry)))
        yield followed


@pytest.mark.parametrize("last", [b"5-0", b"7-58"])
async def test_a_log_that_ends_before_what_a_viewer_came_for_is_another_one(last: bytes) -> None:
    async with checked(last) as followed:
        assert (followed.generation, followed.position) == (1, last), (
            "viewers get a snapshot, or hear that it is gone"
        )


async def test_a_log_that_is_there_is_read() -> None:
    async with checked(b"9-3") as followed:
        assert (followed.generation, followed.gone) == (0, False)


async def test_a_log_that_is_not_there_is_gone() -> None:
    async with checked(None) as followed:
        assert followed.gone
