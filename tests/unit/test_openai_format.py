"""OpenAI's chat completions, and the dialects of it that others speak: what only this format has.

What it has in common with the other two stands in ``test_wire_format_contract.py``.
"""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.config.providers import Quirks
from shared.protocol.sse import ServerSentEvent
from tests.support.wire_formats import ODD_TEXTS, OPENAI, sse
from worker.providers import adapter
from worker.providers.base import (
    End,
    Finish,
    GenerationRequest,
    ProviderError,
    ProviderEvent,
    Said,
    Usage,
)
from worker.providers.errors import CODES, read_error

openai = adapter("openai")
examples = settings(max_examples=80)


def read(data: Any, event: str = "message") -> list[ProviderEvent]:
    text = data if isinstance(data, str) else json.dumps(data)
    return list(openai.reader(GenerationRequest("m", [])).read(ServerSentEvent(event, text, "")))


told = OPENAI.told
"""What chunks add up to, as a record tells it."""


def read_delta(**delta: Any) -> list[ProviderEvent]:
    return read({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


@pytest.mark.parametrize("nothing", ["", None])
def test_empty_deltas_and_reasons_mean_nothing(nothing: str | None) -> None:
    delta = {"content": nothing, "reasoning": nothing, "refusal": nothing, "tool_calls": None}
    assert read({"choices": [{"delta": delta, "finish_reason": nothing}], "error": None}) == []
    assert read_delta(tool_calls=[{"index": 0, "id": nothing, "function": {"arguments": nothing}}]) == []
    assert read({"choices": None, "usage": None}) == []
    assert read("") == read("  ") == []


def test_reasoning_has_two_names_and_is_said_once_when_both_come() -> None:
    assert read_delta(reasoning="a") == read_delta(reasoning_content="a") == [Said({"reasoning": "a"})]
    assert read_delta(reasoning="a", reasoning_content="a", content="b") == [
        Said({"reasoning": "a"}),
        Said({"text": "b"}),
    ]


def test_text_that_comes_with_the_finish_reason_is_said_before_it() -> None:
    chunk = {"choices": [{"delta": {"content": "end."}, "finish_reason": "stop"}], "usage": {}}
    assert read(chunk) == [Said({"text": "end."}), Finish("stop"), Usage(None, None)]


def test_a_refusal_in_words_is_text_that_people_see_and_programs_know() -> None:
    marked = Said({"provider": {"type": "refusal", "data": {}}})
    assert read_delta(refusal="I can't.") == [marked, Said({"text": "I can't."})]
    pieces = [{"choices": [{"delta": {"refusal": text}}]} for text in ("I ", "can't.")]
    assert told(*pieces)["provider_parts"] == [{"type": "refusal", "data": {}}]
    assert told(*pieces)["text"] == "I can't."


def test_other_choices_than_the_first_are_left_out() -> None:
    assert read({"choices": [{"index": 1, "delta": {"content": "b"}}]}) == []


def test_deepseeks_word_for_cached_tokens_is_known() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 6, "prompt_cache_hit_tokens": 2}
    assert read({"choices": [], "usage": usage}) == [Usage(5, 6, 2, None)]


def test_the_limit_of_an_answer_has_the_name_that_the_provider_knows() -> None:
    newer = Quirks(max_tokens_name="max_completion_tokens")

    def limits(**fields: Any) -> dict[str, Any]:
        body = openai.call(GenerationRequest("m", [], max_tokens=5, **fields), "").body
        return {name: value for name, value in body.items() if name.startswith("max_")}

    assert limits() == {"max_tokens": 5}
    assert limits(quirks=newer) == {"max_completion_tokens": 5}


def test_a_field_without_a_word_is_kept_under_its_own_name_and_noise_is_not() -> None:
    note = {"type": "url_citation", "url_citation": {"url": "https://example.com"}}
    assert read_delta(content="a", annotations=[note], audio=None) == [
        Said({"text": "a"}),
        Said({"provider": {"type": "annotations", "data": [note]}}),
    ]
    chunk = {
        "choices": [{"delta": {}, "logprobs": {"content": [1]}}],
        "system_fingerprint": "x",
        "obfuscation": "y",
    }
    assert read(chunk) == [Said({"provider": {"type": "logprobs", "data": {"content": [1]}}})]


# -- what others get wrong ------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("content", "text"), ODD_TEXTS)
def test_an_odd_content_of_a_message_is_put_right(content: Any, text: str) -> None:
    assert told({"choices": [{"index": 0, "message": {"content": content}}]}) == {"text": text}


def test_mistrals_parts_are_thinking_text_and_references() -> None:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "Let me see."}]}]
    reference = {"type": "reference", "reference_ids": [1]}
    chunks = [{"choices": [{"delta": {"content": one}}]} for one in (thinking, "Four", [reference, "."])]
    assert told(*chunks) == {
        "text": "Four.",
        "reasoning": "Let me see.",
        "provider_parts": [{"type": "reference", "data": reference}],
    }


def test_a_field_that_is_odd_costs_nothing_else() -> None:
    delta = {"content": "a", "reasoning": ["b", {"text": "c"}], "annotations": "x", "deep": nest(100)}
    chunk = {"choices": [{"index": "0", "delta": delta, "finish_reason": ["x"]}], "usage": -1, "created": None}
    assert told(chunk) == {
        "text": "a",
        "reasoning": "bc",
        "provider_parts": [{"type": "annotations", "data": "x"}, {"type": "omitted", "data": "deep"}],
    }


def nest(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_details_of_a_usage_that_are_odd_cost_no_count() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": [], "total_tokens": {}}
    assert read({"choices": [], "usage": usage}) == [Usage(1, 2)]


def test_usage_is_found_where_gateways_put_it() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    assert read({"choices": [], "x_groq": {"id": "r", "usage": usage}}) == [Usage(1, 2)]
    assert read({"choices": [{"delta": {}, "usage": usage}]}) == [Usage(1, 2)]
    assert read({"choices": [], "usage": {"input_tokens": 1, "output_tokens": 2}}) == [Usage(1, 2)]


@pytest.mark.parametrize(
    "raw", ['{"choices":[{"delta":{"content":"a"},"logprobs":NaN}],"usage":{"cost":Infinity}}']
)
def test_nan_and_infinity_are_read(raw: str) -> None:
    assert told(raw) == {"text": "a"}


def test_two_halves_in_two_pieces_are_one_character_on_each_channel() -> None:
    def chunk(**delta: Any) -> dict[str, Any]:
        return {"choices": [{"delta": delta}]}

    chunks = [
        chunk(reasoning="a\ud83d"),
        chunk(content="b\ud83d"),
        chunk(reasoning="\udc69"),
        chunk(content="\udc69c\ud83d"),
        chunk(content="d"),
        chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a":"\ud83d'}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '\udc69"}'}}]),
    ]
    call = {"index": 0, "id": "c", "name": "f", "arguments": '{"a":"\U0001f469"}'}
    assert told(*chunks) == {"text": "b\U0001f469c\ufffdd", "reasoning": "a\U0001f469", "tool_calls": [call]}


def test_a_half_waits_also_for_a_text_that_is_read_at_once() -> None:
    reader = openai.reader(GenerationRequest("m", []))
    half = json.dumps({"choices": [{"delta": {"content": "\ud83d"}}]})
    assert list(reader.read(ServerSentEvent("message", half, ""))) == []
    rest = json.dumps({"choices": [{"delta": {"content": "\udc69"}}]}).encode()
    plain = b'{"choices":[{"delta":{"content":"a"}}]}'
    assert reader.texts([rest]) is reader.texts([plain]) is None
    assert list(reader.read(ServerSentEvent("message", rest.decode(), ""))) == [Said({"text": "\U0001f469"})]
    assert reader.texts([plain]) == [{"text": "a"}]


def test_events_without_a_blank_line_between_them_are_read_one_by_one() -> None:
    a, b = (json.dumps({"choices": [{"delta": {"content": one}}]}) for one in "ab")
    assert read(f"{a}\n{b}\n[DONE]") == [Said({"text": "a"}), Said({"text": "b"}), End()]


def test_a_failing_end_in_the_chunk_of_a_text_is_an_error_behind_it() -> None:
    meanings = iter(
        openai.reader(GenerationRequest("m", [])).read(
            sse({"choices": [{"delta": {"content": "a"}, "finish_reason": "abort"}]})
        )
    )
    assert next(meanings) == Said({"text": "a"})
    with pytest.raises(ProviderError, match="abort") as caught:
        next(meanings)
    assert (caught.value.code, caught.value.retryable) == ("provider_error_event", True)


def test_an_error_in_the_choice_is_told_behind_its_text() -> None:
    choice = {
        "delta": {"content": "a"},
        "finish_reason": "error",
        "error": {"code": 400, "message": "maximum context length"},
    }
    reader = openai.reader(GenerationRequest("m", []))
    meanings = iter(reader.read(ServerSentEvent("message", json.dumps({"choices": [choice]}), "")))
    assert next(meanings) == Said({"text": "a"})
    with pytest.raises(ProviderError, match="maximum context length") as caught:
        next(meanings)
    assert caught.value.code == "context_too_long"


def test_a_message_is_an_answer_and_behind_deltas_the_same_once_more() -> None:
    message = {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]
    }
    delta = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    assert read(message) == [Said({"text": "Hi"}), Finish("stop")]
    assert told(delta, message) == {"text": "Hi"}
    reader = openai.reader(GenerationRequest("m", []))
    assert list(reader.whole({**message, "usage": {"prompt_tokens": 1, "completion_tokens": 2}})) == [
        Said({"text": "Hi"}),
        Finish("stop"),
        Usage(1, 2),
    ]
    unsaid = {"choices": [{"message": {"content": "Hi"}, "finish_reason": None}]}
    assert list(openai.reader(GenerationRequest("m", [])).whole(unsaid)) == [Said({"text": "Hi"}), Finish("other")]
    piece = {"choices": [{"delta": {"content": "Hi"}}]}
    assert list(openai.reader(GenerationRequest("m", [])).whole(piece)) == [Said({"text": "Hi"})]
    assert told({"choices": [{"text": "Hi", "finish_reason": "stop"}]}) == {"text": "Hi"}


def details(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": "", "reasoning_details": [fields]}}]}


def test_blocks_of_reasoning_details_are_kept_whole() -> None:
    chunks = [
        details(type="reasoning.text", text="a", index=0, format="x"),
        details(type="reasoning.text", text="b", index=0, signature=None),
        details(type="reasoning.text", signature="S", index=0),
        details(type="reasoning.encrypted", data="RU5D", id="rs_1", index=1),
        {"choices": [{"delta": {"content": "Hi"}}]},
    ]
    text = {"type": "reasoning.text", "text": "ab", "index": 0, "format": "x", "signature": "S"}
    encrypted = {"type": "reasoning.encrypted", "data": "RU5D", "id": "rs_1", "index": 1}
    kept = [{"type": "reasoning_details", "data": [one]} for one in (text, encrypted)]
    assert told(*chunks) == {"text": "Hi", "reasoning": "ab", "provider_parts": kept}
    assert told(*chunks[:-1]) == {"text": "", "reasoning": "ab", "provider_parts": kept}, "also at the end"
    twice = {
        "choices": [{"delta": {"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a"}]}}]
    }
    assert told(twice)["reasoning"] == "a"


def calls_of(*events: Any) -> list[tuple[Any, ...]]:
    """Each event is a list of (index, id, name, arguments); what is None is left out."""
    chunks = []
    for event in events:
        calls = []
        for index, call_id, name, arguments in event:
            function = {k: v for k, v in (("name", name), ("arguments", arguments)) if v is not None}
            call = {k: v for k, v in (("index", index), ("id", call_id)) if v is not None}
            calls.append({**call, "type": "function", "function": function})
        chunks.append({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]})
    return [(call["id"], call["name"], call["arguments"]) for call in told(*chunks).get("tool_calls", [])]


A, B = ("a", "look", '{"at":"pier"}'), ("b", "dig", '{"at":"quay"}')


@pytest.mark.parametrize(
    "events",
    [
        [[(0, *A), (1, *B)]],
        [[(0, *A)], [(1, *B)]],
        # One index for both, or none.
        [[(0, *A)], [(0, *B)]],
        [[(0, *A), (0, *B)]],
        [[(None, *A)], [(None, *B)]],
        [[(None, *A), (None, *B)]],
        [[(-1, *A)], [("x", *B)]],
        # In pieces.
        [[(0, "a", "look", "")], [(0, None, None, '{"at":')], [(0, "", "", '"pier"}')], [(0, *B)]],
        [[(0, "a", "look", '{"at":')], [(0, "a", None, '"pier"}')], [(0, *B)]],
        [
            [(0, "a", "look", '{"at":')],
            [(0, "a", "look", '"pier"}')],
            [(0, "b", "dig", None)],
            [(0, "b", "dig", B[2])],
        ],
        [[(None, "a", "look", '{"at":')], [(None, None, None, '"pier"}')], [(None, *B)]],
        [[(None, "a", "look", '{"at":')], [(0, None, None, '"pier"}')], [(1, *B)]],
        [[(None, "a", "look", "")], [(0, None, None, A[2])], [(1, "b", "dig", "")], [(1, None, None, B[2])]],
        [[(0, "a", "look", '{"at":')], [(None, None, None, '"pier"}')], [(1, *B)]],
        # Pieces that take turns.
        [
            [(0, "a", "look", "")],
            [(1, "b", "dig", "")],
            [(0, None, None, '{"at":')],
            [(1, None, None, '{"at":"quay"}')],
            [(0, None, None, '"pier"}')],
        ],
        [
            [(0, "a", "look", '{"at":'), (1, "b", "dig", '{"at":')],
            [(0, None, None, '"pier"}'), (1, None, None, '"quay"}')],
        ],
        # Whole, and once more.
        [[(0, "a", "look", '{"at":')], [(0, None, None, '"pier"}')], [(0, None, None, '{"at":"pier"}')], [(1, *B)]],
        [[(0, "a", "look", "{}")], [(0, None, None, '{"at":"pier"}')], [(1, *B)], [(0, *A), (1, *B)]],
        [[(0, *A), (1, *B)], [(0, None, "look", '{"at": "pier"}'), (1, None, "dig", B[2])]],
        # Arguments that are an object; an id behind the name.
        [[(0, "a", "look", {"at": "pier"})], [(1, "b", "dig", {"at": "quay"})]],
        [[(0, None, "look", "")], [(0, "a", None, '{"at":"pier"}')], [(1, *B)]],
    ],
)
def test_two_calls_stay_two_whatever_their_positions_are(events: Any) -> None:
    assert calls_of(*events) == [A, B]


def test_ids_that_are_numbers_are_texts() -> None:
    assert calls_of([(0, 7, "f", "{}")]) == [("7", "f", "{}")]


@pytest.mark.parametrize(
    "events",
    [
        [[(0, None, "look", A[2])], [(0, None, "dig", B[2])]],
        [[(0, None, "look", A[2])], [(0, None, "look", B[2])]],
        [[(None, "", "look", A[2]), (None, "", "look", B[2])]],
        [[(0, "a", "look", A[2])], [(1, "a", "dig", B[2])]],
    ],
)
def test_calls_without_ids_of_their_own_get_ones(events: Any) -> None:
    one, two = calls_of(*events)
    assert (one[2], two[2]) == (A[2], B[2])
    assert len({one[0], two[0]} - {None, ""}) == 2
    assert calls_of(*events) == [one, two], "the same for the same answer"


@pytest.mark.parametrize("arguments", ["", None, "{}", {}, "null"])
def test_a_call_without_arguments_has_an_empty_object(arguments: Any) -> None:
    assert calls_of([(0, "a", "now", arguments)]) == [("a", "now", "{}")]


def test_the_older_function_call_is_a_call() -> None:
    pieces = [{"name": "f", "arguments": ""}, {"arguments": '{"a":'}, {"arguments": "1}"}]
    (call,) = told(*({"choices": [{"delta": {"function_call": one}}]} for one in pieces))["tool_calls"]
    assert (call["name"], call["arguments"]) == ("f", '{"a":1}')
    assert call["id"]


def test_a_custom_tool_s_input_is_no_json() -> None:
    call = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "run", "input": "ls"}}
    assert told({"choices": [{"delta": {"tool_calls": [call]}}]})["tool_calls"][0]["arguments"] == "ls"


def test_an_answer_is_open_while_arguments_are_not_whole() -> None:
    reader, seen = openai.reader(GenerationRequest("m", [])), []
    for arguments in ("", '{"a":', "1}"):
        delta = {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": arguments}}]}
        list(reader.read(ServerSentEvent("message", json.dumps({"choices": [{"delta": delta}]}), "")))
        seen.append(reader.open)
    assert seen == [False, True, False]


def test_extra_content_of_a_tool_call_is_kept_with_its_index() -> None:
    extra = {"google": {"thought_signature": "U0lH"}}
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    kept = {"type": "extra_content", "data": {"tool_call": 0, **extra}}
    assert told({"choices": [{"delta": {"tool_calls": [call]}}]})["provider_parts"] == [kept]


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
def test_any_json_is_an_event_or_a_provider_error(data: str, event: str) -> None:
    try:
        for meaning in read(data, event):
            if isinstance(meaning, Said):
                ((kind, value),) = meaning.delta.items()
                assert value
                assert isinstance(value, dict if kind in ("tool_call", "provider") else str)
        code = ""
    except ProviderError as error:
        code = error.code
    assert code in {"", "provider_garbage", "provider_error_event", *CODES.values()}


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
@given(st.one_of(jsons.map(json.dumps).map(str.encode), st.binary()), st.sampled_from([None, 200, 400, 500]))
def test_any_body_is_read_as_an_error_or_none(body: bytes, status: int | None) -> None:
    reading = read_error(body, status=status)
    assert reading is None or isinstance(reading.sentence.encode(), bytes)
    assert reading is not None or status in (None, 200)
