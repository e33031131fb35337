"""Attacks by a provider: answers without an end, without a word, or packed to burst."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable

from tests.hostile.attack import Attack, Told
from tests.hostile.wire import outcome_of
from tests.hostile.world import ENDED, World

AT_ONCE = 4
WITHIN_S = 20.0
ANSWER_MB = 4
"""HEADRACE_MAX_ANSWER_BYTES."""
GROWTH_MB = {"worker": 160, "api": 96, "redis": 160}
"""Four answers of 4 MiB at once: the text, its snapshot and what is on its way, and Python's strings of them."""


def _each(
    harm: str, *, ends: bool = True, at_once: int = AT_ONCE, within_s: float = WITHIN_S, most_mb: float = 64
) -> Callable[[World, Told], Awaitable[None]]:
    """An attack: so many answers that do this harm at once. Each stream ends, and its connection to the provider is
    closed, within this time; the provider gets rid of at most ``most_mb`` for each."""

    async def run(world: World, told: Told) -> None:
        name = f"{harm} {time.monotonic()}"
        made = await asyncio.gather(*(world.ask_harm(told, harm, name) for _ in range(at_once)))
        ids = [one["id"] for one in made if one]
        told.expect(len(ids) == at_once, "a create was refused")
        told.outcomes.clear()
        began = time.monotonic()
        records = await asyncio.gather(*(world.until_ended(stream_id, within_s) for stream_id in ids))
        for record in records:
            error = (record.get("error") or {}).get("code", "")
            limit = record.get("limit") or ""
            how = " ".join(filter(None, (record.get("status", "gone"), record.get("finish_reason"), error, limit)))
            told.outcomes[how] += 1
            size = len(str(record.get("text", "")).encode()) / 1024 / 1024
            told.expect(size <= ANSWER_MB + 1, f"an answer of {size:.0f} MiB")
        if ends:
            running = sum(record.get("status") not in ENDED for record in records)
            told.expect(not running, f"{running} streams had not ended after {time.monotonic() - began:.0f} s")
        while world.harm.calls[name].open and time.monotonic() < began + within_s + 1:
            await asyncio.sleep(0.05)
        call = world.harm.calls[name]
        told.expect(not call.open, f"{call.open} connections to the provider are still open")
        told.figures.append(f"{call.sent / 1024 / 1024:.0f} MB sent, {(call.closed_at or began) - began:.1f} s")
        sent = call.sent / 1024 / 1024 / max(1, call.calls)
        told.expect(sent <= most_mb, f"{sent:.0f} MB taken of one answer")
        # Reading what came of it must be cheap as well.
        ended = [stream_id for stream_id, record in zip(ids, records, strict=True) if record.get("status") in ENDED]
        for stream_id in ended[:2]:
            answer = await world.mallory.get(f"/v1/streams/{stream_id}/events")
            told.expect(
                answer.status_code in (200, 204), f"events: {outcome_of(answer.status_code, answer.content)}"
            )

    return run


async def redirects(world: World, told: Told) -> None:
    """A provider that points elsewhere is not followed: no key goes to a third server."""
    before = len(world.harm.elsewhere)
    for to in (
        f"{world.harm.url}/elsewhere",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "//x/y",
        "gopher://x",
    ):
        made = await world.ask_harm(told, "redirect", f"redirect {to}", to=to)
        record = await world.until_ended(made["id"], WITHIN_S)
        told.outcomes[f"{record.get('status')} {(record.get('error') or {}).get('code')}"] += 1
    told.expect(len(world.harm.elsewhere) == before, f"followed to {world.harm.elsewhere[before:]}")


async def terminal_escapes(world: World, told: Told) -> None:
    """What a provider or a caller sends never reaches a log as bytes that a terminal obeys."""
    made = await world.ask_harm(told, "terminal escapes")
    await world.until_ended(made["id"], WITHIN_S)
    for value in ("\x1b[2Jx", "a\nfake", "\x9b31m"):
        answer = await world.mallory.post("/v1/streams", json={"prompt": "x", "model": value, value: value})
        told.outcomes[outcome_of(answer.status_code, answer.content)] += 1
    for child in (*world.stack.apis, *world.stack.workers):
        found = re.findall(rb"[\x00-\x08\x0b-\x1f\x7f]", child.log.read_bytes())
        told.expect(not found, f"control characters in the log of {child.name}: {set(found)}")


ATTACKS = (
    Attack("text without an end", _each("endless text"), ("done length",), growth_mb=GROWTH_MB),
    Attack("text behind the finish", _each("text behind the finish"), ("done", "failed"), growth_mb=GROWTH_MB),
    Attack("bytes behind [DONE]", _each("bytes behind [DONE]", within_s=3), ("done",), short=True),
    Attack("comments behind [DONE]", _each("comments behind [DONE]", within_s=3), ("done",)),
    Attack("300 tool ids of 900 kB", _each("large tool ids", at_once=2), ("done", "failed"), growth_mb=GROWTH_MB),
    Attack("100,000 tool calls", _each("many tool calls", at_once=2), ("done", "failed"), growth_mb=GROWTH_MB),
    Attack("a tool's name without an end", _each("an endless tool name", at_once=2), ("done", "failed")),
    Attack("a line without an end", _each("an endless line"), ("failed provider_too_large",)),
    Attack("a head without an end", _each("an endless head"), ("failed",), short=True),
    Attack("a status line without an end", _each("an endless status line"), ("failed",)),
    Attack("informational heads without an end", _each("endless informational heads"), ("failed",), where="tight"),
    Attack("an error page without an end", _each("an endless error", within_s=30), ("failed",)),
    Attack("a gzip bomb", _each("a gzip bomb"), ("done length", "failed"), growth_mb=GROWTH_MB),
    Attack("a Retry-After of 300 digits", _each("a late Retry-After", within_s=30), ("failed provider_rate",)),
    Attack("a Retry-After of the year 10^19", _each("the year 10^19", within_s=30), ("failed provider_rate",)),
    Attack("redirects", redirects, ("failed",), ("202",), short=True),
    Attack("terminal escapes", terminal_escapes, ("422",), ("202",), short=True),
    Attack(
        "a firehose of empty deltas",
        _each("empty deltas", most_mb=4096),
        ("failed",),
        where="tight",
    ),
    Attack("a firehose of comments", _each("comments", most_mb=4096), ("failed",), where="tight"),
    Attack("empty deltas, drop by drop", _each("dripping nothing"), ("failed upstream_silent",), where="tight"),
)
