"""A connection that ends before its stream does: what it says last is not ahead of what its viewer got."""

from typing import Any, cast

from api.dialects.base import About
from api.dialects.responses import ResponsesDialect
from api.http.sink import Sink
from api.viewing.followed_log import FollowedLog
from api.viewing.viewer import Viewer
from shared.protocol.cursor import Cursor
from shared.protocol.events import MESSAGE, QUEUED, STARTED
from shared.store.log import RawEntry
from tests.support.responses import events_of

UNUSED = cast(Any, None)


def entry(cursor: bytes, kind: str = MESSAGE, data: bytes = b'{"text":"x"}', after: bytes = b"") -> RawEntry:
    return cursor, [b"e", kind.encode(), b"d", data, b"a", after]


async def viewer_behind(n: int | None) -> Viewer:
    """Of a log that holds five pieces; it got those up to this one (None: nothing)."""
    about = About("s", "p/m", 1000)
    followed = FollowedLog("s", b"log:s", ResponsesDialect(about), Cursor(1, 0), 1000)
    opening = [entry(b"1-0", QUEUED, b"{}"), entry(b"2-0", STARTED, b"{}", b"1-0")]
    followed.extend([*opening, *(entry(b"2-%d" % piece) for piece in range(1, 6))])
    viewer = Viewer(
        UNUSED, UNUSED, followed, ResponsesDialect(about), Cursor(1, 0), lambda: False, Sink(), UNUSED, ""
    )
    assert await viewer.open(None if n is None else Cursor(2, n))
    return viewer


def number(viewer: Viewer) -> int:
    (told,) = events_of(viewer.parting())
    assert told["code"] == "connection_ended"
    return int(told["sequence_number"])


async def test_a_viewer_that_is_behind_hears_of_what_it_got() -> None:
    # created, in_progress, the two events that open the message, and the pieces
    assert number(await viewer_behind(1)) == 4
    assert number(await viewer_behind(3)) == 6
    assert number(await viewer_behind(5)) == 8
    assert number(await viewer_behind(None)) == 0


async def test_a_viewer_that_catches_up_hears_of_all() -> None:
    viewer = await viewer_behind(2)
    async for chunk in viewer.stream():
        assert events_of(chunk)[-1]["sequence_number"] == 8
        break
    assert number(viewer) == 8
