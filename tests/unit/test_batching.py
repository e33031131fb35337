"""Batches are due by size and by age, and gather without losing a character."""

from hypothesis import given
from hypothesis import strategies as st

from api.batching import Batching, BatchLimits, gather
from shared.events import Transcript, encode_data
from shared.ids import Cursor
from shared.log import Entry

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


def test_a_batch_is_due_when_it_is_full() -> None:
    batching = Batching(BatchLimits(3, 10), Clock())
    assert [batching.is_due(waiting) for waiting in (0, 1, 2, 3)] == [False, False, False, True]


def test_a_batch_is_due_by_the_age_of_its_first_piece_though_no_other_comes() -> None:
    clock = Clock()
    batching = Batching(BatchLimits(100, 0.5), clock)
    assert batching.left_s() is None
    assert not batching.is_due(1)
    clock.now += 0.3
    assert not batching.is_due(2)
    left_s = batching.left_s()
    assert left_s is not None
    assert abs(left_s - 0.2) < 1e-9
    clock.now += 0.2
    assert batching.is_due(2)


def test_the_clock_starts_anew_behind_each_batch() -> None:
    clock = Clock()
    batching = Batching(BatchLimits(2, 0.5), clock)
    assert not batching.is_due(1)
    clock.now += 0.4
    assert batching.is_due(2)
    batching.sent()
    assert not batching.is_due(1)
    clock.now += 0.4
    assert not batching.is_due(1)


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
