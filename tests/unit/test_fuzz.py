"""Fuzzing what strangers send: the provider's bytes and the viewer's cursor.

Short in `make test`. The long run is `FUZZ=long pytest tests/unit/test_fuzz.py`: 260,000 inputs.
"""

import json
import os
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.protocol.cursor import MAX_PART, BadCursor, Cursor, parse_cursor
from shared.protocol.read_token import TokenExpired, TokenInvalid, check_token
from shared.protocol.sse import ServerSentEvent, SseError, SseParser
from tests.support.recorded import Recorded, recorded, tell
from worker.providers import adapter
from worker.providers.base import End, Finish, GenerationRequest, ProviderError, Said, Usage
from worker.providers.errors import CODES, read_error

pytestmark = pytest.mark.timeout(1800)

LONG = os.environ.get("FUZZ") == "long"
MAX_BYTES = 2000
formats = pytest.mark.parametrize("name", ["openai", "anthropic", "google"])


def fuzz(long: int) -> settings:
    return settings(
        max_examples=long if LONG else 300,
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
def test_an_event_is_never_larger_than_the_bound(chunks: list[bytes]) -> None:
    events, _ = parse(chunks)
    # A byte that is no UTF-8 becomes a character of three.
    assert all(len(event.data.encode()) <= 3 * MAX_BYTES for event in events)


@formats
@fuzz(30_000)
@given(data=noise)
def test_any_bytes_of_a_provider_are_understood_or_called_an_error(name: str, data: bytes) -> None:
    reader = adapter(name).reader(GenerationRequest("m", []))
    for event in parse([data])[0]:
        code = "provider_garbage"
        try:
            for meaning in reader.read(event):
                assert isinstance(meaning, Said | Finish | Usage | End)
        except ProviderError as error:
            code = error.code
        assert code in {"provider_error_event", "provider_garbage", *CODES.values()}


@fuzz(10_000)
@given(body=st.binary(max_size=200), status=st.sampled_from([None, 200, 400, 500]))
def test_any_body_is_read_as_an_error_or_none(body: bytes, status: int | None) -> None:
    reading = read_error(body, status=status)
    assert reading is not None or status in (None, 200)
    assert reading is None or reading.sentence.encode().decode() == reading.sentence


ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    7,
    2**70,
    float("nan"),
    "",
    "x",
    "7",
    "\ud83d",
    [],
    {},
    ["x"],
    {"a": [None]},
]
KEPT_AS_THEY_ARE = {"index", "type", "thought", "content", "message", "delta", "choices", "candidates"}
"""Fields that say which text this is, or hold it: with another value, another answer is meant."""


@dataclass
class Block:
    """One event of a recorded answer: the text that it holds, and whether it is the format's end mark."""

    head: str
    value: Any
    text: str
    ends: bool

    def raw(self) -> bytes:
        return (self.head + (json.dumps(self.value) if self.value is not None else "") + "\n\n").encode()


@cache
def blocks() -> tuple[tuple[Recorded, tuple[Block, ...]], ...]:
    """The recorded answers that are streams, event by event."""
    found = []
    for one in recorded():
        if one.status != 200 or one.kind == "application/json":
            continue
        events = []
        for block in one.body.decode().split("\n\n"):
            head, mark, data = block.partition("data: ")
            value = json.loads(data) if data.startswith(("{", "[{")) else None
            text = tell(one.wire_format, [f"{block}\n\n".encode()]).transcript.text if value is not None else ""
            ends = data == "[DONE]" or '"message_stop"' in data
            events.append(Block(head + mark if value is not None else block, value, text, ends))
        found.append((one, tuple(events)))
    return tuple(found)


def places(value: Any, text: str) -> Iterator[tuple[Any, Any, bool]]:
    """Containers and keys of what may be of another type, and whether it is the text itself."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        is_text = bool(text) and inner == text and key in ("content", "text", "refusal")
        has_text = bool(text) and text in json.dumps(inner, ensure_ascii=False)
        if is_text or not (has_text or key in KEPT_AS_THEY_ARE):
            yield value, key, is_text
        yield from places(inner, text)


def mutated(events: list[Block], kind: str, one: int, two: int) -> None:
    """Change a list of events in place, so that each one's ``text`` still says what it holds."""
    at, other = one % len(events), two % len(events)
    if kind == "drop":
        del events[at]
    elif kind == "double":
        events.insert(at, events[at])
    elif kind == "swap":
        events[at], events[other] = events[other], events[at]
    elif kind == "move":
        events.insert(other, events.pop(at))
    else:
        event = events[at] = deepcopy(events[at])
        found = list(places(event.value, event.text))
        texts = [place for place in found if place[2]]
        found = texts if texts and one % 2 else found
        if found:
            container, key, is_text = found[two % len(found)]
            text = container[key]
            wrapped = [[text], {"text": text}, [{"type": "text", "text": text}]]
            container[key] = wrapped[two % 3] if is_text else ODD[(one + two) % len(ODD)]


def holds(text: str, part: str) -> bool:
    """Whether all characters of a part stand in a text, in their order."""
    rest = iter(text)
    return all(character in rest for character in part)


mutations = st.tuples(
    st.sampled_from(["drop", "double", "swap", "move", *["retype"] * 4]),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)


@fuzz(40_000)
@given(st.integers(0, 10**6), st.lists(mutations, max_size=5), st.lists(st.integers(0, 10**6), max_size=6))
def test_the_text_of_a_recorded_answer_is_lost_by_failures_alone(
    which: int, changes: list[tuple[str, int, int]], places: list[int]
) -> None:
    one, known = blocks()[which % len(blocks())]
    events = list(known)
    for kind, first, second in changes:
        if events:
            mutated(events, kind, first, second)
    told = tell(one.wire_format, cut(b"".join(event.raw() for event in events), places))
    ends = next((n for n, event in enumerate(events) if event.ends), len(events))
    said = "".join(event.text for event in events[:ends])
    assert told.error is not None or holds(told.transcript.text, said)
    ids = [call["id"] for call in told.transcript.tool_calls]
    assert told.error is not None or len(set(ids) - {None}) == len(ids)


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
def test_a_text_that_was_not_signed_is_no_token(token: str) -> None:
    try:
        check_token(b"secret", "A" * 24, 1, token, 0)
    except (TokenInvalid, TokenExpired):
        return
    raise AssertionError(token)
