"""Erased text leaves the server's file: real servers, real files."""

import asyncio
import contextlib
import secrets
from pathlib import Path

from redis import Redis

from cli.doctor.command import examine
from shared.config.settings import load
from tests.support.processes import start_server
from tests.support.stack import Stack, running_stack

WITHIN_S = 60.0


def holds(directory: Path, text: str) -> bool:
    """Whether a file of the server's has this text in it."""
    found = []
    for file in directory.rglob("appendonly*/*"):
        with contextlib.suppress(FileNotFoundError):  # a rewrite renames and deletes some meanwhile
            found.append(text.encode() in file.read_bytes())
    assert found
    return any(found)


async def until_gone(directory: Path, text: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while holds(directory, text):
            await asyncio.sleep(0.2)


async def found(stack: Stack) -> dict[str, str]:
    """What the doctor finds: check -> state."""
    return {finding.check: finding.state for finding in await examine(load(stack.env()))}


async def test_a_prompt_leaves_the_disk_after_the_end_and_an_answer_after_it_was_erased(tmp_path: Path) -> None:
    async with running_stack(tmp_path, workers=2, HEADRACE_REWRITE_S="1") as stack:
        prompt, kept = secrets.token_hex(8), secrets.token_hex(8)
        made = await stack.create({"tokens": 12, "name": prompt})
        other = await stack.create({"tokens": 2000, "interval_ms": 20, "name": kept})
        await stack.until_status(made["id"], "done")
        assert holds(tmp_path, prompt)
        await until_gone(tmp_path, prompt)
        assert await stack.record(made["id"]), "the answer is still there"
        assert holds(tmp_path, made["id"])
        assert (await stack.client.delete(made["url"])).status_code == 204
        # Its id stands in all of its keys.
        await until_gone(tmp_path, made["id"])
        assert holds(tmp_path, other["id"]), "what lives is left alone"
        assert (await stack.record(other["id"]))["status"] == "running"
        said = "".join(worker.output() for worker in stack.workers)
        assert "file_rewritten" in said
        assert "rewrite_failed" not in said
        assert (await found(stack))["erased text"] == "ok"


async def test_a_user_who_may_not_rewrite_the_file_is_told_so(tmp_path: Path) -> None:
    for name in ("server", "stack"):
        (tmp_path / name).mkdir()
    with start_server(tmp_path / "server") as server:
        with Redis(port=server.port) as redis:
            redis.execute_command("ACL", "SETUSER", "less", "on", ">pw", "~*", "&*", "+@all", "-bgrewriteaof")
        url = f"redis://less:pw@127.0.0.1:{server.port}/0"
        settings = {"HEADRACE_REDIS_URL": url, "HEADRACE_REWRITE_S": "1"}
        async with running_stack(tmp_path / "stack", **settings) as stack:
            made = await stack.create({"tokens": 1})
            await stack.until_status(made["id"], "done")
            async with asyncio.timeout(WITHIN_S):
                while "rewrite_refused" not in stack.workers[0].output():
                    await asyncio.sleep(0.2)
            assert (await found(stack))["erased text"] == "mend"
            assert server.pid
            with Redis(port=server.port) as redis:
                assert redis.info("persistence")["aof_rewrites"] == 0, "and asking began none"
