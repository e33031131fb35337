"""A viewer whose place can't be told yet is greeted when it can be, and once."""

from typing import Any, cast

from api.dialects.ag_ui import AgUiDialect
from api.dialects.base import About
from api.http.sink import Sink
from api.http.unsent import Unsent
from api.viewing.followed_log import FollowedLog
from api.viewing.viewer import State, Viewer
from shared.protocol.cursor import Cursor
from shared.protocol.events import MESSAGE, QUEUED, STARTED
from shared.store.log import Entry, RawEntry
from tests.support.responses import events_of

UNUSED = cast(Any, None)
OPENING: list[RawEntry] = [
    (b"1-0", [b"e", QUEUED.encode(), b"d", b"{}", b"a", b""]),
    (b"2-0", [b"e", STARTED.encode(), b"d", b"{}", b"a", b"1-0"]),
]
RAW: list[RawEntry] = [
    (b"2-%d" % n, [b"e", MESSAGE.encode(), b"d", b'{"text":"x"}', b"a", b""]) for n in range(1, 6)
]
PIECES = [Entry(Cursor(2, n), MESSAGE, b'{"text":"x"}', None) for n in range(1, 6)]


class OneLog:
    """What a viewer asks of a hub, and of the streams."""

    def __init__(self) -> None:
        self.snapshots_sent = 0

    async def page(self, stream_id: str, first: bytes, *, after: bool, count: int) -> list[Entry]:
        at = [piece.cursor.encode() for piece in PIECES].index(first) + after
        return PIECES[at : at + count]

    async def read(self, stream_id: str) -> None:
        return None


async def test_a_viewer_whose_place_is_told_late_gets_its_greeting() -> None:
    about = About("s", "p/m", 1000)
    followed = FollowedLog("s", b"log:s", AgUiDialect(about), Cursor(1, 0), 1000)
    followed.extend([*OPENING, *RAW[:2]])
    followed.buffer.clear()  # so that this viewer reads pages
    followed.adrift = True

    log = cast(Any, OneLog())
    dialect = AgUiDialect(about)
    viewer = Viewer(log, log, followed, dialect, Cursor(1, 0), lambda: False, Sink(), Unsent(), "")
    assert await viewer.open(Cursor(2, 2))
    followed.adrift = False
    said = []
    async for chunk in viewer.stream():
        said += events_of(chunk)
        if viewer.state is State.PAGING and len(said) > 2:
            break
    types = [event["type"] for event in said]
    assert types[0] == "RUN_STARTED"
    assert types.count("RUN_STARTED") == 1
    assert types.count("TEXT_MESSAGE_CONTENT") == 3
