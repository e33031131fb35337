"""Providers from a user's file: who speaks when one fails before its first token, and what that cost."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from shared.store.keys import Keys
from tests.support.script import script_text
from tests.support.scripted_provider import ScriptedProvider
from tests.support.stack import Stack, running_stack
from tests.support.viewing import Seen, view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED = {"status": 401}
LIMITED = {"status": 429}
OPENINGS = ("started", "restart", "continued")
PRICES = """
[second.good]
input = 2
output = 8
cached = 1
date = 2026-01-02
source = "a test"
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Two workers; ``local`` is the stack's scripted provider, ``second`` stands in a user's file."""
    directory: Path = tmp_path_factory.mktemp("fallbacks")
    async with ScriptedProvider() as second:
        table = f'[second]\nwire_format = "openai"\nbase_url = "{second.base_url}"\nkey = "SECOND_KEY"\n'
        (directory / "providers.toml").write_text(table, encoding="utf-8")
        (directory / "prices.toml").write_text(PRICES, encoding="utf-8")
        async with running_stack(
            directory,
            workers=2,
            HEADRACE_PROVIDERS_FILE="providers.toml",
            HEADRACE_PRICES_FILE="prices.toml",
            HEADRACE_FIRST_TOKEN_TIMEOUT_S="1",
            HEADRACE_PROVIDER_TRIES="2",
            SECOND_KEY="sk-second",
        ) as made:
            made.second = second  # type: ignore[attr-defined]
            yield made


def asked(stack: Stack, name: str) -> list[str]:
    """The models that were asked, in order."""
    calls = [*stack.calls(name), *(call for call in stack.second.calls if call.name == name)]  # type: ignore[attr-defined]
    return [call.model for call in sorted(calls, key=lambda call: call.started)]


async def speakers(stack: Stack, stream_id: str) -> list[tuple[str, int, str]]:
    """All openings in the log; a viewer begins at the last from which the text counts."""
    async with Redis.from_url(stack.server.url) as redis:
        entries = await redis.xrange(Keys("headrace").stream(stream_id).log)
    told = [(fields[b"e"].decode(), json.loads(fields[b"d"])) for _, fields in entries]
    return [(kind, data["attempt"], data["model"]) for kind, data in told if kind in OPENINGS]


async def seen_of(stack: Stack, script: dict[str, Any], **more: Any) -> tuple[Seen, dict[str, Any]]:
    made = await stack.create(script, model="local/bad", **more)
    seen = await view_to_end(stack.client, made["events_url"])
    return seen, await stack.record(made["id"])


async def costs_noted(stack: Stack, stream_id: str) -> Any:
    """What the record tells of each attempt's cost; it is noted behind the end."""
    async with asyncio.timeout(60):
        while not (costs := (await stack.record(stream_id))["cost_by_attempt"]):
            await asyncio.sleep(0.02)
    return costs


@pytest.mark.parametrize(
    ("name", "fault", "calls"),
    [
        ("auth", REFUSED, 1),
        ("unknown", {"status": 404}, 1),
        ("limited", LIMITED, 2),
        ("down", {"status": 500}, 2),
        ("cut", {"cut_after": 0}, 1),
        ("silent", {"hang_before_first": True}, 1),
        ("filtered", {"tokens": 0, "finish_reason": "content_filter"}, 1),
    ],
)
@pytest.mark.parametrize("on_failure", ["continue", "fail"])
async def test_a_provider_that_fails_before_its_first_token_is_followed_by_the_next(
    stack: Stack, name: str, fault: dict[str, Any], calls: int, on_failure: str
) -> None:
    script = {"name": f"{name} {on_failure}", "models": {"bad": fault}}
    seen, record = await seen_of(stack, script, fallbacks=["second/good"], on_failure=on_failure)
    assert await speakers(stack, record["id"]) == [("started", 1, "local/bad"), ("started", 2, "second/good")]
    assert seen.types[-3:] == ["started", "finishing", "done"]
    assert seen.text == record["text"] == script_text(script)
    assert (record["model"], record["provider"], record["attempt"]) == ("second/good", "second", 2)
    assert asked(stack, script["name"]) == ["bad"] * calls + ["good"]


async def test_the_answer_of_a_fallback_costs_what_its_model_costs(stack: Stack) -> None:
    seen, record = await seen_of(stack, {"models": {"bad": REFUSED}}, fallbacks=["second/good-2026-01-02"])
    done = seen.events[-1][1]
    taken, given = done["usage"]["input_tokens"], done["usage"]["output_tokens"]
    cached = done["usage"]["cached_tokens"] or 0
    assert done["cost"]["usd"] == pytest.approx(((taken - cached) * 2 + cached + given * 8) / 1_000_000)
    assert done["cost"]["usd"] > 0
    assert done["cost"]["price"] == {
        "input": 2.0,
        "output": 8.0,
        "cached": 1.0,
        "date": "2026-01-02",
        "source": "a test",
    }
    assert record["cost"] == done["cost"]
    assert await costs_noted(stack, record["id"]) == {"2": done["cost"]}


async def test_a_local_answer_has_usage_and_no_cost(stack: Stack) -> None:
    seen, record = await seen_of(stack, {"tokens": 3})
    assert seen.events[-1][1]["usage"]["output_tokens"] == 3
    assert seen.events[-1][1]["cost"] is None
    assert await costs_noted(stack, record["id"]) == {"1": None}


async def test_the_last_error_stands_and_names_all_providers_that_failed(stack: Stack) -> None:
    script = {"name": "all", "models": {"bad": REFUSED, "worse": LIMITED, "worst": {"status": 404}}}
    seen, record = await seen_of(stack, script, fallbacks=["second/worse", "local/worst"])
    kind, data = seen.events[-1]
    assert (kind, data["code"], data["retryable"]) == ("failed", "provider_unknown_model", False)
    assert "local/bad (provider_auth), second/worse (provider_rate_limited)" in data["message"]
    assert "'worst'" in data["message"]
    assert (record["model"], record["error"]["message"]) == ("local/worst", data["message"])
    assert asked(stack, "all") == ["bad", "worse", "worse", "worst"]


async def test_a_filter_that_let_something_through_is_no_reason_to_fall_back(stack: Stack) -> None:
    script = {"name": "half", "tokens": 5, "finish_reason": "content_filter"}
    seen, _ = await seen_of(stack, script, fallbacks=["second/good"])
    assert seen.events[-1][1]["code"] == "content_filtered"
    assert asked(stack, "half") == ["bad"]


async def test_a_cut_in_mid_answer_stays_with_its_provider_and_fallbacks_are_no_tries(stack: Stack) -> None:
    fault = {"cut_after": 3, "fail_times": 1}
    script = {"name": "mid", "models": {"bad": REFUSED, "good": fault}}
    seen, record = await seen_of(stack, script, fallbacks=["second/good"], on_failure="restart")
    told = [("started", 1, "local/bad"), ("started", 2, "second/good"), ("restart", 3, "second/good")]
    assert await speakers(stack, record["id"]) == told
    assert asked(stack, "mid") == ["bad", "good", "good"]
    assert (record["model"], seen.text) == ("second/good", script_text(script))


async def test_a_worker_that_dies_after_a_fallback_does_not_bring_the_first_model_back(stack: Stack) -> None:
    script = {"name": "death", "tokens": 40, "hang_after": 20, "models": {"bad": REFUSED}}
    made = await stack.create(script, model="local/bad", fallbacks=["second/good"], on_failure="restart")
    viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
    await stack.until_said(made["id"], 10)
    carrier = await stack.carrier(made["id"])
    carrier.send(signal.SIGKILL)
    stack.second.release("death")  # type: ignore[attr-defined]
    seen = await viewing
    told = [("started", 1, "local/bad"), ("started", 2, "second/good"), ("restart", 3, "second/good")]
    assert await speakers(stack, made["id"]) == told
    assert seen.types[-1] == "done"
    assert seen.text == script_text(script)
    assert asked(stack, "death") == ["bad", "good", "good"]
    await stack.add_worker()


@pytest.mark.parametrize(
    ("fallbacks", "code"),
    [
        (["nobody/x"], "unknown_provider"),
        (["openai/gpt-4.1"], "provider_not_configured"),
        (["second/"], "unknown_model"),
        (["second/good", "second/good"], "duplicate_fallback"),
        (["bad"], "duplicate_fallback"),
        (["second/1", "second/2", "second/3", "second/4", "second/5"], "invalid_request"),
        ([""], "invalid_request"),
    ],
)
async def test_fallbacks_that_lead_nowhere_are_refused_at_once(
    stack: Stack, fallbacks: list[str], code: str
) -> None:
    body = {"prompt": "{}", "model": "local/bad", "fallbacks": fallbacks}
    answer = await stack.client.post("/v1/streams", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_a_repeated_create_with_other_fallbacks_is_another_request(stack: Stack) -> None:
    for fallbacks, status in ((["second/a"], 202), (["second/a"], 202), (["second/b"], 422)):
        body = {"prompt": "{}", "model": "local/bad", "fallbacks": fallbacks}
        headers = {"Idempotency-Key": "fallbacks"}
        answer = await stack.client.post("/v1/streams", json=body, headers=headers)
        assert answer.status_code == status
