"""Who speaks in a flush: nobody waits while few speak, and under load two pieces share an entry."""

import asyncio
from collections.abc import Iterable

import pytest

from shared.store.claims import Claim
from shared.store.log import Log
from worker.log.attempt_log import AttemptLog
from worker.log.flush_policy import FLUSH_STREAMS, LOAD_FLUSHES, MOST_FLUSHES, FlushPolicy

pytestmark = pytest.mark.asyncio

LOAD = FLUSH_STREAMS * LOAD_FLUSHES
"""As many at once are too many, at the first flush."""


def attempts(count: int, *, begun: bool = True) -> list[AttemptLog]:
    """``begun``: they have said something before."""
    made = [AttemptLog(f"s{n}", Claim("run", "started", epoch=5, attempt=1), Log("log", 64)) for n in range(count)]
    for attempt in made if begun else ():
        attempt.add({"text": "a"})
        attempt.take()
        attempt.acknowledged(asyncio.get_running_loop().time())
    return made


def speaking(some: Iterable[AttemptLog]) -> FlushPolicy:
    policy = FlushPolicy()
    for attempt in some:
        policy.add(attempt)
    return policy


async def test_few_speak_at_once() -> None:
    few = attempts(FLUSH_STREAMS)
    policy = FlushPolicy()
    for _ in range(3 * LOAD_FLUSHES):
        for attempt in few:
            policy.add(attempt)
        assert policy.take(()) == few
        assert not policy.any_but(())


async def test_few_that_all_speak_in_every_other_flush_speak_at_once() -> None:
    few = attempts(FLUSH_STREAMS + FLUSH_STREAMS // 2)
    policy = FlushPolicy()
    for _ in range(3 * LOAD_FLUSHES):
        for attempt in few:
            policy.add(attempt)
        assert policy.take(()) == few
        assert policy.take(()) == []


async def test_more_than_that_speak_when_they_have_something_twice_before_long() -> None:
    many = attempts(FLUSH_STREAMS + 8)
    policy = FlushPolicy()
    spoke = []
    for _ in range(6 * LOAD_FLUSHES):
        for attempt in many:
            policy.add(attempt)
        spoke.append(len(policy.take(())))
    assert spoke[:8] == [len(many)] * 8
    assert spoke[-8:] in ([0, len(many)] * 4, [len(many), 0] * 4)


async def test_attempts_with_two_pieces_speak_first_among_many() -> None:
    many = attempts(LOAD * 5 // 4)
    policy = speaking(many)
    assert policy.take(()) == []
    for attempt in many[5:2:-1]:
        policy.add(attempt)
    assert policy.take(()) == many[5:2:-1]
    assert policy.any_but(())
    assert policy.take(()) == many[:3] + many[6:], "the others are few now"


async def test_an_attempt_among_many_waits_for_a_few_flushes_at_most() -> None:
    many = attempts(2 * LOAD + 10)
    early, late = many[:-10], many[-10:]
    policy = speaking(early)
    assert policy.take(()) == []
    for attempt in late:
        policy.add(attempt)
    assert [len(policy.take(())) for _ in range(MOST_FLUSHES - 1)] == [0] * (MOST_FLUSHES - 2) + [len(early)]
    assert policy.take(()) == late


async def test_first_words_do_not_wait() -> None:
    old, new = attempts(LOAD), attempts(3, begun=False)
    policy = speaking(old + new)
    assert policy.take(()) == new


async def test_a_held_attempt_keeps_its_place_and_causes_no_flush() -> None:
    few = attempts(3)
    policy = speaking(few)
    held = {few[0]}
    assert policy.take(held) == few[1:]
    assert few[0] in policy
    assert policy.any_but(())
    assert not policy.any_but(held)
    policy.discard(few[0])
    assert policy.take(()) == []
