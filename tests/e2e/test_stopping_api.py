"""An API process that stops, or dies, under its viewers."""

import asyncio

from tests.support.script import script_text
from tests.support.stack import Stack
from tests.support.viewing import Seen, view, view_to_end

SCRIPT = {"tokens": 60, "interval_ms": 5, "seed": 3, "hang_after": 30, "name": "held"}


async def begin(stack: Stack) -> tuple[str, Seen, asyncio.Task[Seen]]:
    """Add an API process, and begin to view an answer at the first one. Out, when it is in its middle: the path of
    its events, what the viewer has seen, and the viewer's task."""
    await stack.add_api()
    path, seen = str((await stack.create(SCRIPT))["events_url"]), Seen()
    viewing = asyncio.create_task(view(stack.client, path, seen))
    async with asyncio.timeout(60):
        while len(seen.text) < 20:
            await asyncio.sleep(0.01)
    return path, seen, viewing


async def test_an_api_that_stops_sends_its_viewers_elsewhere_and_they_miss_nothing(stack: Stack) -> None:
    path, seen, viewing = await begin(stack)
    stack.apis[0].terminate()
    await viewing
    assert not seen.ended
    stack.provider.release("held")
    await view(stack.client, stack.apis[1].url + path, seen)
    assert seen.text == script_text(SCRIPT)
    assert seen.types.count("started") == 1


async def test_a_killed_api_loses_nothing_for_viewers_that_resume_elsewhere(stack: Stack) -> None:
    path, seen, viewing = await begin(stack)
    stack.apis[0].kill()
    await asyncio.gather(viewing, return_exceptions=True)
    assert not seen.ended
    stack.provider.release("held")
    await view(stack.client, stack.apis[1].url + path, seen)
    assert seen.text == script_text(SCRIPT)
    late = await view_to_end(stack.client, stack.apis[1].url + path)
    assert late.text == seen.text
