"""All of Headrace behind Sentinel: log, queue and wake-ups on one master, which is killed under load."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from cli.doctor.command import examine
from shared.config.settings import load
from tests.support.script import script_text
from tests.support.sentinel import Watched, running_sentinels
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view_to_end

WITHIN_S = 90.0
STREAMS = 8

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with running_sentinels(tmp_path_factory.mktemp("sentinels")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    directory: Path = tmp_path_factory.mktemp("stack")
    async with running_stack(directory, workers=2, HEADRACE_REDIS_URL=watched.url) as made:
        yield made


async def test_the_doctor_finds_the_master_and_nothing_to_mend(stack: Stack) -> None:
    found = await examine(load(stack.env()))
    assert {finding.check for finding in found if finding.state == "mend"} == set()


async def test_a_cancel_is_heard_at_once(stack: Stack) -> None:
    made = await stack.create({"tokens": 500, "interval_ms": 20, "name": "stop"})
    await stack.until_said(made["id"])
    assert (await stack.client.post(f"{made['url']}/cancel")).json()["status"] == "cancelled"
    assert (await view_to_end(stack.client, made["events_url"])).types[-1] == "cancelled"


async def test_a_fail_over_under_load_doubles_no_text_and_every_stream_ends(stack: Stack, watched: Watched) -> None:
    scripts = [
        {"tokens": 250, "interval_ms": 40, "name": f"over-{number}", "numbered": True} for number in range(STREAMS)
    ]
    made = await asyncio.gather(*(stack.create(script) for script in scripts))
    viewing = asyncio.gather(*(view_to_end(stack.client, item["events_url"]) for item in made))
    await asyncio.gather(*(stack.until_said(item["id"], 40) for item in made))
    master = await asyncio.to_thread(watched.master)
    await asyncio.to_thread(master.kill)
    seen = await asyncio.wait_for(viewing, WITHIN_S)
    assert (await asyncio.to_thread(watched.master)).port != master.port
    for item, script, one in zip(made, scripts, seen, strict=True):
        record = await stack.record(item["id"])
        assert record["status"] == "done"
        assert one.text == record["text"] == script_text(script, call=len(stack.calls(script["name"])))
    await stack.until_ready()
    # What is new goes to the new master, too: a job is picked up, a viewer is woken.
    new = await stack.create({"tokens": 20, "interval_ms": 5})
    assert (await view_to_end(stack.client, new["events_url"])).types[-1] == "done"


async def test_a_master_that_is_demoted_while_it_runs_is_left_at_once(stack: Stack, watched: Watched) -> None:
    script = {"tokens": 200, "interval_ms": 40, "name": "demoted", "numbered": True}
    for server in watched.servers:
        await asyncio.to_thread(server.start_again)
    await asyncio.to_thread(watched.wait_for_replica)
    await stack.until_ready()
    made = await stack.create(script)
    viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
    await stack.until_said(made["id"], 40)
    before = await asyncio.to_thread(watched.master)
    async with Redis(port=watched.ports[0]) as sentinel:
        await sentinel.execute_command("SENTINEL", "FAILOVER", "main")
    seen = await asyncio.wait_for(viewing, WITHIN_S)
    assert (await asyncio.to_thread(watched.master)).port != before.port
    assert seen.text == script_text(script, call=len(stack.calls("demoted")))
