"""What the record tells callers."""

import json
from typing import Any

import pytest

from api.streams.records import describe
from shared.store.streams import Reading

USED = {"input_tokens": 9, "output_tokens": 4}
COST = {"usd": 0.5}
TOLD = {
    "usage:1": json.dumps({"input_tokens": 1}),
    "cost:1": "null",
    "usage:2": json.dumps(USED),
    "cost:2": json.dumps(COST),
}


def told(status: str, attempt: int, result: dict[str, Any]) -> tuple[Any, Any]:
    record = {"status": status, "attempt": str(attempt), "result": json.dumps(result), "snapshot_id": "1-1", **TOLD}
    described = describe("S", Reading(record, b"", []))
    return described["usage"], described["cost"]


@pytest.mark.parametrize("status", ["failed", "cancelled", "running"])
def test_the_usage_of_the_last_attempt_is_told_without_a_done(status: str) -> None:
    assert told(status, 2, {"code": "upstream_cut"}) == (USED, COST)


def test_the_usage_of_an_earlier_attempt_is_not_the_last_ones() -> None:
    assert told("failed", 3, {"code": "upstream_cut"}) == (None, None)


def test_the_usage_of_a_whole_answer_is_told_by_its_end() -> None:
    assert told("done", 2, {"usage": {"output_tokens": 7}, "cost": None}) == ({"output_tokens": 7}, None)
