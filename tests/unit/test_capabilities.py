"""What a request may ask of whom: each wish is put into the wire format's own word, or refused with its field."""

import re
from typing import Any, get_args

import pytest

from api.schemas.requests import CreateStream
from shared.config.capabilities import WORDS, claude, is_old_gemini, refusal
from shared.config.providers import Feature, Provider, Quirks, WireFormat, load_providers
from shared.config.settings import load_presets
from tests.support.conversation import TOOL
from worker.attempt.resume import asked_of
from worker.providers import adapter

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
WISHES: dict[str, dict[str, Any]] = {
    "tool_choice": {"tools": [TOOL], "tool_choice": "required"},
    "tool_choice.name": {"tools": [TOOL], "tool_choice": {"name": "look"}},
    "parallel_tool_calls": {"tools": [TOOL], "parallel_tool_calls": False},
    "response_format.json_object": {"response_format": {"type": "json_object"}},
    "response_format.json_schema": {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    "reasoning": {"reasoning": {"effort": "low"}},
    "reasoning.budget_tokens": {"reasoning": {"budget_tokens": 2000}},
    "seed": {"seed": 7},
    "user": {"user": "u1"},
    "tools.strict": {"tools": [{**TOOL, "strict": True}]},
}
MODELS = {"openai": "m", "anthropic": "claude-sonnet-4-6", "google": "gemini-3-pro"}


def provider_of(wire_format: str, **quirks: Any) -> Provider:
    return Provider("p", wire_format, "http://x", "", quirks=Quirks(**quirks))


def request_of(**fields: Any) -> dict[str, Any]:
    """A request as the record holds it."""
    asked = CreateStream(prompt="hi", **fields)
    return {"messages": asked.turns(), **asked.asked()}


def refused(provider: Provider, model: str, **fields: Any) -> tuple[str, str] | None:
    return refusal(provider, model, request_of(**fields), fields.get("max_tokens"))


def body_of(provider: Provider, model: str, **fields: Any) -> dict[str, Any]:
    asked = asked_of({"model": model, **request_of(**fields)}, provider, None)
    return adapter(provider.wire_format).call(asked, "").body


def at(body: Any, path: str) -> Any:
    for name in path.split("."):
        body = body[int(name)] if isinstance(body, list) else body[name]
    return body


def test_every_feature_has_its_row() -> None:
    assert set(WORDS) == set(WISHES) == set(get_args(Feature))
    assert all(set(words) == set(get_args(WireFormat)) for words in WORDS.values())


@pytest.mark.parametrize("wire_format", get_args(WireFormat))
@pytest.mark.parametrize("feature", get_args(Feature))
def test_each_wish_is_said_in_the_formats_word_or_refused_with_its_field(
    feature: Feature, wire_format: Any
) -> None:
    quirks = {"reasoning": "object"} if feature == "reasoning.budget_tokens" else {}
    provider, word = provider_of(wire_format, **quirks), WORDS[feature][wire_format]
    found = refused(provider, MODELS[wire_format], **WISHES[feature])
    if word:
        assert found is None
        assert at(body_of(provider, MODELS[wire_format], **WISHES[feature]), word) not in (None, {}, [])
    else:
        assert found is not None
        assert found[0].startswith(feature.partition(".")[0])


@pytest.mark.parametrize("feature", get_args(Feature))
def test_a_wish_that_a_provider_lacks_is_refused_there(feature: Feature) -> None:
    quirks = Quirks(reasoning="object", lacks=(feature,))
    found = refused(Provider("p", "openai", "http://x", "", quirks=quirks), "m", **WISHES[feature])
    assert found is not None
    assert found[0].startswith(feature.partition(".")[0])


def test_a_request_without_wishes_is_refused_by_nobody() -> None:
    nothing = {"tools": [TOOL], "parallel_tool_calls": True, "response_format": {"type": "text"}}
    for wire_format, model in MODELS.items():
        assert refused(provider_of(wire_format), model, **nothing) is None


@pytest.mark.parametrize(
    ("model", "version"),
    [
        ("claude-3-7-sonnet-20250219", (3, 7)),
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-sonnet-4-5-20250929", (4, 5)),
        ("claude-sonnet-4.5", (4, 5)),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", (4, 5)),
        ("claude-opus-4-7", (4, 7)),
        ("claude-opus-5", (5, 0)),
        ("claude-2.1", (2, 1)),
        ("claude-instant", None),
        ("llama-4", None),
    ],
)
def test_a_claudes_version_is_read_from_its_name(model: str, version: Any) -> None:
    assert claude(model) == version


def test_a_gemini_before_3_is_known_by_its_name() -> None:
    assert [is_old_gemini(f"gemini-{name}") for name in ("1.5-pro", "2.5-flash", "3-pro", "3.1-pro", "20")] == [
        True,
        True,
        False,
        False,
        False,
    ]


BUDGET = {"reasoning": {"budget_tokens": 2000}}
ENABLED = {"provider_options": {"thinking": {"type": "enabled", "budget_tokens": 2000}}}


@pytest.mark.parametrize(
    ("model", "fields", "field"),
    [
        ("claude-sonnet-4-5", {**BUDGET, "max_tokens": 2000}, "reasoning.budget_tokens"),
        ("claude-sonnet-4-5", {**BUDGET, "max_tokens": 2001}, None),
        ("claude-sonnet-4-5", BUDGET, None),
        ("claude-sonnet-4-5", {"reasoning": {"budget_tokens": 1023}}, "reasoning.budget_tokens"),
        ("claude-sonnet-4-5", {**ENABLED, "max_tokens": 500}, "provider_options.thinking.budget_tokens"),
        ("claude-sonnet-4-5", {**ENABLED, "temperature": 0.5}, "temperature"),
        ("claude-sonnet-4-5", {**BUDGET, "temperature": 0.5}, "temperature"),
        ("claude-sonnet-4-5", {**BUDGET, "temperature": 1.0}, None),
        ("claude-sonnet-4-5", {**BUDGET, "top_p": 0.9}, "top_p"),
        ("claude-sonnet-4-5", {**BUDGET, "top_p": 0.95}, None),
        ("claude-sonnet-4-5", {**BUDGET, "tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ("claude-sonnet-4-5", {**BUDGET, "tools": [TOOL], "tool_choice": {"name": "look"}}, "tool_choice"),
        ("claude-sonnet-4-5", {**BUDGET, "tools": [TOOL], "tool_choice": "auto"}, None),
        ("claude-sonnet-4-5", {**BUDGET, "provider_options": {"top_k": 5}}, "provider_options.top_k"),
        ("claude-sonnet-4-5", {"reasoning": {"effort": "high"}, "temperature": 0}, "temperature"),
        ("claude-sonnet-4-5", {"reasoning": {"effort": "none"}, "temperature": 0}, None),
        ("claude-sonnet-4-5", {"reasoning": {"effort": "high"}, "max_tokens": 1024}, "max_tokens"),
        ("claude-sonnet-4-5", {"temperature": 0.5, "top_p": 0.9}, "top_p"),
        ("claude-3-7-sonnet", {"temperature": 0.5, "top_p": 0.9}, None),
        ("claude-3-5-haiku", {"reasoning": {"effort": "low"}}, "reasoning"),
        ("claude-3-5-haiku", BUDGET, "reasoning.budget_tokens"),
        ("claude-opus-4-7", BUDGET, "reasoning.budget_tokens"),
        ("claude-opus-4-7", {"temperature": 0.5}, "temperature"),
        ("claude-opus-4-7", {"provider_options": {"top_p": 0.5}}, "provider_options.top_p"),
        ("claude-opus-4-7", {"reasoning": {"effort": "xhigh"}}, None),
        ("claude-sonnet-4-5", {"temperature": 1.5}, "temperature"),
        ("llama", {**BUDGET, "temperature": 0.5}, "temperature"),
    ],
)
def test_a_wish_that_anthropic_would_refuse_is_refused_with_its_field(
    model: str, fields: dict[str, Any], field: str | None
) -> None:
    found = refused(provider_of("anthropic"), model, **fields)
    assert (found and found[0]) == field


def test_a_budget_that_is_not_below_the_limit_of_all_answers_is_refused_too() -> None:
    assert refusal(provider_of("anthropic"), "claude-sonnet-4-5", request_of(**BUDGET), 1500)


@pytest.mark.parametrize(
    ("model", "fields", "field"),
    [
        ("gemini-3-pro", {"reasoning": {"effort": "none"}}, "reasoning.effort"),
        ("gemini-2.5-flash", {"reasoning": {"effort": "none"}}, None),
        ("gemini-2.5-flash", {"seed": 2**31}, "seed"),
    ],
)
def test_a_wish_that_gemini_would_refuse_is_refused_with_its_field(
    model: str, fields: dict[str, Any], field: str | None
) -> None:
    found = refused(provider_of("google"), model, **fields)
    assert (found and found[0]) == field


@pytest.mark.parametrize(
    ("tool", "takers"),
    [
        ({"type": "web_search_20250305", "name": "web_search"}, {"anthropic"}),
        ({"type": "google_search"}, {"google"}),
        ({"type": "custom", "custom": {"name": "sql"}}, {"openai"}),
        ({"type": "custom", "name": "sql", "input_schema": {}}, {"anthropic"}),
        ({"type": "openrouter:web_search"}, {"openai", "anthropic"}),
    ],
)
def test_a_tool_of_a_providers_own_goes_there_as_it_is_and_nowhere_else(
    tool: dict[str, Any], takers: set[str]
) -> None:
    for wire_format, model in MODELS.items():
        found = refused(provider_of(wire_format), model, tools=[TOOL, tool])
        if wire_format not in takers:
            assert found is not None
            assert found[0] == "tools.1.type"
            continue
        assert found is None
        sent = body_of(provider_of(wire_format), model, tools=[TOOL, tool])["tools"][1]
        assert sent == ({"google_search": {}} if wire_format == "google" else tool)


def test_an_effort_becomes_what_the_model_knows() -> None:
    def anthropic(model: str, **fields: Any) -> tuple[Any, Any, int]:
        body = body_of(provider_of("anthropic"), model, **fields)
        return body.get("thinking"), body.get("output_config"), body["max_tokens"]

    effort = {"reasoning": {"effort": "high"}}
    enabled = {"type": "enabled", "budget_tokens": 16384}
    assert anthropic("claude-opus-4-6", **effort) == ({"type": "adaptive"}, {"effort": "high"}, 8192)
    assert anthropic("claude-sonnet-4-5", **effort) == (enabled, None, 8192 + 16384)
    thinking, _, limit = anthropic("claude-sonnet-4-5", **effort, max_tokens=3000)
    assert (thinking["budget_tokens"], limit) == (2400, 3000)
    thinking, _, limit = anthropic("claude-sonnet-4-5", **effort, max_tokens=1025)
    assert (thinking["budget_tokens"], limit) == (1024, 1025)
    assert anthropic("claude-sonnet-4-5", **BUDGET)[2] == 8192 + 2000
    assert anthropic("claude-sonnet-4-5", **ENABLED)[2] == 8192 + 2000

    def google(model: str, effort: str) -> Any:
        body = body_of(provider_of("google"), model, reasoning={"effort": effort})
        return body["generationConfig"]["thinkingConfig"]

    assert google("gemini-3-pro", "max") == {"includeThoughts": True, "thinkingLevel": "high"}
    assert google("gemini-2.5-flash", "none") == {"includeThoughts": False, "thinkingBudget": 0}

    def openai(way: str, effort: str) -> dict[str, Any]:
        body = body_of(provider_of("openai", reasoning=way), "m", reasoning={"effort": effort})
        return {
            name: value for name, value in body.items() if name in ("reasoning", "reasoning_effort", "thinking")
        }

    assert openai("effort", "low") == {"reasoning_effort": "low"}
    assert openai("object", "low") == {"reasoning": {"effort": "low"}}
    assert openai("thinking", "low") == {"reasoning_effort": "low", "thinking": {"type": "enabled"}}
    assert openai("thinking", "none") == {"thinking": {"type": "disabled"}}


def test_a_choice_without_parallel_calls_is_said_in_anthropics_way() -> None:
    def choice(**fields: Any) -> Any:
        return body_of(provider_of("anthropic"), "m", tools=[TOOL], **fields).get("tool_choice")

    assert choice() is None
    assert choice(tool_choice="required") == {"type": "any"}
    assert choice(tool_choice="none", parallel_tool_calls=False) == {"type": "none"}
    assert choice(parallel_tool_calls=False) == {"type": "auto", "disable_parallel_tool_use": True}
    assert choice(tool_choice={"name": "look"}) == {"type": "tool", "name": "look"}


def test_hints_go_where_they_are_known_and_are_left_out_elsewhere() -> None:
    hint = {"cache_control": {"type": "ephemeral"}}
    fields = {"messages": None, "tools": [{**TOOL, **hint}]}
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "s", **hint}]},
        {"role": "user", "content": [{"type": "text", "text": "u", **hint}]},
    ]
    asked = CreateStream(messages=turns, tools=fields["tools"])
    request = {"model": "m", "messages": asked.turns(), **asked.asked()}

    def body(provider: Provider) -> dict[str, Any]:
        return adapter(provider.wire_format).call(asked_of(request, provider, None), "").body

    claude_s = body(provider_of("anthropic"))
    assert claude_s["system"] == [{"type": "text", "text": "s", **hint}]
    assert claude_s["messages"][0]["content"] == [{"type": "text", "text": "u", **hint}]
    assert claude_s["tools"][0]["cache_control"] == hint["cache_control"]
    known = body(provider_of("openai", cache_control=True))
    assert [turn["content"] for turn in known["messages"]] == [
        [{"type": "text", "text": "s", **hint}],
        [{"type": "text", "text": "u", **hint}],
    ]
    assert known["tools"][0]["cache_control"] == hint["cache_control"]
    for provider in (provider_of("openai"), provider_of("google")):
        assert "cache_control" not in str(body(provider))
    assert body(provider_of("openai"))["messages"][0] == {"role": "system", "content": "s"}


@pytest.mark.parametrize(
    ("name", "sends"),
    [
        ("openai", {"max_completion_tokens": 5, "seed": 1, "stream_options": {"include_usage": True}}),
        ("mistral", {"max_tokens": 5, "random_seed": 1}),
        ("groq", {"max_completion_tokens": 5, "seed": 1, "stream_options": {"include_usage": True}}),
    ],
)
def test_each_preset_is_asked_in_its_own_way(name: str, sends: dict[str, Any]) -> None:
    provider = load_providers({}, load_presets())[name]
    body = body_of(provider, "m", max_tokens=5, seed=1)
    names = {"max_tokens", "max_completion_tokens", "seed", "random_seed", "stream_options"}
    assert {field: value for field, value in body.items() if field in names} == sends


def test_the_key_and_the_version_go_along_as_the_provider_wants_them() -> None:
    env = {"AZURE_BASE_URL": "https://r.example/openai/v1", "AZURE_API_KEY": "k", "AZURE_API_VERSION": "2024-10-21"}
    azure = load_providers(env, load_presets())["azure"]
    call = adapter("openai").call(asked_of({"model": "m", "messages": []}, azure, None), "sk")
    assert call.path == "/chat/completions?api-version=2024-10-21"
    assert (call.headers["api-key"], "Authorization" in call.headers) == ("sk", False)
    vertex = load_providers({"VERTEX_AUTH": "bearer"}, load_presets())["vertex"]
    headers = adapter("google").call(asked_of({"model": "m", "messages": []}, vertex, None), "sk").headers
    assert (headers["Authorization"], "x-goog-api-key" in headers) == ("Bearer sk", False)


@pytest.mark.parametrize(("quirks", "role"), [({}, "system"), ({"developer": True}, "developer")])
def test_the_developer_is_the_system_where_that_role_is_unknown(quirks: dict[str, Any], role: str) -> None:
    turns = [{"role": "developer", "content": "d"}, {"role": "user", "content": "u"}]
    asked = asked_of({"model": "m", "messages": turns}, provider_of("openai", **quirks), None)
    assert adapter("openai").call(asked, "").body["messages"][0] == {"role": role, "content": "d"}
    asked = asked_of({"model": "m", "messages": turns}, provider_of("anthropic"), None)
    assert adapter("anthropic").call(asked, "").body["system"] == "d"
    asked = asked_of({"model": "m", "messages": turns}, provider_of("google"), None)
    assert adapter("google").call(asked, "").body["systemInstruction"] == {"parts": [{"text": "d"}]}


MISTRALS = {
    "": {
        *("model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed", "metadata"),
        *("response_format", "tools", "tool_choice", "presence_penalty", "frequency_penalty", "n", "prediction"),
        *("parallel_tool_calls", "prompt_mode", "reasoning_effort", "safe_prompt"),
    },
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id", "name"},
    "call": {"id", "type", "function", "index"},
}
"""The fields that Mistral's API knows; it refuses others. Source: its reference and its client's types, 2026."""


def test_mistral_is_sent_no_field_that_it_does_not_know_and_ids_of_its_own_form() -> None:
    asked = CreateStream(
        messages=[
            {"role": "developer", "content": "d"},
            {"role": "user", "content": [{"type": "text", "text": "u", "cache_control": {"type": "ephemeral"}}]},
            {
                "role": "assistant",
                "content": "",
                "reasoning": "hm",
                "reasoning_details": [{"type": "reasoning.text"}],
                "provider_parts": [{"type": "extra_content", "data": {"tool_call": 0, "x": 1}}],
                "tool_calls": [
                    {"id": "toolu_1", "name": "look", "arguments": "", "extra_content": {"x": 1}, "index": 0}
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "name": "look", "content": [{"type": "text", "text": "t"}]},
        ],
        tools=[TOOL],
        tool_choice="required",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        reasoning={"effort": "high"},
        **{"seed": 1, "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "stop": ["."]},
    )
    mistral = load_providers({}, load_presets())["mistral"]
    request = {"model": "m", "messages": asked.turns(), **asked.asked()}
    assert refusal(mistral, "m", request, 5) is None
    body = adapter("openai").call(asked_of(request, mistral, None), "").body
    assert set(body) <= MISTRALS[""]
    for message in body["messages"]:
        assert set(message) <= MISTRALS[message["role"]]
    _, user, assistant, tool = body["messages"]
    assert user["content"] == [{"type": "text", "text": "u"}]
    (call,) = assistant["tool_calls"]
    assert set(call) <= MISTRALS["call"]
    assert re.fullmatch("[a-zA-Z0-9]{9}", call["id"])
    assert (tool["tool_call_id"], tool["content"]) == (call["id"], "t")


def test_a_tools_image_goes_where_it_is_taken() -> None:
    image = {"type": "image", "data": "aGk=", "media_type": "image/png"}
    turns = [
        {"role": "user", "content": "u"},
        {"role": "assistant", "tool_calls": [{"id": "c", "name": "look"}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "t"}, image]},
    ]
    asked = CreateStream(messages=turns)
    request = {"model": "m", "messages": asked.turns(), **asked.asked()}
    found = refusal(provider_of("openai"), "m", request)
    assert found is not None
    assert found.field == "messages.2.content"
    for wire_format in ("anthropic", "google"):
        assert refusal(provider_of(wire_format), "m", request) is None
    body = adapter("anthropic").call(asked_of(request, provider_of("anthropic"), None), "").body
    assert [part["type"] for part in body["messages"][-1]["content"][0]["content"]] == ["text", "image"]
    body = adapter("google").call(asked_of(request, provider_of("google"), None), "").body
    response, shown = body["contents"][-1]["parts"]
    assert response["functionResponse"]["response"] == {"result": "t"}
    assert shown == {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
