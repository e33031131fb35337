"""An API process that stops, or dies, under its viewers."""

import asyncio

from tests.support.script import script_text
from tests.support.stack import Stack
from tests.support.viewing import Seen, view, view_to_end

SCRIPT = {"tokens": 60, "interval_ms": 40, "seed": 3}


async def test_an_api_that_stops_sends_its_viewers_elsewhere_and_they_miss_nothing(stack: Stack) -> None:
    await stack.add_api()
    made = await stack.create(SCRIPT)
    first = asyncio.create_task(view(stack.client, made["events_url"]))
    await asyncio.sleep(0.8)
    stack.apis[0].terminate()
    seen = await first
    assert not seen.ended
    assert seen.events
    seen = await view(stack.client, stack.apis[1].url + made["events_url"], seen)
    assert seen.text == script_text(SCRIPT)
    assert seen.types.count("started") == 1


async def test_a_killed_api_loses_nothing_for_viewers_that_resume_elsewhere(stack: Stack) -> None:
    await stack.add_api()
    made = await stack.create(SCRIPT)
    seen = Seen()
    first = asyncio.create_task(view(stack.client, made["events_url"], seen))
    await asyncio.sleep(0.8)
    stack.apis[0].kill()
    await asyncio.gather(first, return_exceptions=True)
    assert seen.events
    assert not seen.ended
    seen = await view(stack.client, stack.apis[1].url + made["events_url"], seen)
    assert seen.text == script_text(SCRIPT)
    late = await view_to_end(stack.client, stack.apis[1].url + made["events_url"])
    assert late.text == seen.text
