"""What an OpenAI-like provider gets wrong: whatever JSON comes, it is an event or a provider error."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.sse import ServerSentEvent
from worker.providers import adapter
from worker.providers.base import (
    GenerationRequest,
    ProviderError,
    ProviderEvent,
    Said,
)

openai = adapter("openai")
examples = settings(deadline=None, max_examples=80)


def read(data: Any, event: str = "message") -> list[ProviderEvent]:
    text = data if isinstance(data, str) else json.dumps(data)
    return list(openai.reader(GenerationRequest("m", [])).read(ServerSentEvent(event, text, "")))


def refused(data: Any, event: str = "message") -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        read(data, event)
    return caught.value


@pytest.mark.parametrize(
    ("data", "event", "words"),
    [
        ({"error": {"message": "overloaded", "code": 529}}, "message", "overloaded"),
        ({"error": "overloaded"}, "message", "overloaded"),
        ({"choices": [], "error": {"code": 1}}, "message", "error"),
        ({"message": "overloaded"}, "error", "overloaded"),
        ("overloaded", "error", "overloaded"),
        ("", "error", "error"),
    ],
)
def test_an_error_in_the_stream_is_an_error_with_its_words(data: Any, event: str, words: str) -> None:
    error = refused(data, event)
    assert (error.code, error.retryable, error.refusal) == ("provider_error_event", True, False)
    assert words in str(error)


@pytest.mark.parametrize(
    "data",
    [
        '{"choices": [{"del',
        "[]",
        "1",
        "null",
        '"text"',
        "garbage",
        {"choices": {}},
        {"choices": [None]},
        {"choices": [{"delta": []}]},
        {"choices": [{"delta": {"content": 1}}]},
        {"choices": [{"delta": {"content": ["a"]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": "0"}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": -1}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"arguments": {}}}]}}]},
        {"choices": [{"finish_reason": 1}]},
        {"usage": {"prompt_tokens": "9"}},
        {"usage": {"prompt_tokens": 10**30}},
        '{"choices": [{"delta": {"content": "\\ud83d"}}]}',
        "[" * 100_000,
        '{"x": ' * 100_000,
    ],
)
def test_garbage_is_called_garbage(data: Any) -> None:
    error = refused(data)
    assert (error.code, error.retryable, error.refusal) == ("provider_garbage", True, False)


FIELDS = """choices delta content reasoning refusal tool_calls function_call function name arguments index id
error message usage prompt_tokens prompt_tokens_details cached_tokens finish_reason detail"""
fields = st.sampled_from(FIELDS.split())
jsons = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), fields),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(fields, inner, max_size=4)),
    max_leaves=12,
)


@examples
@given(st.one_of(jsons.map(json.dumps), st.text()), st.sampled_from(["message", "error", "ping"]))
def test_whatever_comes_is_an_event_or_a_provider_error(data: str, event: str) -> None:
    try:
        for meaning in read(data, event):
            if isinstance(meaning, Said):
                ((kind, value),) = meaning.delta.items()
                assert value
                assert isinstance(value, dict if kind in ("tool_call", "provider") else str)
        code = ""
    except ProviderError as error:
        code = error.code
    assert code in {"", "provider_error_event", "provider_garbage"}


def chunk_with(value: Any) -> list[Any]:
    """Valid chunks in which one place holds anything at all."""
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    return [
        {"choices": value},
        {"choices": [value]},
        {"choices": [{"delta": value}]},
        {"choices": [{"delta": {"content": "a"}, "finish_reason": value}]},
        *({"choices": [{"delta": {"tool_calls": [{**call, key: value}]}}]} for key in call),
        *({"choices": [{"delta": {key: value}}]} for key in ("content", "reasoning", "tool_calls")),
        {"usage": value},
        {"usage": {"prompt_tokens": 1, "prompt_tokens_details": value}},
        {"error": value},
    ]


@examples
@given(jsons)
def test_any_value_at_any_place_of_a_chunk_is_an_event_or_a_provider_error(value: Any) -> None:
    for chunk in chunk_with(value):
        with suppress(ProviderError):
            read(chunk)


@examples
@given(st.one_of(jsons.map(json.dumps).map(str.encode), st.binary()), st.sampled_from([200, 400, 500]))
def test_any_error_body_gives_a_sentence_or_none(body: bytes, status: int) -> None:
    assert isinstance(openai.refusal(body).sentence, str)
