"""Deltas, snapshots and transcripts: adding up never changes what was said."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.events import MESSAGE, RESTART, decode_data, encode_data
from shared.protocol.transcript import MAX_DELTA_BYTES, Transcript, merged, snapshot_lines, split_delta

texts = st.text(min_size=1, max_size=30)
pieces = st.fixed_dictionaries(
    {"index": st.integers(0, 2)},
    optional={"id": texts, "name": texts, "arguments": texts},
)
deltas = st.one_of(
    st.fixed_dictionaries({"text": texts}),
    st.fixed_dictionaries({"reasoning": texts}),
    st.fixed_dictionaries({"tool_call": pieces}),
)


def told(items: list[dict[str, Any]]) -> dict[str, Any]:
    transcript = Transcript()
    for item in items:
        transcript.add(item)
    return transcript.as_data()


@given(st.lists(deltas))
def test_a_snapshot_tells_what_its_deltas_told(items: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(items)
    transcript = Transcript()
    transcript.add_lines(snapshot_lines(items))
    assert transcript.as_data() == told(items)
    assert items == before, "making a snapshot must not change the deltas"


@given(st.lists(deltas), st.lists(deltas))
def test_snapshots_grow_by_appending(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> None:
    transcript = Transcript()
    transcript.add_lines(snapshot_lines(one) + snapshot_lines(two))
    assert transcript.as_data() == told(one + two)


@given(deltas, deltas)
def test_merged_deltas_mean_the_same_as_both_in_turn(one: dict[str, Any], two: dict[str, Any]) -> None:
    before = copy.deepcopy((one, two))
    both = merged(one, two)
    if both is not None:
        assert told([both]) == told([one, two])
    assert (one, two) == before, "merging must not change the deltas"


@given(st.sampled_from(["text", "reasoning"]), st.integers(1, 30_000))
def test_a_split_delta_means_the_same_within_the_bound(kind: str, length: int) -> None:
    delta = {kind: "é" * length}
    split = split_delta(delta)
    assert told(split) == told([delta])
    assert all(len(encode_data(piece)) <= MAX_DELTA_BYTES + 100 for piece in split)


def test_a_split_tool_call_keeps_its_name_once() -> None:
    delta = {"tool_call": {"index": 1, "id": "a", "name": "n", "arguments": "x" * 20_000}}
    split = split_delta(delta)
    assert len(split) > 1
    assert told(split) == told([delta])


def test_a_merge_never_grows_past_the_bound() -> None:
    grown: dict[str, Any] | None = {"text": ""}
    while grown is not None:
        assert len(grown["text"]) * 4 <= MAX_DELTA_BYTES
        grown = merged(grown, {"text": "x" * 100})


def test_the_lines_of_a_snapshot_are_bounded_too() -> None:
    lines = snapshot_lines([{kind: "x" * 100} for kind in ("text", "reasoning") for _ in range(500)]).splitlines()
    assert len(lines) > 2
    assert all(len(line) <= MAX_DELTA_BYTES for line in lines)


def test_a_restart_clears_what_was_said() -> None:
    transcript = Transcript()
    transcript.apply(MESSAGE, b'{"text":"old"}')
    transcript.apply(RESTART, b'{"attempt":2}')
    transcript.apply(MESSAGE, b'{"text":"new"}')
    assert transcript.text == "new"


@given(st.dictionaries(st.text(), st.text()))
def test_data_is_one_line_of_json(data: dict[str, str]) -> None:
    raw = encode_data(data)
    assert b"\n" not in raw
    assert b"\r" not in raw
    assert decode_data(raw) == data


def test_a_part_without_a_word_stands_for_itself_and_in_order() -> None:
    one, two = ({"provider": {"type": "citation", "data": [n]}} for n in (1, 2))
    assert merged(one, two) is None
    assert split_delta({"provider": {"type": "image", "data": "x" * MAX_DELTA_BYTES}})[1:] == []
    lines = snapshot_lines([{"text": "a"}, one, two, {"text": "b"}])
    assert lines.count(b"\n") == 4
    transcript = Transcript()
    transcript.add_lines(lines)
    assert transcript.as_data() == {"text": "ab", "provider_parts": [one["provider"], two["provider"]]}


def test_a_new_id_opens_a_call_whatever_its_index() -> None:
    def piece(**fields: str) -> dict[str, Any]:
        return {"tool_call": {"index": 0, **fields}}

    items = [
        piece(id="a", name="f", arguments="{"),
        piece(arguments="}"),
        piece(id="b", name="g"),
        piece(arguments="[]"),
    ]
    calls = told(items)["tool_calls"]
    assert [(call["id"], call["name"], call["arguments"]) for call in calls] == [("a", "f", "{}"), ("b", "g", "[]")]
    late = told([piece(name="f", arguments="{}"), piece(id="a")])["tool_calls"]
    assert late == [{"index": 0, "id": "a", "name": "f", "arguments": "{}"}], "an id that comes last is its call's"
