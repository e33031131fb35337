"""Cursors, stream ids, and what follows what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.cursor import (
    MAX_PART,
    BadCursor,
    Cursor,
    entry_cursor,
    follows,
    idempotent_stream_id,
    is_stream_id,
    new_stream_id,
    parse_cursor,
)

parts = st.integers(0, MAX_PART)
cursors = st.builds(Cursor, parts, parts)


@given(cursors)
def test_a_cursor_survives_its_text(cursor: Cursor) -> None:
    assert parse_cursor(str(cursor)) == cursor
    assert entry_cursor(cursor.encode()) == cursor


@given(st.text(max_size=60))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        cursor = parse_cursor(text)
    except BadCursor:
        return
    assert cursor is None or str(cursor) == text


@pytest.mark.parametrize(
    "text",
    ["-1", "x", "1", "1-", "-1-1", "1-1-1", "01-1", "1-01", "+1-1", "1 -1", "٣-٣", f"{2**64}-0", f"0-{2**64}"],
)
def test_a_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(BadCursor):
        parse_cursor(text)


@given(cursors, cursors)
def test_cursors_are_ordered_as_redis_orders_entry_ids(one: Cursor, two: Cursor) -> None:
    assert (one < two) == ((one.epoch, one.n) < (two.epoch, two.n))


@given(cursors, cursors, st.none() | cursors)
def test_only_the_next_number_or_a_named_predecessor_follows(
    before: Cursor, entry: Cursor, after: Cursor | None
) -> None:
    same = entry.epoch == before.epoch and entry.n == before.n + 1
    opened = entry.epoch != before.epoch and entry.n == 0 and after == before
    assert follows(before, entry, after) == (same or opened)


def test_a_missing_number_is_a_gap() -> None:
    assert follows(Cursor(5, 3), Cursor(5, 4), None)
    assert not follows(Cursor(5, 3), Cursor(5, 5), None)
    assert follows(Cursor(5, 3), Cursor(6, 0), Cursor(5, 3))
    assert not follows(Cursor(5, 3), Cursor(6, 0), Cursor(5, 4))
    assert follows(None, Cursor(6, 9), None)


def test_stream_ids_are_unguessable_and_have_one_shape() -> None:
    made = {new_stream_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(is_stream_id(item) for item in made)


@given(st.binary(min_size=1), st.text(), st.text(min_size=1))
def test_a_key_always_leads_to_the_same_id(secret: bytes, owner: str, key: str) -> None:
    made = idempotent_stream_id(secret, owner, key)
    assert is_stream_id(made)
    assert made == idempotent_stream_id(secret, owner, key)
    assert made != idempotent_stream_id(secret + b"x", owner, key)


def test_owner_and_key_do_not_run_into_each_other() -> None:
    assert idempotent_stream_id(b"s", "ab", "c") != idempotent_stream_id(b"s", "a", "bc")
    assert idempotent_stream_id(b"s", "1:a", "b") != idempotent_stream_id(b"s", "1", "a:b")
