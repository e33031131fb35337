"""The shared buffer against a plain list of events."""

from hypothesis import given
from hypothesis import strategies as st

from api.viewing.shared_buffer import MAX_BYTES, MAX_EVENTS, SLICE_BYTES, SharedBuffer
from shared.protocol.cursor import Cursor


def begun(epoch: int = 1) -> SharedBuffer:
    buffer = SharedBuffer()
    buffer.begin(Cursor(epoch, 0))
    return buffer


@given(st.lists(st.binary(max_size=40), max_size=60), st.data())
def test_slices_from_anywhere_tell_the_rest(events: list[bytes], data: st.DataObject) -> None:
    buffer = begun()
    for event in events:
        buffer.append(event)
    start = data.draw(st.integers(0, len(events)))
    told, sequence = b"", start
    while sequence < buffer.end:
        chunk, behind = buffer.slice(sequence)
        assert behind > sequence
        told, sequence = told + chunk, behind
    assert told == b"".join(events[start:])
    assert buffer.slice(buffer.end) == (b"", buffer.end)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_events_are_found_by_their_ids(steps: list[int]) -> None:
    buffer = SharedBuffer()
    n, there = 0, {}
    for index, step in enumerate(steps):
        n += step + 1
        if buffer.next_id != b"7-%d" % n:
            buffer.begin(Cursor(7, n))
        buffer.append(b"x")
        there[n] = index
    for number in range(n + 2):
        assert buffer.at(Cursor(7, number)) == there.get(number)
    assert buffer.last == Cursor(7, n)
    assert [buffer.cursor_before(index + 1) for index in there.values()] == [Cursor(7, n) for n in there]


@given(st.lists(st.sampled_from(".!-"), max_size=40), st.data())
def test_pieces_and_news_are_told_apart(events: list[str], data: st.DataObject) -> None:
    buffer = begun()
    for event in events:
        buffer.append(b"" if event == "-" else b"x", piece=event == ".")
    start = data.draw(st.integers(0, len(events)))
    pieces = [n + 1 for n in range(start, len(events)) if events[n] == "."]
    news = [n + 1 for n in range(start, len(events)) if events[n] == "!"]
    assert buffer.pieces(start) == len(pieces)
    assert buffer.behind_news(start) == (news[-1] if news else None)
    assert [buffer.behind_pieces(start, n + 1) for n in range(len(pieces))] == pieces


def test_pieces_are_counted_right_behind_what_has_left() -> None:
    buffer = begun()
    for n in range(MAX_EVENTS * 3):
        buffer.append(b"x", piece=n % 2 == 0)
    assert buffer.base
    assert buffer.pieces(buffer.end - 100) == 50
    assert buffer.pieces(buffer.base) == (buffer.end - buffer.base) // 2


def test_old_events_leave_and_the_rest_keeps_its_numbers() -> None:
    buffer = begun()
    for n in range(MAX_EVENTS * 3):
        buffer.append(b"%d;" % n)
    assert len(range(buffer.base, buffer.end)) <= MAX_EVENTS
    assert buffer.end == MAX_EVENTS * 3
    middle = buffer.base + 10
    chunk, _ = buffer.slice(middle)
    assert chunk.startswith(b"%d;" % middle)
    assert buffer.at(Cursor(1, buffer.base - 1)) is None
    assert [buffer.at(Cursor(1, n)) for n in (buffer.base, middle, buffer.end)] == [buffer.base, middle, None]


def test_bytes_are_bounded_and_a_slice_fits_a_write() -> None:
    buffer = begun()
    for _ in range(400):
        buffer.append(b"x" * 10_000)
    held = sum(len(buffer.slice(n)[0]) for n in range(buffer.base, buffer.end, 6))
    assert held <= MAX_BYTES
    chunk, _ = buffer.slice(buffer.base)
    assert len(chunk) <= SLICE_BYTES


def test_an_event_larger_than_a_write_still_leaves_whole() -> None:
    buffer = begun()
    buffer.append(b"x" * (SLICE_BYTES + 1))
    assert buffer.slice(0) == (b"x" * (SLICE_BYTES + 1), 1)


def test_clearing_forgets_the_events_and_goes_on_counting() -> None:
    buffer = begun()
    buffer.append(b"a")
    buffer.clear()
    assert (buffer.base, buffer.end, buffer.last, buffer.next_id) == (1, 1, None, b"")
    buffer.begin(Cursor(2, 0))
    buffer.append(b"b")
    assert [buffer.at(Cursor(1, 0)), buffer.at(Cursor(2, 0))] == [None, 1]
    assert buffer.slice(1) == (b"b", 2)


def test_a_cursor_right_in_front_of_the_buffer_goes_on_from_it() -> None:
    buffer = SharedBuffer()
    buffer.begin(Cursor(2, 0), after=Cursor(1, 0))
    buffer.append(b"a")
    assert buffer.behind(Cursor(1, 0)) == 0
    assert buffer.behind(Cursor(2, 0)) == 1
    assert buffer.behind(Cursor(1, 1)) is None
    for _ in range(MAX_EVENTS):
        buffer.append(b"x")
    assert buffer.base > 0
    assert buffer.behind(Cursor(1, 0)) is None
    assert buffer.behind(Cursor(2, buffer.base - 1)) == buffer.base
    buffer.clear()
    assert buffer.behind(Cursor(2, MAX_EVENTS)) is None
    buffer.begin(Cursor(9, 0))
    buffer.append(b"b")
    assert buffer.behind(Cursor(2, MAX_EVENTS)) is None


def test_events_of_several_attempts_are_found_and_leave_by_their_runs() -> None:
    buffer = SharedBuffer()
    for epoch in range(1, 5):
        buffer.begin(Cursor(epoch, 0), after=Cursor(epoch - 1, 9))
        for n in range(MAX_EVENTS // 2):
            assert buffer.next_id == b"%d-%d" % (epoch, n)
            buffer.append(b"x")
    assert buffer.base
    told = [buffer.cursor_before(sequence + 1) for sequence in range(buffer.base, buffer.end)]
    assert [buffer.at(cursor) for cursor in told] == list(range(buffer.base, buffer.end))
    assert {cursor.epoch for cursor in told} == {3, 4}
    assert buffer.at(Cursor(4, MAX_EVENTS // 2)) is None
    assert buffer.at(Cursor(2, MAX_EVENTS // 2 - 1)) is None
