"""A followed log: what just came goes straight to the viewers that wait for it; nothing goes twice or is left."""

from types import SimpleNamespace
from typing import Any

from api.dialects.native import NativeDialect
from api.dialects.plain import PlainDialect
from api.http.sink import Sink, frame
from api.viewing.followed_log import FollowedLog, FollowedLogs
from api.viewing.shared_buffer import SLICE_BYTES
from shared.protocol.cursor import Cursor
from shared.protocol.events import DONE, MESSAGE, QUEUED, RESTART, STARTED
from shared.store.keys import Keys
from shared.store.log import RawEntry


class Waiter:
    """As a viewer that stands at the buffer's end."""

    def __init__(self, follow: FollowedLog, sink: Sink) -> None:
        self.follow, self.sink = follow, sink
        self.sequence = follow.buffer.end
        self.last: bytes | None = None
        self.woken = 0
        follow.wait(self)

    def push(self, framed: bytes, start: int, behind: int, last: bytes) -> bool:
        if not self.sink.write(framed):
            return False
        self.sequence, self.last = behind, last
        return True

    def wake(self) -> None:
        self.woken += 1


def entry(n: int, kind: str = MESSAGE, data: bytes = b'{"text":"x"}') -> RawEntry:
    return b"5-%d" % n, [b"e", kind.encode(), b"d", data]


def followed() -> FollowedLog:
    follow = FollowedLog("s", b"log:s", NativeDialect(), Cursor(5, 0), 5)
    follow.extend([entry(0, STARTED, b"{}")])
    return follow


def opened(*, full: bool = False, lost: bool = False) -> tuple[Sink, list[bytes]]:
    written: list[bytes] = []
    connection: Any = SimpleNamespace(
        flow=SimpleNamespace(write_paused=full),
        transport=SimpleNamespace(write=written.append, is_closing=lambda: lost),
    )
    sink = Sink()
    sink.open(connection)
    return sink, written


def test_a_new_event_is_written_to_every_waiting_socket_and_wakes_nobody() -> None:
    follow = followed()
    sinks = [opened() for _ in range(3)]
    waiters = [Waiter(follow, sink) for sink, _ in sinks]
    follow.extend([entry(1), entry(2)])
    chunk, behind = follow.buffer.slice(1)
    for waiter, (_, written) in zip(waiters, sinks, strict=True):
        assert written == [frame(chunk)]
        assert (waiter.sequence, waiter.last, waiter.woken) == (behind, b"5-2", 0)
    follow.extend([entry(3)])
    assert [len(written) for _, written in sinks] == [2, 2, 2]


def test_a_full_or_closed_socket_is_woken_once_and_gets_nothing_until_it_waits_again() -> None:
    follow = followed()
    (full, unread), (open_sink, written) = opened(full=True), opened()
    slow, quick, gone = Waiter(follow, full), Waiter(follow, open_sink), Waiter(follow, Sink())
    lost, unsent = opened(lost=True)
    dropped = Waiter(follow, lost)
    follow.extend([entry(1)])
    follow.extend([entry(2)])
    assert unread == unsent == []
    assert (slow.woken, gone.woken, dropped.woken, quick.woken) == (1, 1, 1, 0)
    assert slow.sequence == 1
    assert len(written) == 2


def test_more_than_one_write_takes_is_left_to_whoever_waits() -> None:
    follow = followed()
    sink, written = opened()
    waiter = Waiter(follow, sink)
    large = b'{"text":"%b"}' % (b"x" * (SLICE_BYTES // 2))
    follow.extend([entry(n, data=large) for n in range(1, 4)])
    assert (written, waiter.woken) == ([], 1)
    assert follow.buffer.slice(waiter.sequence)[1] < follow.buffer.end


def test_the_end_a_gap_and_a_rewind_wake_and_push_nothing() -> None:
    for happens in (
        lambda follow: follow.extend([entry(1, DONE, b"{}")]),
        lambda follow: follow.extend([entry(3)]),
        lambda follow: follow.rewind(Cursor(5, 0)),
        lambda follow: follow.vanish(),
    ):
        follow = followed()
        sink, written = opened()
        waiter, changes = Waiter(follow, sink), follow.changes
        happens(follow)
        assert (written, waiter.woken) == ([], 1)
        assert follow.changes > changes


def test_what_comes_behind_the_last_word_of_a_dialect_is_read_and_not_held() -> None:
    follow = FollowedLog("s", b"log:s", PlainDialect("s"), Cursor(5, 0), 5)
    follow.extend([entry(0, STARTED, b"{}"), entry(1), entry(2, RESTART, b"{}"), entry(3)])
    end = follow.buffer.end
    assert (follow.position, follow.terminal, follow.buffer.last) == (b"5-3", Cursor(5, 2), Cursor(5, 2))
    changes = follow.changes
    follow.extend([entry(4)])
    assert (follow.position, follow.terminal, follow.buffer.end) == (b"5-4", Cursor(5, 2), end)
    assert follow.changes > changes


def test_an_entry_without_a_word_in_the_dialect_is_no_empty_chunk() -> None:
    assert frame(b"") == b""
    assert frame(b"0123456789abcdef") == b"10\r\n0123456789abcdef\r\n"


def test_another_creation_behind_what_was_read_ends_it() -> None:
    follow = followed()
    sink, written = opened()
    waiter = Waiter(follow, sink)
    follow.extend(
        [(b"9-0", [b"e", QUEUED.encode(), b"d", b"{}"]), (b"10-0", [b"e", STARTED.encode(), b"d", b"{}"])]
    )
    assert follow.gone
    assert (written, waiter.woken) == ([], 1)
    assert follow.buffer.last == Cursor(5, 0)


async def test_a_followed_log_is_of_one_creation() -> None:
    told: list[FollowedLog] = []
    logs = FollowedLogs(Keys("p"), 60, told.append, told.remove)
    with logs.viewed("s", NativeDialect(), Cursor(5, 0), 5) as old:
        with logs.viewed("s", NativeDialect(), Cursor(7, 0), 5) as same:
            assert same is old
        with logs.viewed("s", PlainDialect("s"), Cursor(9, 0), 9) as new:
            assert old.gone
            assert not new.gone
        with logs.viewed("s", NativeDialect(), Cursor(5, 0), 5) as stale:
            assert stale.gone
        assert logs.of(["s"]) == [new]
    assert told == [old, new]
    logs.close()


def test_all_viewers_hold_one_text_of_what_is_kept_of_the_request() -> None:
    """Each had its own, of up to half a megabyte."""
    follow = followed()
    first, second = (" ".join(["instructions"] * 10) for _ in range(2))
    assert first is not second
    assert follow.shared(first) is follow.shared(second)
    assert follow.shared("") == ""
