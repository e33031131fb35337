"""What has no word in the vocabulary is kept within a bound."""

import pytest

from shared.protocol.events import Delta, encode_data
from shared.protocol.json_depth import MAX_DEPTH
from worker.providers.formats.reader import MAX_KEPT_BYTES, Others, Pieces


def kept(others: Others, *pieces: object) -> list[Delta]:
    return [said.delta for piece in pieces for said in others.keep("kind", piece)]


def test_an_answers_share_is_bounded_and_its_end_is_said_once() -> None:
    pieces = kept(Others(), *["x" * 1000] * 5000)
    assert pieces[-1] == {"provider": {"type": "omitted", "data": "kind"}}
    assert all(piece["provider"]["type"] == "kind" for piece in pieces[:-1])
    assert MAX_KEPT_BYTES - 2000 < sum(len(encode_data(piece)) for piece in pieces[:-1]) <= MAX_KEPT_BYTES


def test_many_small_pieces_are_bounded_too() -> None:
    assert len(kept(Others(), *range(100_000))) < MAX_KEPT_BYTES // 30


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize("piece", [nested(MAX_DEPTH + 1), {"a": nested(900)}])
def test_a_value_that_nests_too_deep_is_left_out_and_the_answer_lives(piece: object) -> None:
    assert kept(Others(), piece, 1) == [
        {"provider": {"type": "omitted", "data": "kind"}},
        {"provider": {"type": "kind", "data": 1}},
    ]


def test_half_of_a_pair_is_put_right() -> None:
    assert kept(Others(), {"a\ud800": ["\udc00"]}) == [
        {"provider": {"type": "kind", "data": {"a\ufffd": ["\ufffd"]}}}
    ]


def test_a_value_that_nests_as_deep_as_it_may_is_kept() -> None:
    assert kept(Others(), nested(MAX_DEPTH)) == [{"provider": {"type": "kind", "data": nested(MAX_DEPTH)}}]


def test_a_text_in_pieces_is_whole_or_nothing() -> None:
    pieces = Pieces("a")
    pieces.add("b")
    assert pieces.text() == "ab"
    pieces.add("x" * MAX_KEPT_BYTES)
    pieces.add("c")
    assert (pieces.text(), bool(pieces)) == (None, False), "and it keeps no memory"
