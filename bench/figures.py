"""Figures of runs: percentiles of histograms, medians with their spread. Pure."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Histogram = dict[int, int]
"""Bucket (µs, its lower edge) to count, as ``native/viewer.c`` prints them."""


def histogram(pairs: Iterable[Sequence[int]]) -> Histogram:
    """From the viewers' ``[[bucket, count], …]``."""
    return {int(bucket): int(count) for bucket, count in pairs}


def merged(parts: Iterable[Histogram]) -> Histogram:
    """Several histograms as one."""
    whole: Histogram = {}
    for part in parts:
        for bucket, count in part.items():
            whole[bucket] = whole.get(bucket, 0) + count
    return whole


def percentile(of: Histogram, share: float) -> float:
    """The smallest bucket with at least this share (0 to 1) at or below it; NaN for an empty histogram."""
    left = share * sum(of.values())
    for bucket in sorted(of):
        left -= of[bucket]
        if left <= 1e-9:
            return float(bucket)
    return float("nan")


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value with at least this share (0 to 1) of the values at or below it; NaN for no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else float("nan")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds, with the smallest and the largest value."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """None if there is no value."""
        kept = [value for value in values if value == value]  # NaN is no value
        return cls(statistics.median(kept), min(kept), max(kept), len(kept)) if kept else None


def ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Spread | None:
    """Ours divided by theirs, round by round, because a disturbance of a round slows both. None without a common
    round."""
    return Spread.of(ours[number] / theirs[number] for number in ours if theirs.get(number))


def differences(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Spread | None:
    """Ours minus theirs, round by round. None without a common round."""
    return Spread.of(ours[number] - theirs[number] for number in ours if number in theirs)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line through these points (least squares); NaN for fewer than two points."""
    if len(points) < 2:
        return float("nan")
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def rate_at(limit_ms: float, below: Mapping[str, float] | None, above: Mapping[str, float] | None) -> float:
    """The tokens/s at which p99 exceeds the limit, between a run below the limit and one above it.

    Latency grows by factors there, so its logarithm is interpolated. With only one run the result is its rate (a
    bound, not the crossing). Raises ``ValueError`` without any run.
    """
    if below is None or above is None or below is above:
        found = below or above
        if found is None:
            raise ValueError("neither a run within the limit nor one beyond it")
        return found["tokens_per_s"]
    low, high = math.log(max(below["p99_ms"], 1e-3)), math.log(max(above["p99_ms"], 1e-3))
    if not low < high:
        return below["tokens_per_s"]
    share = min(1.0, max(0.0, (math.log(limit_ms) - low) / (high - low)))
    return below["tokens_per_s"] + share * (above["tokens_per_s"] - below["tokens_per_s"])
