"""Batches are due by size and by age, and gather without losing a character."""

from hypothesis import given
from hypothesis import strategies as st

from api.viewing.batching import Batching, BatchLimits, gather
from api.viewing.shared_buffer import SharedBuffer
from shared.protocol.cursor import Cursor
from shared.protocol.events import encode_data
from shared.protocol.transcript import Transcript
from shared.store.log import Entry

DELTA = st.one_of(
    st.builds(lambda text: {"text": text}, st.text(min_size=1, max_size=5)),
    st.builds(lambda text: {"reasoning": text}, st.text(min_size=1, max_size=5)),
    st.builds(lambda part: {"tool_call": {"index": 0, "arguments": part}}, st.text(max_size=5)),
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Waiting:
    """What waits for a viewer: ``.`` a piece, ``!`` an event that is said, ``-`` one without words."""

    def __init__(self, events: str = "") -> None:
        self.buffer = SharedBuffer()
        self.buffer.begin(Cursor(1, 0))
        self.add(events)

    def add(self, events: str) -> "Waiting":
        for event in events:
            self.buffer.append(b"" if event == "-" else b"x", piece=event == ".")
        return self


def due(batching: Batching, events: str, sequence: int = 0) -> int | None:
    return batching.due(Waiting(events).buffer, sequence)


def test_a_batch_is_due_when_it_is_full() -> None:
    batching = Batching(BatchLimits(3, 10), Clock())
    assert [due(batching, "." * waiting) for waiting in (0, 1, 2, 3, 5)] == [None, None, None, 3, 3]


def test_only_pieces_of_the_answer_fill_a_batch() -> None:
    batching = Batching(BatchLimits(3, 10), Clock())
    assert [due(batching, events) for events in ("---", "--..", "-.-.", "-.-.-.", "-.-.-.-")] == [
        None,
        None,
        None,
        6,
        6,
    ]
    assert due(batching, "-.-.-.-....", 7) == 10


def test_an_event_that_is_no_piece_leaves_at_once_with_the_pieces_before_it() -> None:
    batching = Batching(BatchLimits(3, 10), Clock())
    assert [due(batching, events) for events in ("!", "!!", ".!", "!..", "..!.")] == [1, 2, 2, 1, 3]
    assert due(batching, "....!") == 3, "a batch is never larger than was asked for"
    assert due(batching, "..!..", 3) is None, "what was said already urges nobody"


def test_the_age_is_that_of_the_first_piece_and_of_nothing_before_it() -> None:
    clock = Clock()
    batching = Batching(BatchLimits(9, 0.5), clock)
    waiting = Waiting("--")
    assert batching.due(waiting.buffer, 0) is None
    assert batching.left_s() is None
    clock.now += 10
    assert batching.due(waiting.add(".").buffer, 0) is None
    clock.now += 0.5
    assert batching.due(waiting.buffer, 0) == 3


def test_a_batch_is_due_by_the_age_of_its_first_piece_though_no_other_comes() -> None:
    clock = Clock()
    batching = Batching(BatchLimits(100, 0.5), clock)
    assert batching.left_s() is None
    assert due(batching, ".") is None
    clock.now += 0.3
    assert due(batching, "..") is None
    left_s = batching.left_s()
    assert left_s is not None
    assert abs(left_s - 0.2) < 1e-9
    clock.now += 0.2
    assert due(batching, "..") == 2


def test_the_clock_starts_anew_behind_each_batch() -> None:
    clock = Clock()
    batching = Batching(BatchLimits(2, 0.5), clock)
    assert due(batching, ".") is None
    clock.now += 0.4
    assert due(batching, "..") == 2
    batching.sent()
    assert due(batching, ".") is None
    clock.now += 0.4
    assert due(batching, ".") is None


@given(st.lists(st.one_of(DELTA, st.none()), max_size=40))
def test_gathering_loses_nothing_and_keeps_the_last_id(deltas: list[dict | None]) -> None:
    entries = [
        Entry(Cursor(1, n), "finishing" if delta is None else "message", encode_data(delta or {}))
        for n, delta in enumerate(deltas)
    ]
    gathered = gather(entries)
    told, whole = Transcript(), Transcript()
    for entry in entries:
        whole.apply(entry.type, entry.data)
    for entry in gathered:
        told.apply(entry.type, entry.data)
    assert told.as_data() == whole.as_data()
    assert [e.cursor for e in gathered] == sorted({e.cursor for e in gathered})
    if entries:
        assert gathered[-1].cursor == entries[-1].cursor
