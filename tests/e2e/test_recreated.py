"""A stream that was erased, and made again under the same Idempotency-Key: its id is the same, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.support.script import script_text
from tests.support.stack import Stack, running_stack
from tests.support.viewing import Seen, view, view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT: Final = {"tokens": 20, "interval_ms": 5, "seed": 4}
LONG: Final = {"tokens": 60, "interval_ms": 50, "seed": 5}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """With a shared buffer that outlives its viewers for long."""
    async with running_stack(tmp_path_factory.mktemp("again"), HEADRACE_LINGER_S="60") as made:
        yield made


async def make(stack: Stack, script: dict[str, Any], key: str) -> dict[str, Any]:
    return await stack.create(script, headers={"Idempotency-Key": key})


async def make_again(stack: Stack, made: dict[str, Any], script: dict[str, Any], key: str) -> None:
    """Erase it and make it again, one behind the other."""
    assert (await stack.client.delete(made["url"])).status_code == 204
    assert (await make(stack, script, key))["id"] == made["id"]


@pytest.mark.parametrize("query", ["", "?batch_size=4"])
async def test_a_viewer_with_the_old_end_gets_the_new_answer(stack: Stack, query: str) -> None:
    key = f"ended{query}"
    made = await make(stack, SHORT, key)
    url = made["events_url"] + query
    old = await view_to_end(stack.client, url)
    await make_again(stack, made, LONG, key)
    answer = stack.client.stream("GET", url, headers={"Last-Event-ID": old.last_id})
    async with answer as response:
        assert response.status_code == 200
    came_back, new = await asyncio.gather(
        view(stack.client, url, Seen(ids=list(old.ids))), view_to_end(stack.client, url)
    )
    assert new.text == came_back.text == script_text(LONG)


async def test_a_viewer_that_reads_meanwhile_is_told_and_gets_nothing_of_the_new_answer(
    stack: Stack,
) -> None:
    made = await make(stack, LONG, "running")
    old = Seen()
    reading = [asyncio.create_task(view(stack.client, made["events_url"], seen)) for seen in (old, Seen())]
    async with asyncio.timeout(60):
        while len(old.text) < 10:
            await asyncio.sleep(0.02)
    await make_again(stack, made, SHORT, "running")
    new = await view_to_end(stack.client, made["events_url"])
    assert new.text == script_text(SHORT)
    await asyncio.gather(*reading)
    assert [kind for kind, _ in old.events].count("queued") <= 1
    assert script_text(LONG).startswith(old.text)
    kind, data = old.events[-1]
    assert (kind, data["code"]) == ("failed", "stream_gone")
