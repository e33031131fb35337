"""arq as it is: its worker runs our jobs, our workers run its jobs, and its command line tells and starts them."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.store.keys import Keys
from tests.support.processes import Child, arq_command, base_env, run, start_arq_worker, start_worker
from tests.support.script import script_text
from tests.support.stack import WAIT_S, Stack, running_stack
from tests.support.viewing import view_to_end

QUEUE = Keys("headrace").queue
NO_SWEEP: dict[str, Any] = {"HEADRACE_LEASE_MS": "600000"}
"""A worker first sweeps when it has renewed leases for as long as one lasts. So what runs was brought by a job."""

Start = Callable[..., Child]
KINDS = pytest.mark.parametrize("start", [start_worker, start_arq_worker], ids=["python -m worker", "arq"])

PROGRAM = """
import asyncio, json, sys
from arq import create_pool
from arq.connections import RedisSettings

async def main(url, queue, stream_id):
    dump = lambda job: json.dumps(job).encode()
    redis = await create_pool(RedisSettings.from_dsn(url), job_serializer=dump)
    assert await redis.enqueue_job("generate", stream_id, _queue_name=queue)

asyncio.run(main(*sys.argv[1:]))
"""
"""A program that knows arq, and nothing of ours."""

TRAP = """
import asyncio, sys
from pathlib import Path
from arq import create_pool
from arq.connections import RedisSettings

class Trap:
    def __reduce__(self):
        return Path.touch, (Path(sys.argv[3]),)

async def main(url, queue, path):
    redis = await create_pool(RedisSettings.from_dsn(url))
    await redis.enqueue_job("generate", Trap(), _queue_name=queue, _job_id="trap")

asyncio.run(main(*sys.argv[1:]))
"""
"""Whoever loads the payload of its job makes a file."""


async def run_program(program: str, *arguments: str) -> None:
    """Run another program to its end."""
    command = (sys.executable, "-c", program, *arguments)
    done = await asyncio.to_thread(subprocess.run, command, env=base_env(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


async def check(stack: Stack) -> int:
    """The exit code of arq's health check."""
    done = await asyncio.to_thread(run, arq_command("--check"), stack.env(), stack.directory)
    return done.returncode


async def until_taken(redis: Redis) -> None:
    async with asyncio.timeout(WAIT_S):
        while await redis.zcard(QUEUE):
            await asyncio.sleep(0.02)


async def test_arq_s_worker_runs_a_stream_to_its_end(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=0, **NO_SWEEP) as stack:
        await stack.add_worker(start_arq_worker)
        script = {"tokens": 40, "interval_ms": 20, "name": "whole"}
        made = await stack.create(script)
        async with Redis.from_url(stack.server.url) as redis:
            await stack.until_said(made["id"])
            assert await redis.zcard(QUEUE) == 0, "a job that runs waits no longer"
            seen = await view_to_end(stack.client, made["events_url"])
            assert seen.text == script_text(script)
            assert seen.types == ["started", "finishing", "done"]
            async with asyncio.timeout(WAIT_S):
                while await redis.keys("arq:*"):
                    await asyncio.sleep(0.05)
        assert len(stack.calls("whole")) == 1


@KINDS
async def test_a_job_that_another_program_enqueued_with_arq_is_run(tmp_path: Path, start: Start) -> None:
    async with running_stack(tmp_path, workers=0, **NO_SWEEP) as stack:
        made = await stack.create({"tokens": 5})
        async with Redis.from_url(stack.server.url) as redis:
            assert await redis.delete(QUEUE, f"arq:job:{made['id']}:1:local:") == 2
        await stack.add_worker(start)
        assert (await stack.record(made["id"]))["status"] == "queued"
        await run_program(PROGRAM, stack.server.url, QUEUE, made["id"])
        await stack.until_status(made["id"], "done")


@KINDS
async def test_sigterm_ends_a_worker_and_hands_its_streams_over(tmp_path: Path, start: Start) -> None:
    async with running_stack(tmp_path, workers=0, **NO_SWEEP) as stack:
        first = await stack.add_worker(start)
        made = [await stack.create({"tokens": 250, "interval_ms": 20, "seed": n}) for n in range(5)]
        for one in made:
            await stack.until_said(one["id"])
        assert await asyncio.to_thread(first.terminate) == 0
        assert first.output().count("handed_over") == len(made)
        assert "worker_stopped" in first.output()
        for other in (start_worker, start_arq_worker):
            await stack.add_worker(other)
        for one in made:
            assert (await stack.until_status(one["id"], "done"))["attempt"] == 2


@KINDS
async def test_arq_s_check_tells_whether_a_worker_runs(tmp_path: Path, start: Start) -> None:
    async with running_stack(tmp_path, workers=0) as stack:
        assert await check(stack) == 1
        worker = await stack.add_worker(start)
        await stack.until_status((await stack.create({"tokens": 1}))["id"], "done")
        assert await check(stack) == 0
        await asyncio.to_thread(worker.terminate)
        assert await check(stack) == 1


@KINDS
async def test_a_pickle_is_refused_and_not_loaded(tmp_path: Path, start: Start) -> None:
    async with running_stack(tmp_path, workers=0, **NO_SWEEP) as stack:
        worker = await stack.add_worker(start)
        sprung = tmp_path / "sprung"
        await run_program(TRAP, stack.server.url, QUEUE, str(sprung))
        async with Redis.from_url(stack.server.url) as redis:
            await until_taken(redis)
            async with asyncio.timeout(WAIT_S):
                while "pickle is never read" not in worker.output():
                    await asyncio.sleep(0.02)
            assert await redis.keys("arq:*") == []
        assert not sprung.exists()
        await stack.until_status((await stack.create({"tokens": 1}))["id"], "done")


NO_JOBS = {
    "garbage": b"\x00 garbage {",
    "deep": b"[" * 100_000,
    "unknown": b'{"t":null,"f":"unknown","a":["s"],"k":{},"et":1}',
    "half": b'{"f":"generate"}',
}


@KINDS
async def test_jobs_that_are_none_are_refused_and_end_no_worker(tmp_path: Path, start: Start) -> None:
    async with running_stack(tmp_path, workers=0, **NO_SWEEP) as stack:
        worker = await stack.add_worker(start)
        async with Redis.from_url(stack.server.url) as redis:
            for name, payload in NO_JOBS.items():
                await redis.set(f"arq:job:{name}-job", payload)
                await redis.zadd(QUEUE, {f"{name}-job": 1})
            await until_taken(redis)
            await stack.until_status((await stack.create({"tokens": 1}))["id"], "done")
            assert await redis.keys("arq:job:*-job") == []
        assert [name for name in NO_JOBS if f"{name}-job" not in worker.output()] == []


def test_settings_that_can_not_be_used_are_told_in_one_line(tmp_path: Path) -> None:
    env = base_env(HEADRACE_MAX_STREAMS="many")
    command = (sys.executable, "-P", "-m", *arq_command())
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("Settings that can't be used: HEADRACE_MAX_STREAMS")
