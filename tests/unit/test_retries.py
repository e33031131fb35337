"""When a provider is asked again, how soon, and how often at most."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from cli.up.sockets import free_port
from tests.support.provider_calls import generate, refused, text_of
from tests.support.scripted_provider import ScriptedProvider, script_text
from worker.providers.base import ProviderError
from worker.providers.retries import LONGEST_S, Tries, asked_wait_s, parse_retry_after


@pytest.mark.parametrize("status", [429, 408, 409, 500, 503, 529])
async def test_a_refusal_that_passes_is_tried_again_until_it_has_passed(
    upstream: ScriptedProvider, status: int
) -> None:
    script = {"name": "a", "status": status, "fail_times": 1, "numbered": True}
    assert text_of(await generate(upstream.base_url, script)) == script_text(script, call=2)
    assert [call.call for call in upstream.calls] == [1, 2]


async def test_the_tries_are_bounded(upstream: ScriptedProvider) -> None:
    error, _ = await refused(upstream.base_url, {"status": 503}, provider_tries=3)
    assert error.code == "provider_unavailable"
    assert len(upstream.calls) == 3


async def test_the_time_for_tries_is_bounded(upstream: ScriptedProvider) -> None:
    async with asyncio.timeout(60):
        await refused(upstream.base_url, {"status": 503}, provider_tries=1000, provider_retry_s=0.8)
    assert 2 <= len(upstream.calls) <= 4


async def test_retry_after_is_waited_for(upstream: ScriptedProvider) -> None:
    await generate(upstream.base_url, {"name": "a", "status": 429, "retry_after": 1, "fail_times": 1})
    first, second = upstream.calls
    assert second.started - first.started >= 1


async def test_a_retry_after_beyond_the_time_left_ends_it_at_once(upstream: ScriptedProvider) -> None:
    script = {"status": 429, "retry_after": 3600}
    async with asyncio.timeout(60):
        error, _ = await refused(upstream.base_url, script, provider_tries=4, provider_retry_s=20)
    assert (error.code, error.retry_after_s) == ("provider_rate_limited", 3600)
    assert len(upstream.calls) == 1


@pytest.mark.parametrize(
    "script",
    [
        {"status": 400},
        {"status": 401},
        {"status": 404},
        {"cut_after": 0},
        {"garbage_after": 0},
        {"cut_after": 3},
    ],
)
async def test_a_lasting_refusal_is_not_tried_again(upstream: ScriptedProvider, script: dict[str, Any]) -> None:
    await refused(upstream.base_url, script, provider_tries=4)
    assert len(upstream.calls) == 1


async def test_a_provider_that_is_not_up_yet_is_tried_until_it_is() -> None:
    port = free_port()
    asking = asyncio.create_task(generate(f"http://127.0.0.1:{port}/v1", {"tokens": 3}, provider_tries=8))
    await asyncio.sleep(0.1)
    assert not asking.done()
    async with ScriptedProvider(port):
        assert text_of(await asking) == script_text({"tokens": 3})


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("2", 2.0),
        (" 1.5 ", 1.5),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("Fri, 02 Jan 2026 03:04:10", 5.0),
        ("9" * 40, LONGEST_S),
        ("Fri, 02 Jan 9999 03:04:10 GMT", LONGEST_S),
        ("Fri, 02 Jan 10000000000000000000 03:04:10 GMT", LONGEST_S),
        *((bad, None) for bad in (None, "", "soon", "-1", "nan", "inf", "1e9", "Fri, 99 Jan 2026")),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "1"}, 1.5),
        ({"retry-after-ms": "100", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
    ],
)
def test_a_provider_is_not_asked_before_any_time_that_it_names(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert asked_wait_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    "script",
    [
        {"headers": {"retry-after-ms": "700"}},
        {"body": {"error": {"code": 429, "details": [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "0.7s"}]}}},
    ],
)
async def test_a_time_that_is_named_elsewhere_is_waited_for_too(
    upstream: ScriptedProvider, script: dict[str, Any]
) -> None:
    await generate(upstream.base_url, {"name": "a", "status": 429, "fail_times": 1, **script})
    first, second = upstream.calls
    assert second.started - first.started >= 0.7


def limited(retry_after_s: float | None = None) -> ProviderError:
    return ProviderError("provider_rate_limited", "", retryable=True, retry_after_s=retry_after_s)


def test_backoff_doubles_with_jitter_and_keeps_to_its_bounds() -> None:
    lowest = Tries(5, 100, clock=lambda: 0, chance=lambda: 0.0)
    highest = Tries(5, 100, clock=lambda: 0, chance=lambda: 1.0)
    assert [lowest.delay_after(limited()) for _ in range(5)] == [0.125, 0.25, 0.5, 1.0, None]
    assert [highest.delay_after(limited()) for _ in range(5)] == [0.375, 0.75, 1.5, 3.0, None]


def test_a_wait_is_never_shorter_than_retry_after_nor_longer_than_the_time_left() -> None:
    for chance in (0.0, 0.5, 1.0):
        delay = Tries(2, 10, clock=lambda: 0, chance=lambda c=chance: c).delay_after(limited(9.9))  # type: ignore[misc]
        assert delay is not None
        assert 9.9 <= delay <= 10
    assert Tries(2, 10, clock=lambda: 0).delay_after(limited(10.1)) is None
    assert Tries(2, 10, clock=lambda: 0).delay_after(ProviderError("upstream_cut", "", retryable=True)) is None
