"""A create that its model, or a fallback, would refuse: 422 with the field, before Redis is asked for anything."""

from typing import Any, cast

import pytest

from api.creation import Creation
from api.problems import Problem
from api.requests import CreateStream
from shared.settings import load

ENV = {"LOCAL_BASE_URL": "http://127.0.0.1:9/v1", "ANTHROPIC_API_KEY": "k", "GOOGLE_API_KEY": "k"}


class Untouched:
    """What must not be used."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was used")


def creation(**env: str) -> Creation:
    configuration = load({**ENV, **env})
    untouched = cast(Any, Untouched())
    return Creation(
        configuration.settings, configuration.providers, untouched, untouched, untouched, untouched, untouched
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
