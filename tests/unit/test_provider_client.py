"""The provider client against a scripted provider on a real socket: what it yields, raises and closes."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from shared.providers import Provider
from shared.settings import Settings
from shared.sse import SseParser
from tests.support.scripted_provider import Call, ScriptedProvider, script_reasoning, script_text
from worker.providers.base import (
    End,
    Finish,
    GenerationRequest,
    ProviderError,
    ProviderEvent,
    Said,
    Usage,
)
from worker.providers.client import ProviderClient
from worker.providers.retries import Tries, parse_retry_after

KEY = "sk-0123456789-secret"
FAST: dict[str, Any] = {"connect_timeout_s": 0.4, "first_token_timeout_s": 0.4, "idle_timeout_s": 0.4}
# Nothing may time out in a test that is not about time.
CALM: dict[str, Any] = {"connect_timeout_s": 30, "first_token_timeout_s": 30, "idle_timeout_s": 30}


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


def ask(script: dict[str, Any] | str) -> GenerationRequest:
    prompt = script if isinstance(script, str) else json.dumps(script)
    return GenerationRequest("scripted", [{"role": "user", "content": prompt}])


def at(base_url: str, key: str = KEY) -> Provider:
    return Provider("local", "openai", base_url, key)


async def generate(base_url: str, script: dict[str, Any], **settings: Any) -> list[ProviderEvent]:
    async with (
        ProviderClient(Settings(**{**CALM, **settings})) as client,
        aclosing(client.generate(at(base_url), ask(script))) as events,
    ):
        return [event async for event in events]


async def collect(events: AsyncIterator[ProviderEvent], seen: list[ProviderEvent]) -> None:
    async for event in events:
        seen.append(event)  # noqa: PERF401 - a comprehension would lose them at an error


async def refused(
    base_url: str, script: dict[str, Any], **settings: Any
) -> tuple[ProviderError, list[ProviderEvent]]:
    """The error a call ends with, and what came before it."""
    seen: list[ProviderEvent] = []
    async with ProviderClient(Settings(**{**CALM, "provider_tries": 1, **settings})) as client:
        with pytest.raises(ProviderError) as caught:
            await collect(client.generate(at(base_url), ask(script)), seen)
    assert KEY not in str(caught.value) + repr(caught.value)
    return caught.value, seen


def text_of(events: list[ProviderEvent]) -> str:
    return "".join(e.delta.get("text", "") for e in events if isinstance(e, Said))


async def closed(call: Call) -> str | None:
    """Who closed the call, once somebody did (5 s at most)."""
    async with asyncio.timeout(5):
        while call.closed_by is None:
            await asyncio.sleep(0.005)
    return call.closed_by


async def test_a_whole_answer_is_yielded_piece_by_piece(upstream: ScriptedProvider) -> None:
    script = {"tokens": 300, "reasoning_tokens": 3, "tool_call": True}
    events = await generate(upstream.base_url, script)
    reasoning = [e.delta["reasoning"] for e in events if isinstance(e, Said) and "reasoning" in e.delta]
    calls = [e.delta["tool_call"] for e in events if isinstance(e, Said) and "tool_call" in e.delta]
    assert text_of(events) == script_text(script)
    assert reasoning == script_reasoning(script)
    assert json.loads("".join(c.get("arguments", "") for c in calls)) == {"query": "höchste Flut"}
    assert events[-3:] == [Finish("tool_calls"), Usage(7, 300), End()]


async def test_characters_split_across_reads_stay_whole(upstream: ScriptedProvider) -> None:
    script = {"text": "流れ 🌊 é 👩‍🚀 Fluß", "chunk_bytes": 1}
    assert text_of(await generate(upstream.base_url, script)) == script["text"]


async def test_an_answer_on_uvloop_is_the_same() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def run() -> list[ProviderEvent]:
        async with ScriptedProvider() as upstream:
            return await generate(upstream.base_url, {"tokens": 30}, **FAST)

    runner = asyncio.to_thread(asyncio.Runner, loop_factory=uvloop.new_event_loop)
    events = await asyncio.to_thread((await runner).run, run())
    assert text_of(events) == script_text({"tokens": 30})


@pytest.mark.parametrize("end", ["no_done", "double_done"])
async def test_a_missing_or_doubled_end_mark_is_harmless(upstream: ScriptedProvider, end: str) -> None:
    events = await generate(upstream.base_url, {"tokens": 3, end: True})
    assert text_of(events) == script_text({"tokens": 3})
    assert sum(isinstance(e, End) for e in events) == (1 if end == "double_done" else 0)
    assert [e for e in events if isinstance(e, Finish)] == [Finish("stop")]


async def test_what_follows_the_end_mark_is_ignored_and_a_repeated_reason_is_said_once(
    upstream: ScriptedProvider,
) -> None:
    end = 'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    raw = end.replace('"a"', '"A"') + end.replace('"a"', "null") + "data: [DONE]\n\ndata: garbage\n\n" + end
    assert await generate(upstream.base_url, {"raw": raw}) == [Said({"text": "A"}), Finish("stop"), End()]


@pytest.mark.parametrize("behind", ["data: garbage\n\n", 'data: {"error": "late"}\n\n', "x" * 5000])
async def test_nothing_behind_the_finish_reason_spoils_a_whole_answer(
    upstream: ScriptedProvider, behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.providers.answer.SseParser", lambda: SseParser(max_bytes=4000))
    raw = 'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"length"}]}\n\n' + behind
    assert await generate(upstream.base_url, {"raw": raw}) == [Said({"text": "a"}), Finish("length")]


async def test_a_provider_that_stays_open_behind_its_finish_is_not_waited_for(
    upstream: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.providers.answer.USAGE_WAIT_S", 0.1)
    async with asyncio.timeout(5):
        events = await generate(upstream.base_url, {"tokens": 2, "linger_ms": 60_000})
    assert events[-1] == Usage(7, 2)
    assert await closed(upstream.calls[0]) == "client"


# ---- failures, each by its code


@pytest.mark.parametrize(
    ("script", "code", "retryable", "refusal"),
    [
        ({"status": 400}, "provider_refused", False, True),
        ({"status": 401}, "provider_auth", False, True),
        ({"status": 403}, "provider_auth", False, True),
        ({"status": 404}, "provider_unknown_model", False, True),
        ({"status": 422}, "provider_refused", False, True),
        ({"status": 307}, "provider_refused", False, True),
        ({"status": 429}, "provider_rate_limited", True, False),
        ({"status": 408}, "provider_unavailable", True, False),
        ({"status": 409}, "provider_unavailable", True, False),
        ({"status": 500}, "provider_unavailable", True, False),
        ({"status": 529}, "provider_unavailable", True, False),
        ({"status": 201}, "provider_garbage", True, False),
        ({"cut_after": 0}, "upstream_cut", True, False),
        ({"cut_after": 5}, "upstream_cut", True, False),
        ({"end_after": 5}, "upstream_cut", True, False),
        ({"raw": "data: [DONE]\n\n"}, "upstream_cut", True, False),
        ({"raw": ""}, "upstream_cut", True, False),
        ({"garbage_after": 5}, "provider_garbage", True, False),
        ({"error_after": 5}, "provider_error_event", True, False),
        ({"flood_bytes": 2_000_000}, "provider_too_large", True, False),
        ({"raw": "hello", "content_type": "text/html"}, "provider_garbage", True, False),
        ({"raw": "{}", "content_type": "application/json"}, "provider_garbage", True, False),
        ({"raw": '{"error": "no"}', "content_type": "application/json"}, "provider_refused", False, True),
        ({"headers": {"Content-Encoding": "gzip"}}, "provider_garbage", True, False),
    ],
)
async def test_each_failure_has_its_code(
    upstream: ScriptedProvider, script: dict[str, Any], code: str, retryable: bool, refusal: bool
) -> None:
    error, seen = await refused(upstream.base_url, script)
    assert (error.code, error.retryable, error.refusal) == (code, retryable, refusal)
    assert len(upstream.calls) == 1
    # Whatever came before the failure was yielded before it was raised.
    said = next((script[key] for key in script if key.endswith("_after")), 0)
    assert text_of(seen) == script_text({"tokens": said}) or "flood_bytes" in script


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
async def test_comments_and_empty_deltas_are_no_tokens(
    upstream: ScriptedProvider, hang: dict[str, Any], code: str
) -> None:
    async with asyncio.timeout(5):
        error, _ = await refused(upstream.base_url, {**hang, "keepalive_ms": 20}, **FAST)
    assert error.code == code


async def test_a_socket_that_accepts_and_never_answers_times_out_at_the_first_token() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error, _ = await refused(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", {}, **FAST)
    assert error.code == "first_token_timeout"


async def test_steady_tokens_outlast_every_timeout(upstream: ScriptedProvider) -> None:
    script = {"tokens": 30, "interval_ms": 40}
    events = await generate(upstream.base_url, script, first_token_timeout_s=0.6, idle_timeout_s=0.6)
    assert text_of(events) == script_text(script)


async def test_a_slow_reader_does_not_make_the_provider_look_silent(upstream: ScriptedProvider) -> None:
    script = {"tokens": 4, "interval_ms": 1}
    settings = Settings(**{**CALM, "idle_timeout_s": 0.2, "first_token_timeout_s": 0.2})
    async with ProviderClient(settings) as client:
        events = []
        async for event in client.generate(at(upstream.base_url), ask(script)):
            events.append(event)
            await asyncio.sleep(0.25)
    assert text_of(events) == script_text(script)


async def test_a_refused_connection_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error, _ = await refused(f"http://127.0.0.1:{port}/v1", {})
    assert (error.code, error.retryable, error.refusal) == ("provider_unreachable", True, False)
    assert "LOCAL_BASE_URL" in str(error)


async def test_a_connection_that_is_not_taken_in_time_is_a_connect_timeout() -> None:
    # A full accept queue: the kernel drops what comes after it.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        try:
            error, _ = await refused(
                f"http://127.0.0.1:{full.getsockname()[1]}/v1", {}, connect_timeout_s=0.3
            )
        finally:
            for one in waiting:
                one.close()
    assert (error.code, error.retryable) == ("provider_connect_timeout", True)


async def test_a_peer_that_hangs_up_before_answering_is_unreachable_and_not_a_timeout() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error, _ = await refused(f"http://127.0.0.1:{port}/v1", {})
    assert error.code == "provider_unreachable"


async def test_a_peer_that_speaks_no_http_is_garbage() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error, _ = await refused(f"http://127.0.0.1:{port}/v1", {})
    assert error.code == "provider_garbage"


@pytest.mark.parametrize(
    "base_url", ["", "localhost:1/v1", "ftp://127.0.0.1/v1", "http://[::1/v1", "http:///v1"]
)
async def test_an_address_that_is_none_names_its_variable(base_url: str) -> None:
    error, _ = await refused(base_url, {})
    assert (error.code, error.refusal) == ("provider_unreachable", True)
    assert "LOCAL_BASE_URL" in str(error)


async def test_a_key_that_no_header_can_carry_is_an_auth_error_without_the_key(
    upstream: ScriptedProvider,
) -> None:
    for key in ("schlüssel-geheim", "two\nlines-geheim"):
        async with ProviderClient(Settings(**CALM)) as client:
            with pytest.raises(ProviderError) as caught:
                await anext(client.generate(at(upstream.base_url, key), ask({})))
        assert caught.value.code == "provider_auth"
        assert "geheim" not in str(caught.value)
        assert "LOCAL_API_KEY" in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
async def test_the_providers_own_sentence_is_passed_on_without_the_key(
    upstream: ScriptedProvider, status: int
) -> None:
    body = {"error": {"message": "No good:\n{authorization} " + "x" * 10_000}}
    error, _ = await refused(upstream.base_url, {"status": status, "body": body})
    assert "No good: Bearer [key] xxx" in str(error)
    assert len(str(error)) <= 500


async def test_an_endless_error_body_is_read_up_to_its_bound_only(upstream: ScriptedProvider) -> None:
    error, _ = await refused(upstream.base_url, {"status": 400, "body": "busy " * 100_000})
    assert "busy busy" in str(error)
    assert len(str(error)) <= 500
    assert await closed(upstream.calls[0]) == "client"


async def test_a_key_echoed_by_an_error_in_the_stream_is_taken_out(upstream: ScriptedProvider) -> None:
    raw = 'data: {"error": {"message": "who is ' + KEY + '?"}}\n\n'
    error, _ = await refused(upstream.base_url, {"raw": raw})
    assert "who is [key]?" in str(error)


async def test_an_auth_error_names_the_variable_to_set(upstream: ScriptedProvider) -> None:
    error, _ = await refused(upstream.base_url, {"status": 401})
    assert "LOCAL_API_KEY" in str(error)


# ---- trying again


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
    async with asyncio.timeout(10):
        await refused(upstream.base_url, {"status": 503}, provider_tries=1000, provider_retry_s=0.8)
    assert 2 <= len(upstream.calls) <= 4


async def test_retry_after_is_waited_for(upstream: ScriptedProvider) -> None:
    await generate(upstream.base_url, {"name": "a", "status": 429, "retry_after": 1, "fail_times": 1})
    first, second = upstream.calls
    assert second.started - first.started >= 1


async def test_a_retry_after_beyond_the_time_left_ends_it_at_once(upstream: ScriptedProvider) -> None:
    script = {"status": 429, "retry_after": 3600}
    async with asyncio.timeout(5):
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
async def test_what_is_no_passing_refusal_is_not_tried_again(
    upstream: ScriptedProvider, script: dict[str, Any]
) -> None:
    await refused(upstream.base_url, script, provider_tries=4)
    assert len(upstream.calls) == 1


async def test_a_provider_that_is_not_up_yet_is_tried_until_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
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
        *((bad, None) for bad in (None, "", "soon", "-1", "nan", "inf", "1e9", "9" * 40, "Fri, 99 Jan 2026")),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


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
    assert (
        Tries(2, 10, clock=lambda: 0).delay_after(ProviderError("upstream_cut", "", retryable=True)) is None
    )


# ---- closing


@pytest.mark.parametrize(
    "script", [{"hang_before_first": True}, {"hang_after": 2}, {"tokens": 5000, "interval_ms": 5}]
)
async def test_cancelling_closes_the_upstream_at_once_also_while_it_is_silent(
    upstream: ScriptedProvider, script: dict[str, Any]
) -> None:
    asking = asyncio.create_task(generate(upstream.base_url, script))
    async with asyncio.timeout(5):
        while not (upstream.calls and upstream.calls[0].sent >= script.get("hang_after", 0)):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    before = asyncio.get_running_loop().time()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await closed(upstream.calls[0]) == "client"
    assert asyncio.get_running_loop().time() - before < 1


async def test_closing_the_generator_closes_the_upstream_but_not_the_client(
    upstream: ScriptedProvider,
) -> None:
    async with ProviderClient(Settings(**CALM)) as client:
        events = client.generate(at(upstream.base_url), ask({"tokens": 5000, "interval_ms": 5}))
        await anext(events)
        await events.aclose()
        assert await closed(upstream.calls[0]) == "client"


async def test_cancelling_while_it_waits_to_try_again_ends_the_wait(upstream: ScriptedProvider) -> None:
    asking = asyncio.create_task(generate(upstream.base_url, {"status": 429, "retry_after": 10}))
    async with asyncio.timeout(5):
        while not upstream.calls:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_timeout_and_a_cancellation_at_once_stay_a_cancellation(upstream: ScriptedProvider) -> None:
    async with ProviderClient(Settings(**{**CALM, "first_token_timeout_s": 0.2})) as client:
        events = client.generate(at(upstream.base_url), ask({"hang_before_first": True}))
        asking = asyncio.create_task(collect(events, []))
        # The timer has asked for its cancellation, and the task has not run yet: now comes ours.
        async with asyncio.timeout(5):
            while not asking.cancelling():
                await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_reader_that_stops_holds_the_provider_by_tcp(upstream: ScriptedProvider) -> None:
    script = {"tokens": 200_000}
    async with ProviderClient(Settings(**CALM)) as client:
        events = client.generate(at(upstream.base_url), ask(script))
        await anext(events)
        sent = -1
        async with asyncio.timeout(10):
            while upstream.calls[0].sent != sent:
                sent = upstream.calls[0].sent
                await asyncio.sleep(0.3)
        assert sent < 100_000
        await events.aclose()


async def test_more_streams_than_the_transports_own_limit_run_at_once(upstream: ScriptedProvider) -> None:
    async with ProviderClient(Settings(**CALM)) as client:

        async def one() -> str:
            script = {"name": "crowd", "hang_after": 1, "tokens": 2}
            return text_of([e async for e in client.generate(at(upstream.base_url), ask(script))])

        crowd = [asyncio.create_task(one()) for _ in range(120)]
        async with asyncio.timeout(20):
            while sum(call.sent for call in upstream.calls) < 120:
                await asyncio.sleep(0.02)
            upstream.release("crowd")
            assert set(await asyncio.gather(*crowd)) == {script_text({"tokens": 2})}
