"""One attempt's writing side: ids, what is kept, and what the log's last entry means."""

import asyncio
from typing import Any

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.cursor import Cursor, entry_cursor
from shared.protocol.events import FINISHING, MESSAGE
from shared.protocol.transcript import Transcript
from shared.store.claims import Claim
from shared.store.log import Entry, Log
from worker.log.attempt_log import FENCED, FULL_S, GONE, KEEP_S, LOG_FULL, LOST, SNAPSHOT_BYTES, AttemptLog

NONCE = b"n"
OPENING = Entry(Cursor(5, 0), "started", b"{}", None, NONCE)


def begun(cap: int = 100) -> AttemptLog:
    async def make() -> AttemptLog:
        return AttemptLog("stream", Claim("run", "started", epoch=5, attempt=1, nonce=NONCE), Log("key", cap))

    return asyncio.run(make())


def unpacked(packed: bytes) -> Entry:
    reader = hiredis.Reader()
    reader.feed(b"*5\r\n" + packed)
    cursor, e, kind, d, data = reader.gets()
    assert (e, d) == (b"e", b"d")
    return Entry(entry_cursor(cursor), kind.decode(), data)


def test_deltas_that_wait_together_leave_as_one_entry() -> None:
    attempt = begun()
    for text in ("a", "b", "c"):
        attempt.add({"text": text})
    attempt.note(FINISHING, {"finish_reason": "stop"})
    entries = map(unpacked, attempt.take())
    assert [(str(e.cursor), e.type, e.data) for e in entries] == [
        ("5-1", MESSAGE, b'{"text":"abc"}'),
        ("5-2", FINISHING, b'{"finish_reason":"stop"}'),
    ]
    attempt.acknowledged(0.0)
    assert attempt.acknowledged
    assert attempt.snapshot_step()[0] == "5-2"


def test_an_entry_that_was_taken_never_changes() -> None:
    attempt = begun()
    attempt.add({"text": "a"})
    (first,) = attempt.take()
    attempt.add({"text": "b"})
    assert unpacked(first).data == b'{"text":"a"}'
    attempt.acknowledged(0.0)
    (second,) = attempt.take()
    assert unpacked(second) == Entry(Cursor(5, 2), MESSAGE, b'{"text":"b"}')


def said(attempt: AttemptLog, count: int, now: float = 0.0) -> list[bytes]:
    entries = []
    for number in range(count):
        attempt.add({"text": f"{number} "})
        entries += attempt.take()
        attempt.acknowledged(now)
    return entries


def test_entries_that_the_log_lost_are_written_again_in_order() -> None:
    attempt = begun()
    entries = said(attempt, 5)
    for last, missing in ((OPENING, entries), (unpacked(entries[2]), entries[3:]), (unpacked(entries[4]), [])):
        assert attempt.compare(last) == missing


def test_the_log_s_last_entry_tells_why_to_stop() -> None:
    attempt = begun()
    said(attempt, 3)
    assert attempt.compare(None) == GONE
    assert attempt.compare(Entry(Cursor(6, 0), "restart", b"{}")) == FENCED
    assert attempt.compare(Entry(Cursor(4, 9), MESSAGE, b"{}")) == LOST
    assert attempt.compare(Entry(Cursor(5, 9), MESSAGE, b"{}")) == LOST
    assert attempt.compare(Entry(Cursor(5, 2), MESSAGE, b'{"text":"another"}')) == LOST


def test_more_lost_than_was_kept_is_lost() -> None:
    attempt = begun()
    said(attempt, 3, now=0.0)
    late = said(attempt, 2, now=KEEP_S + 1)
    assert attempt.compare(OPENING) == LOST
    assert attempt.compare(unpacked(late[0])) == late[1:]


def test_entries_in_flight_are_kept_however_long_it_takes() -> None:
    attempt = begun()
    attempt.add({"text": "a"})
    (entry,) = attempt.take()
    assert attempt.compare(OPENING) == [entry]
    attempt.acknowledged(100.0)
    assert attempt.compare(OPENING) == [entry]


def test_a_terminal_event_in_the_log_needs_nothing() -> None:
    attempt = begun()
    said(attempt, 2)
    assert attempt.compare(Entry(Cursor(5, 3), "done", b"{}")) == []


def test_an_entry_refused_for_good_leaves_its_place_to_the_end() -> None:
    attempt = begun()
    said(attempt, 2)
    attempt.add({"text": "refused"})
    attempt.take()
    attempt.cut()
    assert attempt.next_n == 3
    assert attempt.acknowledged


@given(st.lists(st.integers(1, 7), max_size=30), st.sets(st.integers(0, 29)))
def test_the_snapshot_is_all_that_was_acknowledged(bursts: list[int], anew: set[int]) -> None:
    attempt = begun(cap=8)
    kept, text, number = b"", "", 0
    for index, burst in enumerate(bursts):
        for _ in range(burst):
            number += 1
            attempt.add({"text": f"{number},"})
            text += f"{number},"
            attempt.take()
            due = attempt.acknowledged(0.0)
        if due or index in anew:
            as_of, offset, chunk = attempt.snapshot_step(anew=index in anew)
            assert offset in (0, len(kept))
            kept = chunk if index in anew else kept + chunk
            assert as_of == f"5-{attempt.next_n - 1}"
            transcript = Transcript()
            transcript.add_lines(kept)
            assert transcript.text == text


def test_a_snapshot_is_due_every_half_cap_with_what_was_taken_over() -> None:
    attempt = begun(cap=8)
    attempt.continue_from(b"", [{"text": "a"}, {"text": "b"}])
    due = []
    for _ in range(5):
        attempt.add({"text": "c"})
        attempt.take()
        due.append(attempt.acknowledged(0.0))
        if due[-1]:
            attempt.snapshot_step()
    assert due == [False, True, False, False, False]


def test_entries_that_are_not_acknowledged_are_in_no_snapshot() -> None:
    attempt = begun()
    said(attempt, 2)
    attempt.add({"text": "in flight"})
    attempt.take()
    as_of, offset, chunk = attempt.snapshot_step()
    assert (as_of, offset) == ("5-2", 0)
    assert b"in flight" not in chunk
    attempt.acknowledged(0.0)
    assert attempt.snapshot_step() == ("5-3", len(chunk), b'{"text":"in flight"}\n')
    attempt.add({"text": "refused"})
    attempt.take()
    attempt.cut()
    assert attempt.snapshot_step(anew=True)[2] == chunk + b'{"text":"in flight"}\n'


def test_a_flush_takes_no_more_than_a_quarter_of_the_cap() -> None:
    attempt = begun(cap=8)
    for number in range(10):
        attempt.note("note", {"number": number})
    taken: list[list[Any]] = []
    while attempt.has_pending:
        taken.append(attempt.take())
        attempt.acknowledged(0.0)
    assert [len(entries) for entries in taken] == [2] * 5


def test_a_note_that_waits_keeps_no_flush_from_pulling_the_source() -> None:
    attempt = begun()
    attempt.source = lambda: [{"text": "a"}]
    attempt.note("resumed", {})
    assert [unpacked(entry).type for entry in attempt.take()] == ["resumed", MESSAGE]


def test_an_opening_under_the_same_epoch_by_another_claim_is_not_its_own() -> None:
    attempt = begun()
    attempt.add({"text": "a"})
    attempt.take()
    assert attempt.compare(OPENING._replace(claim=b"another")) == LOST
    assert len(attempt.compare(OPENING)) == 1


def test_a_flush_pulls_the_source_only_when_nothing_is_in_flight() -> None:
    attempt = begun()
    pulled: list[int] = []

    def source() -> list[dict[str, Any]]:
        pulled.append(1)
        return [{"text": "a"}, {"text": "b"}]

    attempt.source = source
    (entry,) = attempt.take()
    assert unpacked(entry).data == b'{"text":"ab"}'
    assert attempt.take() == []
    assert len(pulled) == 1, "the provider waits"
    attempt.acknowledged(0.0)
    assert attempt.take()
    assert len(pulled) == 2


def test_a_turn_that_pulls_nothing_leaves_something_for_another_turn() -> None:
    """Or a hint of the source, which came before that turn, would be lost."""
    attempt, pulls = begun(cap=100), [60, 5, 0]

    def source() -> list[dict[str, Any]]:
        kinds = ("text", "reasoning")  # which are never joined
        return [{kinds[n % 2]: "a"} for n in range(pulls.pop(0))]

    attempt.source = source
    taken = []
    while pulls:
        before = len(pulls)
        taken.append(len(attempt.take()))
        attempt.acknowledged(0.0)
        assert len(pulls) < before or attempt.has_pending
    assert taken == [25, 25, 15, 0]


def test_a_snapshot_is_due_when_much_was_said_in_few_entries() -> None:
    attempt, due = begun(cap=1000), []
    for n in range(40):
        attempt.add({"text": "x" * 16_000})
        attempt.take()
        due.append(attempt.acknowledged(float(n)))
        if due[-1]:
            assert len(attempt.snapshot_step()[2]) < 2 * SNAPSHOT_BYTES
    assert 1 < due.count(True) < 5


def test_a_server_that_stays_full_stops_the_attempt_within_seconds() -> None:
    attempt = begun()
    attempt.full(10.0)
    attempt.full(10.0 + FULL_S / 2)
    assert not attempt.stopped.done()
    attempt.acknowledged(11.0)
    attempt.full(20.0)
    assert not attempt.stopped.done(), "it had room in between"
    attempt.full(20.0 + FULL_S + 1)
    assert attempt.stopped.result() == LOG_FULL
