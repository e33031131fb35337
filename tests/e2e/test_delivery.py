"""What reaches a viewer is the answer, whole, whatever the viewer does."""

import asyncio

import pytest

from tests.support.script import script_text
from tests.support.stack import Stack
from tests.support.viewing import Seen, view, view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT = {"tokens": 60, "interval_ms": 15, "seed": 3}


async def test_a_viewer_gets_the_answer_token_by_token_and_the_end(shared_stack: Stack) -> None:
    made = await shared_stack.create(SCRIPT)
    seen = await view_to_end(shared_stack.client, made["events_url"])
    assert seen.text == script_text(SCRIPT)
    assert seen.types == ["started", "finishing", "done"]
    assert len(seen.events) > 40
    record = await shared_stack.record(made["id"])
    assert record["text"] == seen.text
    assert record["status"] == "done"
    assert record["last_event_id"] == seen.last_id
    assert record["usage"]["output_tokens"] == 60


@pytest.mark.parametrize("every", [1, 2, 3, 7])
async def test_a_viewer_that_drops_after_every_few_events_assembles_the_exact_text(
    shared_stack: Stack, every: int
) -> None:
    made = await shared_stack.create(SCRIPT)
    seen = await view_to_end(shared_stack.client, made["events_url"], drop_every=every)
    assert seen.text == script_text(SCRIPT)
    assert len(seen.ids) == len(set(seen.ids))


async def test_two_viewers_see_the_same_ids(shared_stack: Stack) -> None:
    made = await shared_stack.create(SCRIPT)
    one, two = await asyncio.gather(
        view_to_end(shared_stack.client, made["events_url"]),
        view_to_end(shared_stack.client, made["events_url"], drop_every=5),
    )
    late = await view_to_end(shared_stack.client, made["events_url"])
    assert one.told_ids == two.told_ids == late.told_ids
    assert one.types == late.types


async def test_a_finished_stream_is_told_whole_and_then_answers_204(shared_stack: Stack) -> None:
    made = await shared_stack.create({"tokens": 30})
    await shared_stack.until_status(made["id"], "done")
    seen = await view_to_end(shared_stack.client, made["events_url"])
    assert seen.text == script_text({"tokens": 30})
    again = await shared_stack.client.get(made["events_url"], headers={"Last-Event-ID": seen.last_id})
    assert again.status_code == 204
    by_query = await shared_stack.client.get(made["events_url"], params={"last_event_id": seen.last_id})
    assert by_query.status_code == 204


async def test_the_header_beats_the_query(shared_stack: Stack) -> None:
    made = await shared_stack.create({"tokens": 5})
    seen = await view_to_end(shared_stack.client, made["events_url"])
    url = f"{made['events_url']}?last_event_id={seen.ids[1]}"
    rest = await view(shared_stack.client, url, Seen(ids=[seen.ids[3]]))
    assert rest.ids[1:] == seen.ids[4:]


async def test_reasoning_and_tool_calls_reach_the_record(shared_stack: Stack) -> None:
    made = await shared_stack.create({"tokens": 3, "reasoning_tokens": 4, "tool_call": True})
    record = await shared_stack.until_status(made["id"], "done")
    assert record["reasoning"]
    assert record["tool_calls"][0]["arguments"] == '{"query": "höchste Flut"}'
    assert record["finish_reason"] == "tool_calls"


async def test_a_cursor_that_was_never_there_leads_to_a_snapshot(shared_stack: Stack) -> None:
    script = {"tokens": 40, "interval_ms": 20, "hang_after": 20, "name": "snap"}
    made = await shared_stack.create(script)
    await shared_stack.until_said(made["id"], 10)
    viewing = asyncio.create_task(view(shared_stack.client, made["events_url"], Seen(ids=["1-1"])))
    await asyncio.sleep(0.3)
    shared_stack.provider.release("snap")
    seen = await viewing
    assert seen.types[0] == "snapshot"
    assert seen.text == script_text(script)
    assert seen.ended


async def test_a_cursor_ahead_of_the_log_leads_to_a_snapshot(shared_stack: Stack) -> None:
    made = await shared_stack.create({"tokens": 5})
    await shared_stack.until_status(made["id"], "done")
    seen = await view(shared_stack.client, made["events_url"], Seen(ids=["99999999999999-5"]))
    assert seen.types[0] == "snapshot"
    assert seen.text == script_text({"tokens": 5})


async def test_an_erased_stream_ends_its_viewers_and_is_gone(shared_stack: Stack) -> None:
    made = await shared_stack.create({"tokens": 50, "interval_ms": 50, "name": "erase"})
    await shared_stack.until_said(made["id"])
    viewing = asyncio.create_task(view(shared_stack.client, made["events_url"]))
    await asyncio.sleep(0.3)
    assert (await shared_stack.client.delete(made["url"])).status_code == 204
    seen = await asyncio.wait_for(viewing, 90)
    assert seen.events[-1][0] == "failed"
    assert seen.events[-1][1]["code"] == "stream_gone"
    assert (await shared_stack.client.get(made["url"])).status_code == 404
    assert (await shared_stack.client.get(made["events_url"])).status_code == 404
    async with asyncio.timeout(60):
        while shared_stack.calls("erase")[0].closed_by is None:
            await asyncio.sleep(0.02)
