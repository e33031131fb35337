"""Who speaks in a flush: nobody waits while few speak, and under load two pieces share an entry."""

import asyncio
from collections.abc import Iterable

import pytest

from shared.claims import Claim
from shared.log import Log
from worker.carried import Carried
from worker.speakers import FLUSH_STREAMS, LOAD_FLUSHES, MOST_FLUSHES, Speakers

pytestmark = pytest.mark.asyncio

LOAD = FLUSH_STREAMS * LOAD_FLUSHES
"""As many at once are too many, at the first flush."""


def attempts(count: int, *, begun: bool = True) -> list[Carried]:
    """``begun``: they have said something before."""
    made = [Carried(f"s{n}", Claim("run", "started", epoch=5, attempt=1), Log("log", 64)) for n in range(count)]
    for carried in made if begun else ():
        carried.say({"text": "a"})
        carried.take()
        carried.written(asyncio.get_running_loop().time())
    return made


def speaking(some: Iterable[Carried]) -> Speakers:
    speakers = Speakers()
    for carried in some:
        speakers.add(carried)
    return speakers


async def test_few_speak_at_once() -> None:
    few = attempts(FLUSH_STREAMS)
    speakers = Speakers()
    for _ in range(3 * LOAD_FLUSHES):
        for carried in few:
            speakers.add(carried)
        assert speakers.take(()) == few
        assert not speakers.any_but(())


async def test_few_that_all_speak_in_every_other_flush_speak_at_once() -> None:
    few = attempts(FLUSH_STREAMS + FLUSH_STREAMS // 2)
    speakers = Speakers()
    for _ in range(3 * LOAD_FLUSHES):
        for carried in few:
            speakers.add(carried)
        assert speakers.take(()) == few
        assert speakers.take(()) == []


async def test_more_than_that_speak_when_they_have_something_twice_before_long() -> None:
    many = attempts(FLUSH_STREAMS + 8)
    speakers = Speakers()
    spoke = []
    for _ in range(6 * LOAD_FLUSHES):
        for carried in many:
            speakers.add(carried)
        spoke.append(len(speakers.take(())))
    assert spoke[:8] == [len(many)] * 8
    assert spoke[-8:] in ([0, len(many)] * 4, [len(many), 0] * 4)


async def test_of_many_those_speak_that_have_something_twice() -> None:
    many = attempts(LOAD * 5 // 4)
    speakers = speaking(many)
    assert speakers.take(()) == []
    for carried in many[5:2:-1]:
        speakers.add(carried)
    assert speakers.take(()) == many[5:2:-1]
    assert speakers.any_but(())
    assert speakers.take(()) == many[:3] + many[6:], "the others are few now"


async def test_of_many_nobody_waits_for_longer_than_some_flushes() -> None:
    many = attempts(2 * LOAD + 10)
    early, late = many[:-10], many[-10:]
    speakers = speaking(early)
    assert speakers.take(()) == []
    for carried in late:
        speakers.add(carried)
    assert [len(speakers.take(())) for _ in range(MOST_FLUSHES - 1)] == [0] * (MOST_FLUSHES - 2) + [len(early)]
    assert speakers.take(()) == late


async def test_first_words_do_not_wait() -> None:
    old, new = attempts(LOAD), attempts(3, begun=False)
    speakers = speaking(old + new)
    assert speakers.take(()) == new


async def test_who_is_held_keeps_its_place_and_is_nobody_s_reason_to_flush() -> None:
    few = attempts(3)
    speakers = speaking(few)
    held = {few[0]}
    assert speakers.take(held) == few[1:]
    assert few[0] in speakers
    assert speakers.any_but(())
    assert not speakers.any_but(held)
    speakers.discard(few[0])
    assert speakers.take(()) == []
