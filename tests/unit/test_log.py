"""Appends as they go over the wire, and what their replies mean."""

import hiredis
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from shared.protocol.events import decode_many, encode_data
from shared.redis import Command, by_command, command
from shared.store.log import Log, append_outcome, packed_entry, unpacked

KEY = "h:{é}:log"
entries = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.text(), st.binary())


def read(one: Command) -> list[list[bytes]]:
    reader = hiredis.Reader()
    reader.feed(one.packed)
    return [reader.gets() for _ in range(one.replies)]


@given(st.lists(entries, min_size=1), st.integers(1, 100_000))
def test_an_append_says_what_each_of_its_adds_says(many: list[tuple[int, int, str, bytes]], cap: int) -> None:
    one = Log(KEY, cap).append([packed_entry(*entry) for entry in many])
    assert one.key == KEY
    adds = read(one)
    if len(many) > 1:
        assert (adds.pop(0), adds.pop()) == ([b"MULTI"], [b"EXEC"])
    head = ["XADD", KEY, "NOMKSTREAM", "MAXLEN", "~", cap]
    wanted = [command(KEY, *head, f"{epoch}-{n}", "e", kind, "d", data) for epoch, n, kind, data in many]
    assert adds == [read(add)[0] for add in wanted]


kinds = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1)
deltas = st.dictionaries(st.text(), st.text())


@given(st.lists(st.tuples(kinds, deltas)))
def test_packed_entries_are_read_as_what_they_say(many: list[tuple[str, dict[str, str]]]) -> None:
    packed = [packed_entry(5, n, kind, encode_data(data)) for n, (kind, data) in enumerate(many)]
    read = [unpacked(entry) for entry in packed]
    assert [kind for kind, _ in read] == [kind for kind, _ in many]
    assert decode_many([data for _, data in read]) == [data for _, data in many]


def test_an_append_is_written_or_refused_as_a_whole() -> None:
    refusal, late = ResponseError("OOM"), ResponseError("EXECABORT")
    assert append_outcome(b"5-1") is True
    assert append_outcome([b"OK", b"QUEUED", b"QUEUED", [b"5-1", b"5-2"]]) is True
    assert append_outcome(None) is None
    assert append_outcome([b"OK", b"QUEUED", b"QUEUED", [None, None]]) is None
    assert append_outcome(refusal) is refusal
    assert append_outcome([b"OK", refusal, b"QUEUED", late]) is refusal
    assert append_outcome([b"OK", b"QUEUED", b"QUEUED", [b"5-1", refusal]]) is refusal


def test_replies_come_one_a_command_and_as_a_list_for_a_transaction() -> None:
    plain, several = command("k", "PING"), Command("k", b"", 3)
    assert by_command([plain, plain], [1, 2]) == [1, 2]
    assert by_command([plain, several, plain], [1, 2, 3, 4, 5]) == [1, [2, 3, 4], 5]
