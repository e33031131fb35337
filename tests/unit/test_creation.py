"""A create that its model, or a fallback, would refuse: 422 with the field, before Redis is asked for anything."""

from typing import Any, cast

import pytest

from api.http.problems import Problem
from api.schemas.requests import CreateStream
from api.streams.creation import Creation
from shared.config.settings import load

ENV = {"LOCAL_BASE_URL": "http://127.0.0.1:9/v1", "ANTHROPIC_API_KEY": "k", "GOOGLE_API_KEY": "k"}


class Untouched:
    """What must not be used."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was used")


class Allowed(Exception):
    """A create is about to run its steps."""


async def run_steps() -> bytes:
    raise Allowed


def creation(**env: str) -> Creation:
    configuration = load({**ENV, **env})
    untouched = cast(Any, Untouched())
    return Creation(
        configuration.settings, configuration.providers, untouched, untouched, untouched, run_steps, untouched
    )


@pytest.mark.parametrize(
    ("fields", "field", "who"),
    [
        ({"model": "anthropic/claude-sonnet-4-5", "seed": 1}, "seed", "anthropic/claude-sonnet-4-5"),
        ({"model": "local/m", "fallbacks": ["google/gemini-3-pro"], "user": "u"}, "user", "google/gemini-3-pro"),
        (
            {"model": "anthropic/claude-sonnet-4-5", "reasoning": {"budget_tokens": 2000}, "max_tokens": 500},
            "reasoning.budget_tokens",
            "anthropic/claude-sonnet-4-5",
        ),
    ],
)
async def test_the_model_and_each_fallback_are_asked_what_they_take(
    fields: dict[str, Any], field: str, who: str
) -> None:
    with pytest.raises(Problem) as caught:
        await creation().create(CreateStream(prompt="x", **fields), "", None)
    problem = caught.value
    assert (problem.status, problem.code) == (422, "unsupported_by_provider")
    assert [error["field"] for error in problem.extra["errors"]] == [field]
    assert who in problem.detail
    assert problem.detail.startswith(f"The request can't be used: {field}: ")


async def test_the_limit_of_all_answers_counts_where_none_is_asked_for() -> None:
    asked = CreateStream(prompt="x", model="anthropic/claude-sonnet-4-5", reasoning={"budget_tokens": 2000})
    with pytest.raises(Problem, match="smaller than max_tokens, which is 2000 here"):
        await creation(HEADRACE_MAX_ANSWER_TOKENS="2000").create(asked, "", None)


KEYS = {"HEADRACE_API_KEYS": f"someone:{'0' * 64}"}
HOSTED = {"type": "web_search_20250305", "name": "web_search"}


async def refused(fields: dict[str, Any], owner: str = "", **env: str) -> str:
    """The field that is not allowed; '' where all is, so that the create goes on to its steps."""
    asked = CreateStream.model_validate({"prompt": "x", "model": "local/m", **fields})
    with pytest.raises((Problem, Allowed)) as caught:
        await creation(**env).create(asked, owner, None)
    problem = caught.value
    if isinstance(problem, Allowed):
        return ""
    assert (problem.status, problem.code) == (422, "option_not_allowed")
    (error,) = problem.extra["errors"]
    assert str(error["field"]) in problem.detail
    return str(error["field"])


@pytest.mark.parametrize(
    ("fields", "env", "field"),
    [
        # Without keys the usual ones of the wire format.
        ({"provider_options": {"logit_bias": {"5": 1}, "topLogprobs": 2}}, {}, ""),
        ({"provider_options": {"top_k": 5}, "model": "anthropic/m"}, {}, ""),
        ({"provider_options": {"generationConfig": {"topK": 5}}, "model": "google/m"}, {}, ""),
        ({"provider_options": {"top_p": 0.5, "store": True}}, {}, "provider_options.store"),
        ({"provider_options": {"store": True}}, {"LOCAL_OPTIONS": "metadata, store"}, ""),
        ({"provider_options": {"store": True}}, {"ANTHROPIC_OPTIONS": "store"}, "provider_options.store"),
        ({"model": "anthropic/m", "tools": [HOSTED]}, {}, ""),
        # With keys the listed ones alone.
        ({"provider_options": {"logit_bias": {}}}, KEYS, "provider_options.logit_bias"),
        ({"provider_options": {"logit_bias": {}}}, {**KEYS, "LOCAL_OPTIONS": "logit_bias"}, ""),
        ({"provider_options": {}}, KEYS, ""),
        ({"model": "anthropic/m", "tools": [HOSTED]}, KEYS, "tools.0.type"),
        ({"model": "anthropic/m", "tools": [HOSTED]}, {**KEYS, "ANTHROPIC_OPTIONS": f"tools.{HOSTED['type']}"}, ""),
        ({"model": "anthropic/m", "tools": [HOSTED]}, {**KEYS, "ANTHROPIC_OPTIONS": "tools"}, ""),
        ({"tools": [{"name": "f", "parameters": {}}]}, KEYS, ""),
        # Each fallback has a list of its own.
        (
            {"provider_options": {"top_k": 5}, "fallbacks": ["google/gemini-3-pro"]},
            {},
            "provider_options.top_k",
        ),
    ],
)
async def test_an_option_must_stand_in_the_list(fields: dict[str, Any], env: dict[str, str], field: str) -> None:
    assert await refused(fields, **env) == field


@pytest.mark.parametrize(
    ("listed", "owner", "field"),
    [
        ("ann:store", "ann", ""),
        ("ann:Store, metadata", "ann", ""),
        ("ann:store", "bob", "provider_options.store"),
        ("ann:store,store", "bob", ""),
        ("ann:metadata,bob:store", "ann", "provider_options.store"),
        ("ann:model", "ann", "provider_options.store"),
    ],
)
async def test_an_option_may_be_listed_for_one_key_alone(listed: str, owner: str, field: str) -> None:
    env = {"HEADRACE_API_KEYS": f"ann:{'0' * 64},bob:{'1' * 64}", "LOCAL_OPTIONS": listed}
    assert await refused({"provider_options": {"store": True}}, owner, **env) == field


@pytest.mark.parametrize(
    "name",
    [
        *("model", "models", "messages", "contents", "stream", "stream_options", "streamOptions", "usage"),
        *("n", "best_of", "candidateCount", "service_tier", "serviceTier", "max_tokens", "MAX_TOKENS"),
        *("max_completion_tokens", "maxOutputTokens", "num_predict", "n_predict"),
        *("api_base", "base_url", "api_key", "api-key", "extra_body", "extra_headers", "headers"),
    ],
)
async def test_options_that_costs_and_limits_depend_on_are_reserved_also_where_listed(name: str) -> None:
    for keys in ({}, KEYS):
        env = {**keys, "LOCAL_OPTIONS": f"{name},options,generation_config", "GOOGLE_OPTIONS": "generationConfig"}
        assert await refused({"provider_options": {name: 1}}, **env) == f"provider_options.{name}"
        for around in ("options", "generation_config"):
            field = f"provider_options.{around}.{name}"
            assert await refused({"provider_options": {around: {name: 1}}}, **env) == field


async def test_a_refused_option_names_the_variable_that_would_allow_it() -> None:
    asked = CreateStream(prompt="x", model="local/m", provider_options={"store": True})
    with pytest.raises(Problem, match="LOCAL_OPTIONS=store"):
        await creation().create(asked, "", None)


async def test_what_is_kept_of_a_request_is_bounded_too() -> None:
    """Ids and metadata are no part of the prompt, and a conversation kept those of all its responses."""
    asked = CreateStream(prompt="x", model="local/m")
    with pytest.raises(Allowed):
        await creation().create(asked, "", None, keeps={"input": ["i" * 700_000]})
    with pytest.raises(Problem) as caught:
        await creation().create(asked, "", None, keeps={"input": ["i" * 700_000], "asked": "a" * 100_000})
    assert (caught.value.status, caught.value.code) == (413, "prompt_too_large")
