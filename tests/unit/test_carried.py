"""One attempt's writing side: ids, what is kept, and what the log's last entry means."""

import asyncio
from typing import Any

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from shared.claims import Claim
from shared.events import FINISHING, MESSAGE, Transcript
from shared.ids import Cursor, entry_cursor
from shared.log import Entry, Log
from worker.carried import FENCED, GONE, LOG_FULL, LOST, MAX_UNWRITTEN, UNCLAIMED, Carried
from worker.sent import KEEP_S


def carry(cap: int = 100) -> Carried:
    async def make() -> Carried:
        return Carried("stream", Claim("run", "started", epoch=5, attempt=1), Log("key", cap))

    return asyncio.run(make())


def unpacked(packed: bytes) -> Entry:
    reader = hiredis.Reader()
    reader.feed(b"*5\r\n" + packed)
    cursor, e, kind, d, data = reader.gets()
    assert (e, d) == (b"e", b"d")
    return Entry(entry_cursor(cursor), kind.decode(), data)


def test_deltas_that_wait_together_leave_as_one_entry() -> None:
    carried = carry()
    for text in ("a", "b", "c"):
        carried.say({"text": text})
    carried.note(FINISHING, {"finish_reason": "stop"})
    entries = map(unpacked, carried.take())
    assert [(str(e.cursor), e.type, e.data) for e in entries] == [
        ("5-1", MESSAGE, b'{"text":"abc"}'),
        ("5-2", FINISHING, b'{"finish_reason":"stop"}'),
    ]
    carried.written(0.0)
    assert carried.settled
    assert carried.snapshot_step()[0] == "5-2"


def test_a_finish_reason_that_came_alone_and_last_is_left_to_the_end() -> None:
    for end_is_late in (False, True):
        carried = carry()
        said(carried, 1)
        carried.note(FINISHING, {"finish_reason": "stop"})
        assert carried.take() == []
        if end_is_late:
            (entry,) = carried.take()
            assert unpacked(entry).type == FINISHING
        assert carried.take_last_word() == (b"" if end_is_late else b'{"finish_reason":"stop"}')
        assert carried.settled != end_is_late


def test_a_finish_reason_behind_a_piece_of_the_answer_goes_with_it() -> None:
    carried = carry()
    carried.say({"text": "a"})
    carried.note(FINISHING, {"finish_reason": "stop"})
    assert len(carried.take()) == 2
    assert carried.take_last_word() == b""


def test_an_end_that_told_the_finish_reason_is_known_by_its_place() -> None:
    carried = carry()
    said(carried, 3)
    carried.note(FINISHING, {"finish_reason": "stop"})
    assert carried.take_last_word()
    carried.end_args = ("nonce",)
    assert carried.compare(Entry(Cursor(5, 5), "done", b"{}")) == []
    assert carried.compare(Entry(Cursor(5, 4), "finishing", b"{}")) == LOST
    rewritten = carried.compare(Entry(Cursor(5, 2), MESSAGE, b'{"text":"1 "}'))
    assert [str(unpacked(entry).cursor) for entry in rewritten] == ["5-3"]  # type: ignore[arg-type]


def test_an_entry_that_was_taken_never_changes() -> None:
    carried = carry()
    carried.say({"text": "a"})
    (first,) = carried.take()
    carried.say({"text": "b"})
    assert unpacked(first).data == b'{"text":"a"}'
    carried.written(0.0)
    (second,) = carried.take()
    assert unpacked(second) == Entry(Cursor(5, 2), MESSAGE, b'{"text":"b"}')


def said(carried: Carried, count: int, now: float = 0.0) -> list[bytes]:
    entries = []
    for number in range(count):
        carried.say({"text": f"{number} "})
        entries += carried.take()
        carried.written(now)
    return entries


def test_what_the_log_lost_is_written_again_in_order() -> None:
    carried = carry()
    entries = said(carried, 5)
    opening = Entry(Cursor(5, 0), "started", b"{}")
    for last, missing in ((opening, entries), (unpacked(entries[2]), entries[3:]), (unpacked(entries[4]), [])):
        assert carried.compare(last) == missing


def test_the_log_s_last_entry_tells_why_to_stop() -> None:
    carried = carry()
    said(carried, 3)
    assert carried.compare(None) == GONE
    assert carried.compare(Entry(Cursor(6, 0), "queued", b"{}")) == GONE
    assert carried.compare(Entry(Cursor(6, 0), "restart", b"{}")) == FENCED
    assert carried.compare(Entry(Cursor(4, 9), MESSAGE, b"{}")) == UNCLAIMED
    assert carried.compare(Entry(Cursor(5, 9), MESSAGE, b"{}")) == LOST
    assert carried.compare(Entry(Cursor(5, 2), MESSAGE, b'{"text":"another"}')) == LOST


def test_what_a_fence_refused_is_not_written_again_when_the_fence_is_lost() -> None:
    carried = carry()
    entries = said(carried, 2)
    for text in ("in flight", "refused"):
        carried.say({"text": text})
        entries += carried.take()
    assert carried.compare(Entry(Cursor(6, 0), "cancelled", b"{}")) == FENCED
    carried.fence(unpacked(entries[2]).cursor)
    carried.end(0.0)
    assert carried.compare(unpacked(entries[0])) == entries[1:3]


def test_an_attempt_that_another_one_overruled_never_comes_back() -> None:
    carried = carry()
    said(carried, 2)
    assert carried.compare(Entry(Cursor(6, 2), MESSAGE, b"{}")) == FENCED
    carried.fence(Cursor(4, 7))
    carried.end(0.0)
    assert carried.compare(Entry(Cursor(4, 7), MESSAGE, b"{}")) == FENCED


def test_where_a_fence_stands_that_was_trimmed_only_what_was_acknowledged_counts() -> None:
    carried = carry()
    entries = said(carried, 2)
    carried.say({"text": "in flight"})
    carried.take()
    carried.fence(None)
    assert carried.compare(unpacked(entries[0])) == entries[1:]


def test_a_missing_stream_is_waited_for_from_each_new_connection_on() -> None:
    carried = carry()
    assert carried.held_up(10.0, GONE)
    carried.keep_anew(15.0)
    assert carried.held_up(16.0, GONE)
    assert carried.held_up(25.0, GONE)
    assert not carried.held_up(27.0, GONE)
    assert carried.stopped.result() == GONE


def test_what_was_fenced_and_then_lost_with_its_fence_waits_for_its_creator_too() -> None:
    carried = carry()
    carried.stop(FENCED)
    carried.end(0.0)
    assert carried.held_up(10.0, GONE)
    assert carried.held_up(70.0, GONE)
    assert not carried.held_up(71.0, GONE)


def test_more_lost_than_was_kept_is_lost() -> None:
    carried = carry()
    said(carried, 3, now=0.0)
    late = said(carried, 2, now=KEEP_S + 1)
    assert carried.compare(Entry(Cursor(5, 0), "started", b"{}")) == LOST
    assert carried.compare(Entry(Cursor(4, 0), "queued", b"{}")) == LOST
    assert carried.compare(unpacked(late[0])) == late[1:]


def test_what_is_in_flight_is_kept_however_long_it_takes() -> None:
    carried = carry()
    carried.say({"text": "a"})
    (entry,) = carried.take()
    assert carried.compare(Entry(Cursor(5, 0), "started", b"{}")) == [entry]
    carried.written(100.0)
    assert carried.compare(Entry(Cursor(5, 0), "started", b"{}")) == [entry]


def test_a_terminal_event_in_the_log_needs_nothing() -> None:
    carried = carry()
    said(carried, 2)
    carried.end_args = ("nonce",)
    assert carried.compare(Entry(Cursor(5, 3), "done", b"{}")) == []


def test_unwritten_text_is_bounded() -> None:
    carried = carry()
    assert not carried.full
    carried.say({"text": "x" * (MAX_UNWRITTEN + 1)})
    assert carried.full
    carried.take()
    assert carried.full
    carried.written(0.0)
    assert not carried.full


def test_what_was_refused_for_good_leaves_its_place_to_the_end() -> None:
    carried = carry()
    said(carried, 2)
    carried.say({"text": "refused"})
    carried.take()
    carried.cut()
    assert carried.next_n == 3
    assert carried.settled


@given(st.lists(st.integers(1, 7), max_size=30), st.sets(st.integers(0, 29)))
def test_the_snapshot_is_all_that_was_acknowledged(bursts: list[int], anew: set[int]) -> None:
    carried = carry(cap=8)
    kept, text, number = b"", "", 0
    for index, burst in enumerate(bursts):
        for _ in range(burst):
            number += 1
            carried.say({"text": f"{number},"})
            text += f"{number},"
            carried.take()
            due = carried.written(0.0)
        if due or index in anew:
            as_of, offset, chunk = carried.snapshot_step(anew=index in anew)
            assert offset in (0, len(kept))
            kept = chunk if index in anew else kept + chunk
            assert as_of == f"5-{carried.next_n - 1}"
            transcript = Transcript()
            transcript.add_lines(kept)
            assert transcript.text == text


def test_a_snapshot_is_due_every_half_cap_with_what_was_taken_over() -> None:
    carried = carry(cap=8)
    carried.go_on(b"", [{"text": "a"}, {"text": "b"}])
    due = []
    for _ in range(5):
        carried.say({"text": "c"})
        carried.take()
        due.append(carried.written(0.0))
        if due[-1]:
            carried.snapshot_step()
    assert due == [False, True, False, False, False]


def test_what_is_not_acknowledged_is_in_no_snapshot() -> None:
    carried = carry()
    said(carried, 2)
    carried.say({"text": "in flight"})
    carried.take()
    as_of, offset, chunk = carried.snapshot_step()
    assert (as_of, offset) == ("5-2", 0)
    assert b"in flight" not in chunk
    carried.written(0.0)
    assert carried.snapshot_step() == ("5-3", len(chunk), b'{"text":"in flight"}\n')
    carried.say({"text": "refused"})
    carried.take()
    carried.cut()
    assert carried.snapshot_step(anew=True)[2] == chunk + b'{"text":"in flight"}\n'


def test_a_flush_takes_no_more_than_a_quarter_of_the_cap() -> None:
    carried = carry(cap=8)
    for number in range(10):
        carried.note("note", {"number": number})
    taken: list[list[Any]] = []
    while carried.has_pending:
        taken.append(carried.take())
        carried.written(0.0)
    assert [len(entries) for entries in taken] == [2] * 5


def test_a_full_server_fails_what_runs_within_seconds_and_what_has_ended_after_a_minute() -> None:
    running, ended = carry(), carry()
    ended.end(0.0)
    for carried in (running, ended):
        carried.held_up(10.0, LOG_FULL)
        carried.held_up(16.0, LOG_FULL)
    assert running.stopped.result() == LOG_FULL
    assert not ended.stopped.done()
    ended.held_up(71.0, LOG_FULL)
    assert ended.stopped.result() == LOG_FULL


def test_what_a_fenced_attempt_had_in_flight_is_not_said_again() -> None:
    carried = carry()
    said(carried, 2)
    carried.say({"text": "late"})
    carried.take()
    carried.stop(FENCED)
    carried.end(1.0).keep_anew(2.0)
    assert len(carried.kept()) == 2
    assert not carried.in_flight
