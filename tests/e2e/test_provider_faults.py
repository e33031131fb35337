"""Everything a provider can do wrong, end to end: a stable code, or an exact answer after another try."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cli.up.sockets import free_port
from tests.support.bare_provider import MIB, WHOLE, WORDS, bare_provider, bulk_text
from tests.support.proc import peak
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """One worker that loses patience soon; ``local`` is the scripted provider, ``openai`` the bare one."""
    directory: Path = tmp_path_factory.mktemp("provider-faults")
    async with (
        bare_provider() as bare_url,
        running_stack(
            directory,
            HEADRACE_FIRST_TOKEN_TIMEOUT_S="1",
            HEADRACE_IDLE_TIMEOUT_S="1",
            HEADRACE_LIVENESS_TIMEOUT_S="2",
            HEADRACE_MAX_ANSWER_BYTES=str(16 * MIB),
            HEADRACE_PROVIDER_RETRY_S="3",
            OPENAI_BASE_URL=bare_url,
            OPENAI_API_KEY="sk-for-nobody",
            GROQ_BASE_URL=f"http://127.0.0.1:{free_port()}/v1",
            GROQ_API_KEY="gsk-for-nobody",
        ) as made,
    ):
        yield made


BREAKS: list[tuple[dict[str, Any], str, bool]] = [
    ({"hang_before_first": True}, "first_token_timeout", False),
    ({"hang_after": 8}, "upstream_silent", True),
    ({"hang_after": 8, "keepalive_ms": 100}, "upstream_silent", True),
    ({"cut_after": 8}, "upstream_cut", True),
    ({"end_after": 8}, "upstream_cut", True),
    ({"garbage_after": 8}, "provider_garbage", True),
    ({"error_after": 8}, "provider_error_event", True),
    ({"raw": "hello", "content_type": "text/html"}, "provider_garbage", False),
]


def named(value: Any) -> str | None:
    return "-".join(value) if isinstance(value, dict) else None


@pytest.mark.parametrize(("script", "code", "said"), BREAKS, ids=named)
async def test_an_attempt_that_breaks_off_ends_with_its_code(
    stack: Stack, script: dict[str, Any], code: str, said: bool
) -> None:
    script = {"name": f"fail {named(script)}", **script}
    made = await stack.create(script, on_failure="fail")
    seen = await view_to_end(stack.client, made["events_url"])
    kind, data = seen.events[-1]
    assert (kind, data["code"], data["retryable"]) == ("failed", code, "raw" not in script)
    record = await stack.record(made["id"])
    assert record["error"]["code"] == code
    assert seen.text == record["text"]
    assert script_text(script).startswith(seen.text)
    assert bool(seen.text) == said
    assert len(stack.calls(script["name"])) == 1


@pytest.mark.parametrize(
    ("script", "said"), [(script, said) for script, _, said in BREAKS if "raw" not in script], ids=named
)
async def test_an_attempt_that_breaks_off_is_followed_by_a_whole_one(
    stack: Stack, script: dict[str, Any], said: bool
) -> None:
    script = {"name": f"again {named(script)}", "numbered": True, "fail_times": 1, **script}
    made = await stack.create(script, on_failure="restart")
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.types[-1] == "done"
    assert ("restart" in seen.types) == said
    assert seen.text == (await stack.record(made["id"]))["text"] == script_text(script, call=2)


def cuts() -> list[int]:
    """Inside characters of two, three and four bytes, inside the words of an event, and between events."""
    return [
        WHOLE.index("Über".encode()) + 1,
        WHOLE.index("流".encode()) + 2,
        WHOLE.index("🌊".encode()) + 3,
        WHOLE.index(b'"delta"') + 3,
        WHOLE.index(b"\n\n") + 1,
        WHOLE.index(b"\n\n") + 2,
        WHOLE.index(b'"stop"'),
        2,
        0,
    ]


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_provider_that_closes_inside_a_character_or_an_event_leaves_no_trace(
    stack: Stack, how: str
) -> None:
    async def one(cut: int) -> tuple[int, str, str]:
        script = {"name": f"{how} {cut}", "cut": cut, "how": how}
        made = await stack.create(script, model="openai/bare", on_failure="restart")
        seen = await view_to_end(stack.client, made["events_url"])
        return cut, seen.types[-1], seen.text

    for cut, end, text in await asyncio.gather(*map(one, cuts())):
        assert (end, text) == ("done", "".join(WORDS)), cut


async def test_text_before_a_cut_inside_a_character_is_kept_when_it_fails(stack: Stack) -> None:
    script = {"name": "kept", "cut": WHOLE.index("🌊".encode()) + 2, "how": "end"}
    made = await stack.create(script, model="openai/bare", on_failure="fail")
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.events[-1][1]["code"] in ("upstream_cut", "provider_garbage")
    assert seen.text == "".join(WORDS[:4])


async def test_ten_megabytes_at_once_arrive_whole_and_cost_a_few_times_their_size(tmp_path: Path) -> None:
    """By a worker with a patience as it is shipped: on a busy machine it has more to do with them than a second."""
    most = {"HEADRACE_MAX_ANSWER_BYTES": str(16 * MIB), "OPENAI_API_KEY": "sk-for-nobody"}
    async with bare_provider() as url, running_stack(tmp_path, OPENAI_BASE_URL=url, **most) as stack:
        await stack.until_status((await stack.create({"tokens": 1}))["id"], "done")
        before = peak(stack.workers[0].pid)
        made = await stack.create({"bulk": 10}, model="openai/bare")
        seen = await view_to_end(stack.client, made["events_url"])
        assert seen.types[-1] == "done"
        assert seen.text == bulk_text(10)
        grown = peak(stack.workers[0].pid) - before
    print(f"10 MiB in one read: {grown:.1f} MiB more")
    # The snapshot, what was sent within the last seconds, and the pieces of both on their way.
    assert grown < 90


async def test_an_endless_line_is_given_up_long_before_it_fills_the_memory(stack: Stack) -> None:
    before = peak(stack.workers[0].pid)
    made = await stack.create({"name": "endless", "flood_bytes": 256 * MIB}, on_failure="fail")
    seen = await view_to_end(stack.client, made["events_url"])
    # On a busy machine its two seconds without content may be over first.
    assert seen.events[-1][1]["code"] in ("provider_too_large", "upstream_silent")
    grown = peak(stack.workers[0].pid) - before
    print(f"an endless line: {grown:.1f} MiB more")
    assert grown < 20
    assert (await stack.until_closed("endless")).closed_by == "client"


async def test_a_429_is_tried_again_when_it_says_so_and_not_before(stack: Stack) -> None:
    script = {"name": "later", "status": 429, "retry_after": 1, "fail_times": 1, "numbered": True}
    made = await stack.create(script)
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.types == ["started", "finishing", "done"]
    assert seen.text == script_text(script, call=2)
    one, two = stack.calls("later")
    assert two.started - one.started >= 1.0


async def test_a_429_that_asks_for_more_than_the_time_is_told_at_once(stack: Stack) -> None:
    began = time.monotonic()
    made = await stack.create({"name": "never", "status": 429, "retry_after": 600}, on_failure="fail")
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.events[-1][1]["code"] == "provider_rate_limited"
    assert time.monotonic() - began < 10
    assert len(stack.calls("never")) == 1


@pytest.mark.parametrize(
    "script",
    [
        {"no_done": True},
        {"double_done": True},
        {"no_done": True, "usage": False},
        {"chunk_bytes": 1},
        {"double_done": True, "chunk_bytes": 3},
    ],
    ids=named,
)
async def test_an_end_mark_too_many_or_missing_changes_nothing(stack: Stack, script: dict[str, Any]) -> None:
    made = await stack.create({"name": named(script), **script})
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.types == ["started", "finishing", "done"]
    assert seen.text == script_text(script)


async def test_a_refusal_fails_at_once_with_the_provider_s_words(stack: Stack) -> None:
    body = {"error": {"message": "max_tokens is too large"}}
    made = await stack.create({"name": "refused", "status": 400, "body": body})
    seen = await view_to_end(stack.client, made["events_url"])
    data = seen.events[-1][1]
    assert (data["code"], data["retryable"]) == ("provider_refused", False)
    assert "max_tokens is too large" in data["message"]
    assert len(stack.calls("refused")) == 1


async def test_a_failed_connection_is_explained_in_the_record_and_in_the_workers_log(stack: Stack) -> None:
    made = await stack.create("hello", model="groq/any", on_failure="fail")
    record = await stack.until_status(made["id"], "failed")
    assert record["error"]["code"] == "provider_unreachable"
    assert "connection refused" in record["error"]["message"]
    [line, *_] = [line for line in stack.workers[0].output().splitlines() if "provider_not_reached" in line]
    assert "groq" in line
    assert "connection refused" in line
