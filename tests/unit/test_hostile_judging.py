"""A hostile run judges right: outcomes, waits and memory."""

import os

import pytest

from tests.hostile.attack import Attack, Told
from tests.hostile.bystander import Watched
from tests.hostile.run import ATTACKS, Result
from tests.hostile.wire import Answer
from tests.hostile.world import WORLDS, World
from tests.support.proc import begin_peak, cpu_times, peak


async def nothing(world: World, told: Told) -> None:
    pass


def told(*outcomes: str) -> Told:
    seen = Told()
    seen.outcomes.update(outcomes)
    return seen


ATTACK = Attack("x", nothing, ("429", "431"), ("20",))


@pytest.mark.parametrize(
    ("outcomes", "wrong"),
    [
        (("429 rate_limited",), 0),
        (("431", "202"), 0),
        (("202",), 1),
        ((), 1),
        (("429", "500 internal_error"), 1),
        (("closed",), 2),
    ],
)
def test_a_refusal_is_wanted_and_nothing_else_may_happen(outcomes: tuple[str, ...], wrong: int) -> None:
    assert len(ATTACK.judge(told(*outcomes))) == wrong


def test_a_fault_that_an_attack_finds_is_told_once() -> None:
    seen = told("429")
    seen.expect(True, "fine")
    seen.expect(False, "not fine")
    seen.expect(False, "not fine")
    assert ATTACK.judge(seen) == ["not fine"]


@pytest.mark.parametrize(
    ("watched", "slow"),
    [
        (Watched(gap=0.4, create=0.4, first=0.49), False),
        (Watched(gap=0.6), True),
        (Watched(create=0.6), True),
        (Watched(first=0.6), True),
        (Watched(gap=0.6, late=0.2), False),
    ],
)
def test_a_wait_is_judged_without_what_the_machine_was_late(watched: Watched, slow: bool) -> None:
    assert bool(Result(ATTACK, watched, told("429"), 0.5).violations) is slow


def test_a_process_may_grow_to_its_bound() -> None:
    assert not Result(ATTACK, Watched(), told("429"), 0.5, growth={"api": (64, 64)}).violations
    assert Result(ATTACK, Watched(), told("429"), 0.5, growth={"api": (65, 64)}).violations


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(b'HTTP/1.1 429 No\r\n\r\n{"code":"rate_limited"}', "closed"), "429 rate_limited"),
        (Answer(b'HTTP/1.1 200 OK\r\n\r\n{"code":"x"}'), "200"),
        (Answer(b"", "reset"), "reset"),
        (Answer(), "no answer"),
    ],
)
def test_an_outcome_is_a_status_or_an_end(answer: Answer, outcome: str) -> None:
    assert answer.outcome == outcome


def test_a_peak_is_seen_when_it_is_over() -> None:
    before = begin_peak(os.getpid())
    large = bytearray(64 * 1024 * 1024)
    large[::4096] = b"x" * len(large[::4096])
    del large
    assert peak(os.getpid()) > before + 50
    begin_peak(os.getpid())
    assert peak(os.getpid()) < before + 50


def test_time_on_a_processor_is_told() -> None:
    before, _ = cpu_times(os.getpid())
    sum(range(3_000_000))
    assert 0 < cpu_times(os.getpid())[0] - before < 30


def test_a_wait_counts_by_the_share_of_a_processor_that_there_was() -> None:
    result = Result(ATTACK, Watched(gap=1.0), told("429"), 0.5)
    assert result.slow
    result.share = 0.4
    assert not result.slow


def test_names_are_unique_and_worlds_are_there() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(set(names)) == len(names)
    assert {attack.where for attack in ATTACKS} == set(WORLDS)
