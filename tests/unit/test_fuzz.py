"""Fuzzing what strangers send: the provider's bytes and the viewer's cursor.

Short in `make test`. The long run is `FUZZ=long pytest tests/unit/test_fuzz.py`: 260,000 inputs.
"""

import os
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.ids import MAX_PART, BadCursor, Cursor, parse_cursor
from shared.sse import ServerSentEvent, SseError, SseParser
from shared.tokens import TokenExpired, TokenInvalid, check_token
from worker.providers import adapter
from worker.providers.base import End, Finish, GenerationRequest, ProviderError, Said, Usage
from worker.providers.errors import CODES

pytestmark = pytest.mark.timeout(1800)

LONG = os.environ.get("FUZZ") == "long"
MAX_BYTES = 2000
formats = pytest.mark.parametrize("name", ["openai", "anthropic", "google"])


def fuzz(long: int) -> settings:
    return settings(
        max_examples=long if LONG else 300,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=False,
        database=None,
    )


words = st.sampled_from(
    [
        *(b"data: |data:|event: |id:|retry: |:|\n|\r\n|\r|\n\n|: ".split(b"|")),
        *b'{|}|[|]|"|,|null|0|-1|1e999|[DONE]|\xef\xbb\xbf|\xff|\xe6'.split(b"|"),
        b'{"choices":[{"delta":{"content":"',
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":',
        b'"}}]}',
        b'"finish_reason":"stop"',
        b'{"error":',
        b'"usage":{"prompt_tokens":',
        b'{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"',
        b'{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","input":',
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":',
        b'{"type":"error","error":{"type":"overloaded_error"',
        b'{"candidates":[{"content":{"parts":[{"text":"',
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"args":',
        b'"finishReason":"STOP"',
        b'"usageMetadata":{"promptTokenCount":',
        b"event: error",
        "data: 流れ🌊".encode(),
    ]
)
noise = st.lists(st.one_of(words, words, st.binary(max_size=12)), max_size=16).map(b"".join)


def parse(chunks: list[bytes]) -> tuple[list[ServerSentEvent], bool]:
    """All events, and whether the bound was met."""
    parser = SseParser(MAX_BYTES)
    events: list[ServerSentEvent] = []
    try:
        for chunk in chunks:
            events += parser.feed(chunk)
        last = parser.finish()
    except SseError:
        return events, True
    return [*events, *([last] if last else [])], False


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@fuzz(30_000)
@given(noise, st.lists(st.integers(0, 400), max_size=6))
def test_bytes_give_the_same_events_however_they_are_cut(data: bytes, places: list[int]) -> None:
    assert parse(cut(data, places)) == parse([data])


@fuzz(5_000)
@given(st.lists(st.binary(min_size=1, max_size=MAX_BYTES), max_size=8))
def test_no_event_is_larger_than_the_bound(chunks: list[bytes]) -> None:
    events, _ = parse(chunks)
    # A byte that is no UTF-8 becomes a character of three.
    assert all(len(event.data.encode()) <= 3 * MAX_BYTES for event in events)


@formats
@fuzz(30_000)
@given(data=noise)
def test_whatever_a_provider_sends_is_understood_or_called_an_error(name: str, data: bytes) -> None:
    reader = adapter(name).reader(GenerationRequest("m", []))
    for event in parse([data])[0]:
        code = "provider_garbage"
        try:
            for meaning in reader.read(event):
                assert isinstance(meaning, Said | Finish | Usage | End)
        except ProviderError as error:
            code = error.code
        assert code in {"provider_error_event", "provider_garbage", *CODES.values()}


@formats
@fuzz(10_000)
@given(body=st.binary(max_size=200))
def test_any_refusal_gives_a_sentence_or_none(name: str, body: bytes) -> None:
    assert isinstance(adapter(name).refusal(body).sentence, str)


numbers = st.one_of(st.integers(-5, 2**70).map(str), st.text("0123456789", max_size=24))
cursors = st.one_of(
    st.text(max_size=30),
    st.tuples(numbers, st.sampled_from(["-", "--", "", " ", "-\n", "–"]), numbers).map("".join),
    st.tuples(st.integers(0, MAX_PART), st.integers(0, MAX_PART)).map(lambda pair: f"{pair[0]}-{pair[1]}"),
)


@fuzz(100_000)
@given(cursors)
def test_a_text_is_the_cursor_that_it_says_or_refused(text: str) -> None:
    try:
        cursor = parse_cursor(text)
    except BadCursor:
        return
    assert (cursor is None) == (text == "")
    if cursor is not None:
        assert isinstance(cursor, Cursor)
        assert str(cursor) == text
        assert max(cursor) <= MAX_PART


@fuzz(5_000)
@given(st.one_of(st.text(max_size=60), st.from_regex(r"[0-9]{1,16}\.[A-Za-z0-9_-]{30,33}", fullmatch=True)))
def test_no_text_that_was_not_signed_is_a_token(token: str) -> None:
    try:
        check_token(b"secret", "A" * 24, token, 0)
    except (TokenInvalid, TokenExpired):
        return
    raise AssertionError(token)
