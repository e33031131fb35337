"""How long a provider may keep silent, and what counts as silence."""

import asyncio
from typing import Any

import pytest

from tests.support.listeners import silent_listener
from tests.support.provider_calls import (
    CALM,
    FAST,
    ask,
    at,
    calm_client,
    closed,
    events_of,
    generate,
    refused,
    text_of,
)
from tests.support.scripted_provider import ScriptedProvider, script_text


async def test_a_provider_silent_before_its_first_token_times_out(upstream: ScriptedProvider) -> None:
    error, seen = await refused(upstream.base_url, {"hang_before_first": True}, **{**CALM, **FAST})
    assert (error.code, error.retryable, error.refusal, seen) == ("first_token_timeout", True, False, [])
    assert await closed(upstream.calls[0]) == "client"


async def test_a_provider_silent_in_mid_answer_times_out(upstream: ScriptedProvider) -> None:
    error, seen = await refused(upstream.base_url, {"hang_after": 5}, idle_timeout_s=0.3)
    assert (error.code, error.retryable, error.refusal) == ("upstream_silent", True, False)
    assert text_of(seen) == script_text({"tokens": 5})
    assert await closed(upstream.calls[0]) == "client"


@pytest.mark.parametrize(
    ("hang", "code"),
    [({"hang_before_first": True}, "first_token_timeout"), ({"hang_after": 2}, "upstream_silent")],
)
async def test_signs_of_life_put_the_deadline_off_up_to_a_bound(
    upstream: ScriptedProvider, hang: dict[str, Any], code: str
) -> None:
    async with asyncio.timeout(60):
        began = asyncio.get_running_loop().time()
        error, _ = await refused(
            upstream.base_url, {**hang, "keepalive_ms": 20}, **{**CALM, **FAST, "liveness_timeout_s": 1.2}
        )
    assert error.code == code
    assert asyncio.get_running_loop().time() - began > 1.0


async def test_a_socket_that_accepts_and_never_answers_times_out_at_the_first_token() -> None:
    with silent_listener() as port:
        error, _ = await refused(f"http://127.0.0.1:{port}/v1", {}, **FAST)
    assert error.code == "first_token_timeout"


async def test_steady_tokens_outlast_every_timeout(upstream: ScriptedProvider) -> None:
    script = {"tokens": 30, "interval_ms": 40}
    events = await generate(upstream.base_url, script, first_token_timeout_s=0.6, idle_timeout_s=0.6)
    assert text_of(events) == script_text(script)


async def test_a_slow_reader_does_not_make_the_provider_look_silent(upstream: ScriptedProvider) -> None:
    script = {"tokens": 1}
    settings = {"idle_timeout_s": 0.2, "first_token_timeout_s": 0.2}
    async with calm_client(**settings) as client:
        events = []
        async for event in events_of(client, at(upstream.base_url), ask(script)):
            events.append(event)
            await asyncio.sleep(0.25)
    assert text_of(events) == script_text(script)
