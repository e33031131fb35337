"""The row of parts: wherever a log is cut, resumed or trimmed, ids, parts and numbers are the same."""

import tracemalloc
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dialects.base import About
from api.dialects.parts import Part, PartsDialect
from api.viewing.viewer import resync
from shared.protocol.cursor import Cursor
from shared.protocol.events import decode_many, encode_data
from shared.protocol.transcript import snapshot_lines, without
from shared.store.log import Entry
from tests.support.made_logs import ATTEMPTS, DELTAS, log_of, named, trimmed


class Spelled(PartsDialect):
    """Each event as a line: number, what it is, which part, and its text."""

    name = "spelled"
    OPENS: ClassVar = {"text": 2, "reasoning": 1, "tool": 1}
    CLOSES: ClassVar = {"text": 1, "reasoning": 1, "tool": 0}

    def _line(self, number: int, word: str, part: Part | None = None, text: str = "") -> bytes:
        return f"{number} {word} {'' if part is None else part.number} {text}\n".encode()

    def begin(self, cursor: bytes) -> bytes:
        return self._line(self.index, "begin")

    def again(self) -> bytes:
        return b"again\n"

    def open(self, part: Part) -> bytes:
        first = self.index + part.extras - self.OPENS[part.kind]
        return b"".join(
            self._line(first + more, "open", part, f"{part.call_id} {part.name}")
            for more in range(self.OPENS[part.kind])
        )

    def delta(self, cursor: bytes, part: Part, raw: bytes) -> bytes:
        return self._line(self.index + self.extras, part.kind, part, raw.decode())

    def close(self, part: Part) -> bytes:
        return self._line(self.index + self.extras, "close", part, part.raw().decode())

    def nothing(self, cursor: bytes) -> bytes:
        return self._line(self.index + self.extras, "nothing")

    def done(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        said = [self._line(self.index + self.extras, "done")]
        return b"".join(said + [self._line(0, "whole", part, part.raw().decode()) for part in self.parts])

    def failed(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        return self._line(self.index + self.extras, "failed", None, data["code"])

    def cancelled(self, cursor: bytes, data: Mapping[str, Any]) -> bytes:
        return self._line(self.index + self.extras, "cancelled")


def spelled(text_index: int = 0) -> Spelled:
    return Spelled(About("s", "m", 1000, text_index))


def lines(raw: bytes) -> list[str]:
    return raw.decode().split("\n")[:-1]


@given(ATTEMPTS)
def test_each_event_has_the_next_number(attempts: list[list[Any]]) -> None:
    said = lines(spelled().batch(log_of(attempts)))
    numbers = [int(line.split()[0]) for line in said if " whole " not in line]
    assert numbers == list(range(len(numbers)))


@given(ATTEMPTS)
def test_a_viewer_that_begins_late_or_comes_back_gets_the_rest_as_it_was(attempts: list[list[Any]]) -> None:
    entries = log_of(attempts)
    whole = spelled()
    said = [whole.entry(entry.cursor.encode(), entry.type, entry.data) for entry in entries]
    late = spelled(1)
    assert late.greeting() + late.batch(entries[1:]) == b"".join(said)
    behind_queued = late.at(entries[0].cursor)
    assert behind_queued is not None
    assert behind_queued.batch(entries[1:]) == b"".join(said[1:])
    for place, entry in enumerate(entries):
        twin = whole.at(entry.cursor)
        assert twin is not None
        assert twin.batch(entries[place + 1 :]) == b"".join(said[place + 1 :])
        assert twin.greeting() == b"again\n"
    assert whole.at(Cursor(9999, 0)) is None
    assert whole.at(Cursor(1, 0)) is None


@given(ATTEMPTS, st.data())
def test_a_trimmed_log_says_the_same_behind_what_is_left_of_it(
    attempts: list[list[Any]], data: st.DataObject
) -> None:
    entries = log_of(attempts)
    whole = spelled()
    said = [whole.entry(entry.cursor.encode(), entry.type, entry.data) for entry in entries]
    # The snapshot tells everything up to one entry behind the opening; the log lost some of what that tells.
    as_of = data.draw(st.integers(1, len(entries) - 2))
    first = data.draw(st.integers(1, as_of))
    reading = trimmed(entries, as_of)
    assert reading.index == as_of
    found = resync(spelled(1), reading, entries[first : as_of + 1])
    behind = lines(found.head) + lines(b"".join(said[as_of + 1 :]))
    numbers = [int(line.split()[0]) for line in behind if " whole " not in line]
    assert numbers == list(range(len(numbers)))
    # Behind the merged part every line is the very same, and so is every part.
    rest = lines(b"".join(said[first:]))
    assert not rest or behind[-len(rest) :] == rest
    for place in range(first, len(entries)):
        twin = found.dialect.at(entries[place].cursor)
        assert twin is not None
        assert twin.batch(entries[place + 1 :]) == b"".join(said[place + 1 :])


def test_a_second_beginning_behind_shown_parts_is_an_error_and_the_end() -> None:
    dialect = spelled()
    entries = log_of([[{"reasoning": "hm"}]])[:-1]
    dialect.batch(entries)
    again = dialect.batch(
        [Entry(Cursor(500, 0), "started", b"{}"), Entry(Cursor(500, 1), "message", b'{"text":"x"}')]
    )
    assert lines(again) == ["4 failed  restarted"]


@given(st.lists(DELTAS, max_size=20), st.integers(0, 20))
def test_what_stands_in_front_of_a_tail_is_what_a_snapshot_of_it_would_tell(said: list[dict], at: int) -> None:
    said = named(said, set())
    front, tail = said[:at], said[at:]
    assert snapshot_lines(without(decode_many(snapshot_lines(said).splitlines()), tail)) == snapshot_lines(front)


def test_a_tail_that_is_not_the_end_is_told() -> None:
    with pytest.raises(ValueError, match="does not end"):
        without([{"text": "ab"}], [{"text": "c"}])


def test_viewers_that_come_back_share_what_was_said() -> None:
    """An answer may have 50,000 parts: a twin of its own of each took a second and 23 MB for every viewer."""
    whole = spelled()
    said = [{"reasoning": "r"}, {"text": "t"}] * 500 + [{"text": "u"}] * 500
    entries = log_of([said])[:-1]
    whole.batch(entries)
    tracemalloc.start()
    try:
        twins = [whole.at(entry.cursor) for entry in entries[1100:1200]]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / len(twins) < 20_000
    for place, twin in enumerate(twins, 1101):
        assert twin is not None
        twin.batch(entries[place:])
        assert [part.raw() for part in twin.parts] == [part.raw() for part in whole.parts]


def test_a_twin_that_is_given_something_else_changes_nothing_for_others() -> None:
    whole = spelled()
    whole.batch(log_of([[{"text": "one"}, {"text": "two"}, {"text": "three"}]])[:-1])
    twin = whole.at(Cursor(2000, 1))
    assert twin is not None
    twin.entry(b"2000-2", "message", encode_data({"text": "other"}))
    twin.entry(b"2000-3", "message", encode_data({"text": "three"}))
    assert [part.raw() for part in twin.parts] == [b'"oneotherthree"']
    assert [part.raw() for part in whole.parts] == [b'"onetwothree"']
