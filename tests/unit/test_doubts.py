"""What is doubtful is looked at again and again, and does not hold up the others."""

from tests.unit.test_carried import carry
from worker.carried import GONE, HELD_UP_S
from worker.doubts import DOUBT_S, Doubts, may_come_back

CALM_MS = int(HELD_UP_S[GONE] * 1000)


def test_what_stays_doubtful_is_looked_at_from_time_to_time_and_what_is_new_at_once() -> None:
    doubts, one, two = Doubts(), carry(), carry()
    assert doubts.due(0.0) == []
    doubts.add(one)
    assert doubts.due(0.0) == [one]
    doubts.keep(one)
    assert doubts.due(DOUBT_S / 10) == []
    assert doubts.due(DOUBT_S) == [one]
    doubts.add(two)
    assert doubts.due(DOUBT_S) == [one, two]
    assert doubts.discard(one)
    assert not doubts.discard(one)
    assert doubts.due(3 * DOUBT_S) == [two]


def test_a_stream_that_is_missing_at_a_calm_server_was_erased_unless_its_attempt_has_ended() -> None:
    speaking, ended = carry(), carry()
    ended.end(0.0)
    assert not may_come_back(speaking, CALM_MS, 100.0)
    assert may_come_back(speaking, CALM_MS - 1, 100.0)
    assert may_come_back(ended, CALM_MS, 100.0)
