"""A chaos run breaks its word when workers that were lost alone are replaced too slowly."""

import pytest

from tests.chaos.faults import Fault
from tests.chaos.load import Stream
from tests.chaos.process_faults import ENDED, KILLED
from tests.chaos.report import Result
from tests.chaos.stories import Story
from tests.chaos.world import Struck
from tests.support.scripted_answer import Call

APART_S = 100.0


def run_with(kind: Fault, delays_s: list[float], *, amid: bool = False) -> Result:
    """A run in which each of these faults cost one stream its worker for so long; ``amid``: others struck too."""
    struck, streams, calls = [], [], []
    for number, delay_s in enumerate(delays_s):
        at = number * APART_S
        name = f"s{number}"
        struck.append(Struck(kind.name, at, ended=at + 0.1))
        if amid:
            struck.append(Struck("another", at, ended=at + 1))
        streams.append(Stream(Story(name, {}, "restart", (), None, None)))
        calls += [
            Call(name, 1, at - 1, closed_by="client", closed_at=at + 0.01),
            Call(name, 2, at + delay_s),
        ]
    return Result("a run", "1", 1.0, streams, struck, calls, 0)


@pytest.mark.parametrize(
    ("kind", "delays_s", "violations"),
    [
        (KILLED, [3.1, 4.9, 9.0], 0),
        (KILLED, [3.1, 5.1, 9.0], 1),
        (ENDED, [0.2, 0.9, 4.0], 0),
        (ENDED, [0.2, 1.1, 4.0], 1),
        (KILLED, [9.0, 9.0], 0),
    ],
)
def test_a_median_over_what_is_promised_is_a_violation(kind: Fault, delays_s: list[float], violations: int) -> None:
    result = run_with(kind, delays_s)
    assert result.violations == len(result.slow) == violations
    assert all(kind.name in text for text in result.slow)


def test_a_slow_replacement_amid_other_faults_breaks_no_promise() -> None:
    assert run_with(KILLED, [9.0] * 5, amid=True).violations == 0
