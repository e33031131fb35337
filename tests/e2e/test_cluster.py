"""The log side on a real Redis Cluster of three masters, one of which fails over; the queue on one server."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from cli.doctor.command import examine
from shared.config.settings import load
from shared.store.keys import Keys
from tests.support.cluster import Cluster, running_cluster
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    directory: Path = tmp_path_factory.mktemp("stack")
    async with running_stack(directory, workers=2, logs=cluster.url) as made:
        yield made


async def test_streams_on_all_masters_are_carried_whole(stack: Stack, cluster: Cluster) -> None:
    script = {"tokens": 40, "interval_ms": 10, "reasoning_tokens": 3}
    made = await asyncio.gather(*(stack.create(script) for _ in range(30)))
    used = {cluster.master_of(Keys("headrace").log(item["id"])).port for item in made}
    assert len(used) == 3
    seen = await asyncio.gather(*(view_to_end(stack.client, item["events_url"], drop_every=7) for item in made))
    assert {one.text for one in seen} == {script_text(script)}
    record = await stack.record(made[0]["id"])
    assert record["text"] == script_text(script)


async def test_a_cancel_and_an_erasure_reach_the_cluster(stack: Stack) -> None:
    made = await stack.create({"tokens": 500, "interval_ms": 20, "name": "stop"})
    await stack.until_said(made["id"])
    assert (await stack.client.post(f"{made['url']}/cancel")).json()["status"] == "cancelled"
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.types[-1] == "cancelled"
    assert (await stack.client.delete(made["url"])).status_code == 204
    assert (await stack.client.get(made["url"])).status_code == 404


async def test_a_killed_worker_is_replaced_on_the_cluster(stack: Stack) -> None:
    script = {"tokens": 60, "interval_ms": 5, "hang_after": 30, "name": "kill", "numbered": True}
    made = await stack.create(script)
    await stack.until_said(made["id"], 20)
    carriers = [worker for worker in stack.workers if worker.exit_code is None]
    for worker in carriers:
        worker.kill()
    stack.provider.release("kill")
    await stack.add_worker()
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.types == ["started", "restart", "finishing", "done"]
    assert seen.text == script_text(script, call=2)


async def test_the_doctor_looks_at_every_node(stack: Stack, cluster: Cluster) -> None:
    configuration = load(stack.env())
    asked = await examine(configuration)
    assert {f.check for f in asked if f.state != "ok"} == set()
    ill = cluster.nodes[1::2]
    for number, node in enumerate(ill):
        async with Redis(port=node.port) as redis:
            await redis.config_set("maxmemory-policy", "allkeys-lru")
            await redis.config_set("appendfsync", "no" if number else "everysec")
    found = await examine(configuration)
    for node in ill:
        async with Redis(port=node.port) as redis:
            await redis.config_set("maxmemory-policy", "noeviction")
            await redis.config_set("appendfsync", "everysec")
    bad = {(f.check, f.said.partition(": ")[0]) for f in found if f.state == "mend"}
    wanted = {("eviction", f"127.0.0.1:{node.port}") for node in ill}
    assert bad == wanted | {("persistence", f"127.0.0.1:{node.port}") for node in ill[1:]}


async def test_a_fail_over_of_a_master_loses_nothing(stack: Stack, cluster: Cluster) -> None:
    script = {"tokens": 250, "interval_ms": 40, "name": "over", "numbered": True}
    made = await stack.create(script)
    viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
    await stack.until_said(made["id"], 40)
    key = Keys("headrace").log(made["id"])
    master = await asyncio.to_thread(cluster.master_of, key)
    await asyncio.to_thread(master.kill)
    seen = await asyncio.wait_for(viewing, 90)
    assert (await asyncio.to_thread(cluster.master_of, key)).port != master.port
    record = await stack.record(made["id"])
    assert record["status"] == "done"
    assert seen.text == record["text"] == script_text(script, call=len(stack.calls("over")))


async def test_the_api_is_not_ready_while_a_master_is_gone(stack: Stack, cluster: Cluster) -> None:
    for master in await asyncio.to_thread(cluster.masters):
        await stack.until_ready()
        master.pause()
        began = time.monotonic()
        answer = await stack.client.get("/readyz")
        took_s = time.monotonic() - began
        master.resume()
        assert answer.status_code == 503
        assert answer.json()["code"] == "redis_unavailable"
        assert took_s < 3.0, "a generous reading of one and a half seconds"
    # It may have been replaced meanwhile.
    await stack.until_ready()
