"""Stopping: the record, the viewers and the upstream all learn of it."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.stack import Stack, running_stack
from tests.support.viewing import view, view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOSED_WITHIN_S = 3.0
"""A generous reading of one second; it usually takes some milliseconds."""


async def closed_after(stack: Stack, name: str, since: float) -> float:
    """How long after ``since`` the client closed the call of this name (s)."""
    async with asyncio.timeout(CLOSED_WITHIN_S):
        while stack.calls(name)[0].closed_at is None:
            await asyncio.sleep(0.005)
    call = stack.calls(name)[0]
    assert call.closed_by == "client"
    assert call.closed_at is not None
    return call.closed_at - since


@pytest.mark.parametrize(
    "script",
    [
        {"name": "speaking", "tokens": 500, "interval_ms": 20},
        {"name": "silent", "tokens": 50, "hang_after": 5},
        {"name": "mute", "tokens": 50, "hang_before_first": True},
    ],
    ids=lambda script: script["name"],
)
async def test_a_cancel_closes_the_upstream_at_once(shared_stack: Stack, script: dict) -> None:
    made = await shared_stack.create(script)
    viewing = asyncio.create_task(view_to_end(shared_stack.client, made["events_url"]))
    async with asyncio.timeout(60):
        while not shared_stack.calls(script["name"]) or (
            not shared_stack.calls(script["name"])[0].sent and "hang_before_first" not in script
        ):
            await asyncio.sleep(0.01)
    cancelled_at = time.monotonic()
    answer = await shared_stack.client.post(f"{made['url']}/cancel")
    assert answer.json()["status"] == "cancelled"
    took_s = await closed_after(shared_stack, script["name"], cancelled_at)
    print(f"{script['name']}: upstream closed {took_s * 1000:.0f} ms after the cancel")
    seen = await viewing
    assert seen.types[-1] == "cancelled"
    record = await shared_stack.record(made["id"])
    assert record["status"] == "cancelled"
    assert record["text"] == seen.text
    assert len(shared_stack.calls(script["name"])) == 1


async def test_a_queued_stream_can_be_cancelled_and_is_never_run(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=0) as stack:
        made = await stack.create({"name": "early"})
        await stack.client.post(f"{made['url']}/cancel", json={"reason": "changed my mind"})
        seen = await view(stack.client, made["events_url"])
        assert seen.events[-1] == ("cancelled", {"by": "client", "reason": "changed my mind"})
        later = await stack.create({"tokens": 1})
        await stack.add_worker()
        await stack.until_status(later["id"], "done")
        assert stack.calls("early") == []


async def test_cancelling_again_or_too_late_changes_nothing(shared_stack: Stack) -> None:
    made = await shared_stack.create({"tokens": 3})
    done = await shared_stack.until_status(made["id"], "done")
    answer = await shared_stack.client.post(f"{made['url']}/cancel")
    assert answer.status_code == 200
    assert answer.json()["status"] == "done"
    after = await shared_stack.record(made["id"])
    assert after["last_event_id"] == done["last_event_id"]


async def test_cancelling_what_does_not_exist_is_a_404(shared_stack: Stack) -> None:
    answer = await shared_stack.client.post("/v1/streams/AAAAAAAAAAAAAAAAAAAAAAAA/cancel")
    assert answer.status_code == 404
    assert answer.json()["code"] == "stream_not_found"
