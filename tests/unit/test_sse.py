"""The SSE encoder and parser, against each other, against httpx-sse, and against the standard's examples."""

import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.protocol.sse import (
    COMMENT,
    LOOSE,
    MOST_SKIPPED,
    OMITTED,
    ServerSentEvent,
    SseError,
    SseParser,
    encode_comment,
    encode_event,
    encode_retry,
)

# What a UTF-8 text may hold: everything but surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]))
lines = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))
event_types = lines.filter(lambda name: not name.startswith(" ") and name != "")
cursors = st.one_of(st.none(), st.from_regex(r"\A[0-9]{1,20}-[0-9]{1,20}\Z").map(str.encode))
events = st.tuples(st.one_of(st.just("message"), event_types), texts, cursors)


# No deadline: a shared machine may stall any single example.
examples = settings(deadline=None, max_examples=40)


def parse(raw: bytes, cuts: list[int] | None = None) -> list[ServerSentEvent]:
    """All events of a whole stream that arrives in reads, cut at these offsets."""
    parser = SseParser()
    bounds = [0, *sorted(cut % (len(raw) + 1) for cut in cuts or []), len(raw)]
    found = [e for a, b in pairwise(bounds) for e in parser.feed(raw[a:b])]
    last = parser.finish()
    return [*found, last] if last else found


def feed_all(parser: SseParser, reads: Iterable[bytes]) -> list[ServerSentEvent]:
    return [event for read in reads for event in parser.feed(read)]


def as_sent(wanted: list[tuple[str, str, bytes | None]]) -> list[ServerSentEvent]:
    """What a parser must make of encoded events: line breaks are LF, and the last id stays."""
    seen, result = "", []
    for event, data, cursor in wanted:
        seen = seen if cursor is None else cursor.decode()
        result.append(ServerSentEvent(event, re.sub("\r\n|\r", "\n", data), seen))
    return result


@examples
@given(st.lists(events, max_size=5), st.lists(st.integers(0, 10_000), max_size=12))
def test_an_encoded_event_is_parsed_again_wherever_the_reads_are_cut(
    wanted: list[tuple[str, str, bytes | None]], cuts: list[int]
) -> None:
    raw = b"".join(encode_event(event, data.encode(), cursor) for event, data, cursor in wanted)
    assert parse(raw, cuts) == as_sent(wanted)


@examples
@given(st.lists(events, max_size=5))
def test_comments_and_retry_between_events_make_no_event(wanted: list[tuple[str, str, bytes | None]]) -> None:
    between = COMMENT + encode_comment("still\nhere") + encode_retry(1500)
    raw = between + b"".join(encode_event(e, data.encode(), c) + between for e, data, c in wanted)
    assert parse(raw) == as_sent(wanted)


@examples
@given(
    st.lists(
        st.sampled_from([b"data", b"event", b"id", b":", b" ", b"\n", b"\r", b"x", "é🌊".encode(), b"retry"]),
        max_size=60,
    ).map(b"".join),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_any_bytes_give_the_same_events_wherever_the_reads_are_cut(raw: bytes, cuts: list[int]) -> None:
    assert parse(raw, cuts) == parse(raw)


@examples
@given(st.lists(events, max_size=5))
def test_httpx_sse_reads_what_the_encoder_writes(wanted: list[tuple[str, str, bytes | None]]) -> None:
    raw = b"".join(encode_event(event, data.encode(), cursor) for event, data, cursor in wanted)
    lines_, decoder = SSELineDecoder(), SSEDecoder()
    decoded = [decoder.decode(line) for line in [*lines_.decode(raw.decode()), *lines_.flush()]]
    # httpx-sse drops an event that has neither a name nor data nor an id; all else must agree.
    theirs = [ServerSentEvent(s.event, s.data, s.id) for s in decoded if s is not None]
    assert [e for e in theirs if e.data] == [e for e in as_sent(wanted) if e.data]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
def test_every_line_end_of_the_standard_ends_a_line(end: bytes) -> None:
    raw = end.join([b"id: 7", b"event: add", b"data: a", b"data: b", b"", b"data: c", b"", b""])
    assert parse(raw) == [ServerSentEvent("add", "a\nb", "7"), ServerSentEvent("message", "c", "7")]
    for cut in range(len(raw)):
        assert parse(raw, [cut]) == parse(raw)


# WHATWG HTML, 9.2.6 "Interpreting an event stream": the examples, in their order.
def test_the_standards_stock_example_is_one_event_of_three_lines() -> None:
    raw = b"data: YHOO\ndata: +2\ndata: 10\n\n"
    assert parse(raw) == [ServerSentEvent("message", "YHOO\n+2\n10", "")]


def test_the_standards_example_of_four_blocks_keeps_and_resets_the_id() -> None:
    raw = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
    assert parse(raw) == [
        ServerSentEvent("message", "first event", "1"),
        ServerSentEvent("message", "second event", ""),
        ServerSentEvent("message", " third event", ""),
    ]


def test_the_standards_example_of_empty_data_gives_two_events_and_the_unfinished_one_at_the_end() -> None:
    parser = SseParser()
    found = list(parser.feed(b"data\n\ndata\ndata\n\ndata:"))
    assert found == [ServerSentEvent("message", "", ""), ServerSentEvent("message", "\n", "")]
    # A browser drops the third; a provider that forgot the blank line meant it.
    assert parser.finish() == ServerSentEvent("message", "", "")


def test_the_standards_example_of_a_space_after_the_colon_gives_equal_events() -> None:
    first, second = parse(b"data:test\n\ndata: test\n\n")
    assert first == second


def test_a_byte_order_mark_is_dropped_once_and_only_at_the_start() -> None:
    bom = b"\xef\xbb\xbf"
    assert parse(bom + b"data: a\n\n", [1]) == [ServerSentEvent("message", "a", "")]
    assert parse(b"data: a\n" + bom + b"data: b\n\n") == [ServerSentEvent("message", "a", "")]


def test_a_last_event_without_its_blank_line_or_line_end_is_not_lost() -> None:
    assert parse(b"data: a\n\ndata: b\n")[-1].data == "b"
    assert parse(b"data: a\n\ndata: b")[-1].data == "b"


def test_an_event_name_without_data_is_no_event_and_names_no_later_one() -> None:
    assert parse(b"event: lost\n\ndata: a\n\n") == [ServerSentEvent("message", "a", "")]


def test_an_id_with_a_nul_and_a_retry_that_is_no_number_are_ignored() -> None:
    parser = SseParser()
    found = list(parser.feed(b"id: 1\nid: a\0b\nretry: soon\nretry: 250\nretry: 1e9\nunknown: x\ndata: a\n\n"))
    assert found == [ServerSentEvent("message", "a", "1")]
    assert parser.retry_ms == 250


def test_a_separator_that_only_unicode_knows_ends_no_line() -> None:
    data = "a\u2028b\u0085c\x0bd\x0ce\x1cf"
    assert parse(encode_event("message", data.encode(), None))[0].data == data


def test_a_broken_utf_8_sequence_becomes_a_replacement_and_not_an_exception() -> None:
    assert parse(b"data: \xff\xfe\n\n")[0].data == "\ufffd\ufffd"


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data: " + b"x" * 994 + b"\n"], ids=["line", "event"])
def test_an_endless_line_or_event_is_an_error_and_not_memory(piece: bytes) -> None:
    parser = SseParser(max_bytes=10_000)
    assert feed_all(parser, [piece] * 9) == []
    with pytest.raises(SseError):
        feed_all(parser, [piece] * 3)


@pytest.mark.parametrize("line", [b"data\n", b"data:\n", b"data: \n"])
def test_endless_empty_data_lines_are_bounded_too(line: bytes) -> None:
    parser = SseParser(max_bytes=1000)
    with pytest.raises(SseError):
        feed_all(parser, [line] * 3000)


def test_the_bound_is_for_one_event_and_not_for_the_stream() -> None:
    parser = SseParser(max_bytes=100)
    for _ in range(50):
        assert len(list(parser.feed(b"data: " + b"x" * 60 + b"\n\n"))) == 1


@pytest.mark.timeout(20)  # a parser that copies the line at every read takes minutes
def test_an_endless_line_that_comes_in_tiny_reads_is_taken_in_linear_time() -> None:
    parser = SseParser()
    assert feed_all(parser, [b"x"] * 200_000) == []


def liberal(*reads: bytes, max_bytes: int = 1000) -> list[tuple[str, str]]:
    parser = SseParser(max_bytes, liberal=True)
    events = feed_all(parser, reads)
    return [(event.event, event.data) for event in events]


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b'data: a\n\n{"x": 1}\n\ndata: b\n\n', [("message", "a"), (LOOSE, '{"x": 1}'), ("message", "b")]),
        (b'{"x":\n 1}\ndata: b\n\n', [(LOOSE, '{"x":\n 1}'), ("message", "b")]),
        (b'[{"x": 1}]\n\n', [(LOOSE, '[{"x": 1}]')]),
        (b'error: {"x": 1}\n\n', [("error", '{"x": 1}')]),
        (b"<p>no</p>\nfoo: bar\n: {\n\n", []),
        (b"data: " + b"x" * 2000 + b"\n\ndata: b\n\n", [(OMITTED, ""), ("message", "b")]),
        (b"event: e\n" + b"data: xxxx\n" * 400 + b"\ndata: b\n\n", [(OMITTED, ""), ("message", "b")]),
    ],
)
def test_a_liberal_parser_tells_what_stands_outside_of_fields_and_skips_what_is_too_large(
    raw: bytes, events: list[tuple[str, str]]
) -> None:
    for line_end in (b"\n", b"\r\n"):
        ended = raw.replace(b"\n", line_end)
        for size in (1, 7, len(ended)):
            reads = [ended[at : at + size] for at in range(0, len(ended), size)]
            found = [(kind, data.replace("\r\n", "\n")) for kind, data in liberal(*reads)]
            assert found == events, size
    assert OMITTED not in dict(liberal(raw, max_bytes=10_000))


def test_a_liberal_parser_skips_within_a_bound() -> None:
    parser = SseParser(1000, liberal=True)
    with pytest.raises(SseError):
        feed_all(parser, [b"data: " + b"x" * 900] * (MOST_SKIPPED + 5))
