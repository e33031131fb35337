"""Redis away for longer than a lease, connections that are reset, and servers that are full."""

import asyncio
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from shared.protocol.cursor import new_stream_id
from tests.support.processes import Child
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view_to_end

SCRIPT = {"tokens": 160, "interval_ms": 40, "name": "long", "numbered": True}


async def test_an_outage_longer_than_the_lease_restarts_nothing(stack: Stack) -> None:
    for round_ in range(2):
        script = {**SCRIPT, "name": f"long{round_}"}
        made = await stack.create(script)
        viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
        await stack.until_said(made["id"], 30)
        await asyncio.to_thread(stack.server.kill)
        await asyncio.sleep(4.5)
        await asyncio.to_thread(stack.server.start_again)
        seen = await asyncio.wait_for(viewing, 90)
        assert seen.text == script_text(script, call=1)
        assert len(stack.calls(f"long{round_}")) == 1


async def test_a_server_at_its_memory_limit_fails_the_stream_clearly(stack: Stack) -> None:
    made = await stack.create({"tokens": 2000, "interval_ms": 20, "name": "full"})
    await stack.until_said(made["id"], 30)
    async with Redis.from_url(stack.server.url) as redis:
        await redis.config_set("maxmemory", "1kb")  # whatever it holds, it is full
        refused = await stack.client.post("/v1/streams", json={"prompt": "{}"})
        assert (refused.status_code, refused.json()["code"]) == (503, "redis_full")
        seen = await asyncio.wait_for(view_to_end(stack.client, made["events_url"]), 90)
        assert seen.events[-1][0] == "failed"
        assert seen.events[-1][1]["code"] == "log_full"
        other = await stack.client.post(f"{made['url']}/cancel")
        assert other.json()["status"] == "failed"
        await redis.config_set("maxmemory", "0")
    await stack.until_ready()  # which looks at once; else creates are refused for another second
    record = await stack.record(made["id"])
    assert record["text"] == seen.text
    again = await stack.create({"tokens": 3})
    await stack.until_status(again["id"], "done")


async def test_a_stream_at_the_memory_limit_can_be_cancelled(stack: Stack) -> None:
    made = await stack.create({"tokens": 2000, "interval_ms": 20, "name": "cancel"})
    await stack.until_said(made["id"], 30)
    async with Redis.from_url(stack.server.url) as redis:
        await redis.config_set("maxmemory", "1mb")
        answer = await stack.client.post(f"{made['url']}/cancel")
        assert answer.json()["status"] == "cancelled"


async def test_a_retry_after_is_not_undercut_by_another_attempt(stack: Stack) -> None:
    made = await stack.create({"status": 429, "retry_after": 60, "name": "later"})
    seen = await view_to_end(stack.client, made["events_url"])
    assert seen.events[-1][1]["code"] == "provider_rate_limited"
    assert seen.events[-1][1]["retryable"] is True
    assert len(stack.calls("later")) == 1


async def test_a_writer_that_was_fenced_does_not_take_the_stream_from_the_sweep(stack: Stack) -> None:
    """A stands still before its end, B takes over; A's refused end must leave the stream to be swept."""
    script = {"tokens": 30, "hang_after": 15, "name": "end", "numbered": True, "linger_ms": 300}
    made = await stack.create(script)
    await stack.until_said(made["id"], 30)
    first = await stack.carrier(made["id"])
    first.pause()
    stack.provider.release("end", later=False)
    await stack.until_called("end", 2)
    first.resume()
    await asyncio.sleep(0.3)
    (await stack.carrier(made["id"])).kill()
    stack.provider.release("end")
    seen = await asyncio.wait_for(view_to_end(stack.client, made["events_url"]), 90)
    assert seen.types[-1] == "done"
    assert seen.text == script_text(script, call=3)


async def test_a_worker_started_without_redis_waits_for_it(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=1) as stack:
        await asyncio.to_thread(stack.server.kill)
        with Child("early", ("worker",), stack.env(), tmp_path, forked=True) as early:
            async with asyncio.timeout(60):
                while "waiting_for_redis" not in early.output():
                    await asyncio.sleep(0.05)
            assert early.exit_code is None
            await asyncio.to_thread(stack.server.start_again)
            async with asyncio.timeout(60):
                while "worker_started" not in early.output():
                    await asyncio.sleep(0.05)


COMMAND = rb"\*\d+\r\n\$\d+\r\n%b\r\n"
"""A command in the append-only file."""


async def cut_back(stack: Stack, find: Callable[[bytes], int]) -> None:
    """Kill the server, and start it again with its append-only file cut at a place in it: as `everysec` may."""
    aof = next((stack.directory / "appendonlydir").glob("*.incr.aof"))
    await asyncio.to_thread(stack.server.kill)
    log = aof.read_bytes()
    aof.write_bytes(log[: find(log)])
    await asyncio.to_thread(stack.server.start_again)


async def test_a_worker_writes_the_entries_that_its_log_lost_again_under_the_same_ids(stack: Stack) -> None:
    script = {"tokens": 150, "interval_ms": 30, "name": "tail", "numbered": True}
    made = await stack.create(script)
    viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
    await stack.until_said(made["id"], 60)
    await cut_back(stack, lambda log: [found.start() for found in re.finditer(COMMAND % b"XADD", log)][-5])
    seen = await asyncio.wait_for(viewing, 90)
    record = await stack.record(made["id"])
    assert (record["status"], record["attempt"]) == ("done", 1)
    assert seen.text == record["text"] == script_text(script, call=1)
    assert not {"restart", "continued"} & set(seen.types), "the attempt went on"
    assert len(stack.calls("tail")) == 1


async def test_a_server_that_lost_claims_ends_and_cancels_loses_no_stream(stack: Stack) -> None:
    """The server comes back as it was before all claims, an end and a cancel: the weaker promise."""
    tokens = {"running": 150, "ended": 5, "stopped": 60}
    scripts = {name: {"tokens": n, "interval_ms": 30, "name": name, "numbered": True} for name, n in tokens.items()}
    made = {name: await stack.create(script) for name, script in scripts.items()}
    running, ended, stopped = made.values()
    viewing = asyncio.create_task(view_to_end(stack.client, running["events_url"]))
    await stack.until_said(stopped["id"])
    await stack.client.post(f"{stopped['url']}/cancel")
    await stack.until_status(ended["id"], "done")
    await stack.until_said(running["id"], 10)

    def before_the_claims(log: bytes) -> int:
        # Creates and claims are scripts, and so transactions in the file: the last create ends before this one.
        last_create = log.rindex(b"request_hash")
        return log.index(b"*1\r\n$4\r\nEXEC\r\n", last_create) + len(b"*1\r\n$4\r\nEXEC\r\n")

    await cut_back(stack, before_the_claims)
    seen = await asyncio.wait_for(viewing, 90)
    for name, script in scripts.items():
        record = await stack.until_status(made[name]["id"], "done", "cancelled")
        text = script_text(script, call=len(stack.calls(name)))
        assert record["text"] == text if record["status"] == "done" else text.startswith(record["text"])
    assert seen.text == (await stack.record(running["id"]))["text"]


async def test_a_stream_that_lost_its_worker_and_its_server_at_once_is_taken_up_again(stack: Stack) -> None:
    script = {"tokens": 60, "interval_ms": 5, "hang_after": 30, "name": "both", "numbered": True}
    made = await stack.create(script)
    viewing = asyncio.create_task(view_to_end(stack.client, made["events_url"]))
    await stack.until_said(made["id"], 30)
    for worker in stack.workers:
        worker.kill()
    stack.provider.release("both")
    await asyncio.to_thread(stack.server.kill)
    await asyncio.to_thread(stack.server.start_again)
    await stack.add_worker()
    seen = await asyncio.wait_for(viewing, 90)
    assert seen.types[-1] == "done"
    assert seen.text == script_text(script, call=2)


@pytest.mark.parametrize("how", ["refuses writes", "stands still"])
async def test_sigterm_ends_a_worker_while_redis_is_unusable(stack: Stack, how: str) -> None:
    ending = [{"tokens": 20, "interval_ms": 40, "name": f"end{i}"} for i in range(3)]
    running = [{"tokens": 130, "interval_ms": 40, "name": f"run{i}", "usage": True} for i in range(3)]
    made = [await stack.create(script) for script in (*ending, *running)]
    for one in made:
        await stack.until_said(one["id"])
    async with Redis.from_url(stack.server.url) as redis:
        if how == "stands still":
            stack.server.pause()
        else:
            await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        await asyncio.sleep(1.0)
        began = time.monotonic()
        for worker in stack.workers:
            worker.send(signal.SIGTERM)
        for worker in stack.workers:
            assert await asyncio.to_thread(worker.wait, 60) == 0, worker.output()
        print(f"ended after {time.monotonic() - began:.1f} s")
        if how == "stands still":
            stack.server.resume()
        else:
            await redis.execute_command("REPLICAOF", "NO", "ONE")
    await stack.add_worker()
    for one in made:
        record = await stack.until_status(one["id"], "done")
        assert record["text"]


async def test_an_unknown_stream_is_not_found_right_after_a_restart_of_the_server(stack: Stack) -> None:
    unknown = new_stream_id()
    await asyncio.to_thread(stack.server.kill)
    await asyncio.to_thread(stack.server.start_again)
    await stack.until_ready()
    assert (await stack.client.get(f"/v1/streams/{unknown}")).status_code == 404
    assert (await stack.client.get(f"/v1/streams/{unknown}/events")).status_code == 404
