"""The benchmark's arithmetic: a wrong figure would be believed."""

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.figures import Spread, histogram, merged, percentile, quantile, rate_at, ratios, slope
from bench.plots import Chart, Series, line_chart
from bench.report import markdown, plots
from bench.table import TARGETS, faults, judge


def test_a_percentile_is_the_bucket_that_the_share_falls_into() -> None:
    found = histogram([[10, 98], [500, 1], [900, 1]])
    assert percentile(found, 0.5) == 10
    assert percentile(found, 0.98) == 10
    assert percentile(found, 0.99) == 500
    assert percentile(found, 1.0) == 900
    assert math.isnan(percentile({}, 0.5))


def test_histograms_add_up() -> None:
    assert merged([{1: 2, 5: 1}, {5: 3}]) == {1: 2, 5: 4}


def test_a_quantile_is_one_of_the_values() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert math.isnan(quantile([], 0.5))


def test_a_spread_ignores_what_is_no_number() -> None:
    assert Spread.of([2.0, math.nan, 1.0, 9.0]) == Spread(2.0, 1.0, 9.0, 3)
    assert Spread.of([math.nan]) is None


def test_ratios_are_taken_round_by_round() -> None:
    """A slow round of both is no difference between them."""
    assert ratios({0: 10.0, 1: 100.0, 2: 7.0}, {0: 20.0, 1: 200.0}) == Spread(0.5, 0.5, 0.5, 2)
    assert ratios({0: 1.0}, {1: 1.0}) is None


def test_a_slope_is_that_of_the_nearest_line() -> None:
    assert slope([(0, 5), (10, 25)]) == pytest.approx(2.0)
    assert math.isnan(slope([(1, 1)]))


def test_the_limit_lies_between_a_run_within_it_and_one_beyond() -> None:
    below, above = {"tokens_per_s": 1000.0, "p99_ms": 5.0}, {"tokens_per_s": 2000.0, "p99_ms": 500.0}
    assert rate_at(50, below, above) == pytest.approx(1500)
    assert rate_at(50, below, None) == 1000
    assert rate_at(50, None, above) == 2000


def load_row(contender: str, number: int, us: float, **more: Any) -> dict[str, Any]:
    row = {
        "section": "load",
        "round": number,
        "what": contender,
        "contender": contender,
        "streams": 100,
        "rate": 50,
        "tokens": 1000,
        "cpu_us": {"api": us * 600, "redis": us * 400},
        "p50_ms": 1.0,
        "p99_ms": 9.0,
        "latency": [[1000, 99], [9000, 1]],
        "tokens_per_event": 1.0,
        "events_per_write": 1.0,
        "round_trips": 300,
        "provider_us_per_token": 5.0,
        "viewer_us_per_token": 5.0,
        "steal": 0.0,
        "lost": 0,
        "wrong": 0,
        "restarts": 0,
        "refused": {},
    }
    return row | more


ROWS = [
    *(load_row("headrace", number, 80.0) for number in range(3)),
    *(load_row("direct", number, 160.0) for number in range(3)),
    *(load_row("shared", number, 100.0) for number in range(3)),
    load_row("headrace", 3, 9999.0, thrown_away=True),
]


def test_a_row_that_was_thrown_away_counts_for_nothing() -> None:
    first = judge(ROWS)[0]
    assert first.spread == Spread(0.5, 0.5, 0.5, 3)
    assert first.verdict == "missed"
    assert any("1 measurements were thrown away" in fault for fault in faults(ROWS))


def test_must_and_aim_are_judged_apart() -> None:
    verdicts = {judged.target.name: judged.verdict for judged in judge(ROWS)}
    assert verdicts["latency, provider's byte → viewer's byte, p99 at 100 streams"] == "must met, aim missed"
    assert verdicts["the same against (b)"] == "missed"
    assert verdicts["1 stream, 1,000 viewers, 50 events/s: p99"] == "–"


@pytest.mark.parametrize(
    ("us", "verdict"), [(70.0, "this machine has no core for it"), (60.0, "missed")], ids=["no core", "a core"]
)
def test_two_of_each_are_held_to_their_must_only_where_the_cores_allow_it(us: float, verdict: str) -> None:
    def limit(contender: str) -> dict[str, Any]:
        used = {"cpu_us": {"worker": 1000 * us}, "bench_us": 5000, "tokens": 1000, "cores": 2}
        return {"section": "limit found", "round": 0, "contender": contender, "tokens_per_s": 20_000.0, **used}

    found = next(j for j in judge([limit("headrace"), limit("headrace2")]) if j.target.name.startswith("two API"))
    assert found.verdict == verdict
    assert "provider and viewers 10 %" in found.remark


def test_the_table_tells_the_memory_of_a_stream_in_worker_and_api() -> None:
    held = {"section": "held streams", "contender": "headrace", "bytes_per_stream": {"worker": 65536, "api": 32768}}
    shown = {
        judged.target.name: judged.figure for judged in judge([held | {"round": n, "what": "x"} for n in range(3)])
    }
    assert shown["memory per stream of 400 tokens so far, in the worker"].startswith("64 KiB")
    assert shown["the same in the API process, with its viewer"].startswith("32 KiB")


def test_every_aim_is_harder_than_its_must() -> None:
    for line in TARGETS:
        assert line.aim is None or line.meets(line.aim, line.must), line.name


def test_lost_tokens_and_errors_are_told() -> None:
    rows = [
        load_row("headrace", 0, 80.0, lost=7, refused={"503": 2}),
        {"section": "fan", "what": "x", "error": "it broke"},
    ]
    said = "\n".join(faults(rows))
    assert "7 tokens had not come in time, 2 × HTTP 503" in said
    assert "it broke" in said


def test_the_table_as_markdown_has_a_line_for_each_row() -> None:
    text = markdown(ROWS)
    assert len(re.findall(r"^\| ", text, re.MULTILINE)) == 1 + len(TARGETS) + 1 + 3
    assert "0.50× (0.50× – 0.50×, n = 3)" in text


def test_a_plot_is_well_formed_and_without_points_is_none() -> None:
    text = line_chart(
        Chart("a & b", "x", "y", log_x=True, log_y=True), [Series("headrace", "<us>", [(1, 2), (100, 3)])]
    )
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert line_chart(Chart("t", "x", "y"), [Series("headrace", "t", [])]) == ""
    assert set(plots(ROWS)) == {"latency.svg"}
