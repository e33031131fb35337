"""The OpenAI chat completions adapter: what each chunk means, and that nothing else gets out of it."""

import json
from typing import Any

import pytest

from shared.config.providers import Quirks
from shared.protocol.sse import ServerSentEvent
from tests.support.conversation import CONVERSATION, TOOL
from worker.providers import UnknownWireFormat, adapter
from worker.providers.base import (
    Finish,
    GenerationRequest,
    ProviderEvent,
    Said,
    Usage,
)

openai = adapter("openai")


def read(data: Any, event: str = "message") -> list[ProviderEvent]:
    text = data if isinstance(data, str) else json.dumps(data)
    return list(openai.reader(GenerationRequest("m", [])).read(ServerSentEvent(event, text, "")))


def read_delta(**delta: Any) -> list[ProviderEvent]:
    return read({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("STOP", "stop"),
        ("eos", "stop"),
        ("end_turn", "stop"),
        ("COMPLETE", "stop"),
        ("model_length", "length"),
        ("MAX_TOKENS", "length"),
        ("tool_use", "tool_calls"),
        ("sensitive", "content_filter"),
        ("something_new", "other"),
    ],
)
def test_every_finish_reason_has_its_word(said: str, meant: Any) -> None:
    assert read({"choices": [{"delta": {}, "finish_reason": said}]}) == [Finish(meant)]


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


def test_what_comes_with_the_finish_reason_is_said_before_it() -> None:
    chunk = {"choices": [{"delta": {"content": "end."}, "finish_reason": "stop"}], "usage": {}}
    assert read(chunk) == [Said({"text": "end."}), Finish("stop"), Usage(None, None)]


def test_a_refusal_in_words_is_text_that_people_see() -> None:
    assert read_delta(refusal="I can't.") == [Said({"text": "I can't."})]


def test_other_choices_than_the_first_are_left_out() -> None:
    assert read({"choices": [{"index": 1, "delta": {"content": "b"}}]}) == []


def test_deepseeks_word_for_cached_tokens_is_known() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 6, "prompt_cache_hit_tokens": 2}
    assert read({"choices": [], "usage": usage}) == [Usage(5, 6, 2, None)]


def test_the_call_asks_for_a_stream_with_usage_and_leaves_out_what_was_not_asked() -> None:
    call = openai.call(GenerationRequest("m", [{"role": "user", "content": "hi"}]), "sk-secret")
    assert call.path == "/chat/completions"
    assert call.headers["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in repr(call)
    assert call.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_the_call_passes_on_what_was_asked_and_sends_no_key_where_there_is_none() -> None:
    wanted = GenerationRequest("m", [], max_tokens=5, temperature=0.0, top_p=1.0, stop=["."], tools=[TOOL])
    call = openai.call(wanted, "")
    assert "Authorization" not in call.headers
    asked = {"max_tokens": 5, "temperature": 0.0, "top_p": 1.0, "stop": ["."]}
    assert asked.items() <= call.body.items()
    assert call.body["tools"] == [{"type": "function", "function": TOOL}]


def test_a_whole_conversation_is_put_into_its_messages() -> None:
    call = openai.call(GenerationRequest("m", CONVERSATION), "")
    assert call.body["messages"] == [
        {"role": "system", "content": "Be short."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":"a"}'}},
                {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"seen":"流れ"}'},
        {"role": "tool", "tool_call_id": "c2", "content": "nothing"},
        {"role": "user", "content": "And now?"},
    ]


def test_the_limit_of_an_answer_has_the_name_that_the_provider_knows() -> None:
    newer = Quirks(max_tokens_name="max_completion_tokens")

    def limits(**fields: Any) -> dict[str, Any]:
        body = openai.call(GenerationRequest("m", [], max_tokens=5, **fields), "").body
        return {name: value for name, value in body.items() if name.startswith("max_")}

    assert limits() == {"max_tokens": 5}
    assert limits(quirks=newer) == {"max_completion_tokens": 5}


def test_options_go_last_into_the_body() -> None:
    options = {"temperature": 0.5, "seed": None}
    call = openai.call(GenerationRequest("m", [], max_tokens=5, temperature=0.1, options=options), "")
    assert options.items() <= call.body.items()


def test_what_has_no_word_is_kept_under_its_own_name_and_noise_is_not() -> None:
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


@pytest.mark.parametrize("name", ["nobody", "client", "base", "../openai", "os", "", "Openai"])
def test_an_unknown_wire_format_says_which_file_to_add(name: str) -> None:
    with pytest.raises(UnknownWireFormat, match=r"worker/providers/"):
        adapter(name)
