"""`headrace chat` and `headrace tail` as real processes: at a terminal, in a pipe, while a server dies."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from shared.config.api_keys import new_api_key
from tests.support.processes import Child, base_env, run, start_api, wait_until
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack
from tests.support.terminal import Terminal, headrace

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET, ENTRY = new_api_key("alice")
PYTHON = (sys.executable, "-P", "-m")
WITHIN_S = 60.0
MARKDOWN = "# Mill\n\nThe wheel **turns**.\n\n```\nfence one\n\nfence two\n```\n\n" + "\n\n".join(
    f"Line {n} of the river." for n in range(40)
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """One stack for all, with a key, so that every call here has shown that the key goes with it."""
    async with running_stack(tmp_path_factory.mktemp("chat"), HEADRACE_API_KEYS=ENTRY) as made:
        made.client.headers["Authorization"] = f"Bearer {SECRET}"
        yield made


def env(stack: Stack, url: str = "", key: str = SECRET) -> dict[str, str]:
    return base_env(HEADRACE_URL=url or stack.apis[0].url, HEADRACE_KEY=key)


def chat(stack: Stack, script: dict[str, Any], *options: str, url: str = "") -> Terminal:
    return Terminal(headrace("chat", json.dumps(script), *options), env(stack, url), stack.directory)


async def piped(
    stack: Stack, *arguments: str, key: str = SECRET, asked: bytes = b"", url: str = ""
) -> tuple[int, bytes, str]:
    """Run it without any terminal. Out: exit code, stdout, stderr."""
    done = await in_thread(run, headrace(*arguments), env(stack, url, key), stack.directory, asked, WITHIN_S)
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr.decode()


async def in_thread(call: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(call, *arguments)


async def test_a_pipe_gets_the_bytes_of_the_answer_and_nothing_else(stack: Stack) -> None:
    script = {"tokens": 60, "seed": 3, "reasoning_tokens": 3}
    said = script_text(script).encode()
    by_argument, by_stdin = await asyncio.gather(
        piped(stack, "chat", json.dumps(script)), piped(stack, "chat", asked=json.dumps(script).encode())
    )
    assert by_argument == (0, said, "")
    assert by_stdin == (0, said, "")


async def test_a_terminal_shows_markdown_once_and_whole_though_it_is_higher_than_the_screen(stack: Stack) -> None:
    with chat(stack, {"text": MARKDOWN, "interval_ms": 3, "reasoning_tokens": 4}) as terminal:
        assert await in_thread(terminal.wait) == 0
        seen = terminal.screen
    assert re.search(r"thought 0 .*thought 3", seen)
    assert "**" not in seen
    assert [seen.count(f"Line {n} of the river.") for n in range(40)] == [1] * 40
    assert seen.count("fence one") == seen.count("fence two") == seen.count("The wheel turns.") == 1
    assert re.search(r"local/smollm2 · \d+ tokens · \d+ tokens/s · first after \d.* · attempt 1\s*$", seen)


async def test_control_characters_do_not_reach_the_terminal(stack: Stack) -> None:
    text = "before \x1b]0;taken\x07\x1b[2J \x9b2J after"
    with chat(stack, {"text": text}) as terminal:
        assert await in_thread(terminal.wait) == 0
        assert "\x1b]0;" not in terminal.output
        assert "\x1b[2J" not in terminal.output
        assert "after" in terminal.screen
    assert (await piped(stack, "chat", json.dumps({"text": text})))[1] == text.encode()


async def test_an_api_that_is_killed_and_started_again_costs_no_word(stack: Stack, tmp_path: Path) -> None:
    api = await in_thread(start_api, stack.env(), tmp_path, "api-dies")
    script = {"tokens": 150, "interval_ms": 5, "hang_after": 75, "seed": 8, "name": "dies"}
    reader = await asyncio.create_subprocess_exec(
        *PYTHON,
        *headrace("chat", json.dumps(script), "--url", api.url),
        env=env(stack),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    again: Child | None = None
    try:
        assert reader.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            head = await reader.stdout.readexactly(30)
            api.kill()
            again = await in_thread(start_api, stack.env(), tmp_path, "api-again", int(api.url.rsplit(":")[-1]))
            stack.provider.release("dies")
            rest, notes = await reader.communicate()
    finally:
        if reader.returncode is None:
            reader.kill()
            await reader.wait()
        api.kill()
        if again is not None:
            again.terminate()
    assert (reader.returncode, (head + rest).decode()) == (0, script_text(script))
    assert b"trying again in" in notes
    assert len(stack.calls("dies")) == 1


async def test_a_detached_answer_is_found_again_whole(stack: Stack) -> None:
    script = {"tokens": 120, "interval_ms": 5, "hang_after": 60, "seed": 5, "name": "detached"}
    with chat(stack, script) as terminal:
        await in_thread(terminal.until, "river")
        terminal.type("\x03")
        await in_thread(terminal.until, "detach from it (d)")
        terminal.type("xd")
        assert await in_thread(terminal.wait) == 3
        found = re.search(r"headrace (tail --url \S+ (?:-- )?\S{24})\s", terminal.screen)
    assert found
    stack.provider.release("detached")
    assert await piped(stack, *found[1].split()) == (0, script_text(script).encode(), "")


async def test_going_on_loses_nothing_and_a_second_ctrl_c_detaches(stack: Stack) -> None:
    script = {"text": "drop " * 80 + "end.", "interval_ms": 5, "hang_after": 40}
    with chat(stack, {**script, "name": "goes on"}) as terminal:
        await in_thread(terminal.until, "drop")
        terminal.type("\x03")
        await in_thread(terminal.until, "detach from it (d)")
        terminal.type("\n")
        stack.provider.release("goes on")
        assert await in_thread(terminal.wait) == 0
        assert (terminal.screen.count("drop"), terminal.screen.count("end.")) == (80, 1)
        assert "detach" not in terminal.screen
    with chat(stack, script) as terminal:
        await in_thread(terminal.until, "drop")
        terminal.type("\x03")
        await in_thread(terminal.until, "detach from it (d)")
        terminal.type("\x03")
        assert await in_thread(terminal.wait) == 3


async def test_stopping_stops_the_upstream(stack: Stack) -> None:
    with chat(stack, {"tokens": 5000, "interval_ms": 15, "name": "stopped"}) as terminal:
        await in_thread(terminal.until, "river")
        terminal.type("\x03")
        await in_thread(terminal.until, "detach from it (d)")
        terminal.type("s")
        assert await in_thread(terminal.wait) == 130
        assert "local/smollm2 · stopped · attempt 1" in terminal.screen
    assert (await stack.until_closed("stopped")).closed_by == "client"


async def test_an_interrupt_without_a_terminal_detaches_and_tells_the_id(stack: Stack) -> None:
    script = {"tokens": 100, "interval_ms": 5, "hang_after": 50, "seed": 6, "name": "interrupted"}
    reader = await asyncio.create_subprocess_exec(
        *PYTHON,
        *headrace("chat", json.dumps(script)),
        env=env(stack),
        cwd=stack.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert reader.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            head = await reader.stdout.readexactly(10)
            reader.send_signal(signal.SIGINT)
            rest, notes = await reader.communicate()
    finally:
        if reader.returncode is None:
            reader.kill()
            await reader.wait()
    assert reader.returncode == 3
    assert script_text(script).encode().startswith(head + rest)
    found = re.search(r"headrace (tail .+)", notes.decode())
    assert found
    stack.provider.release("interrupted")
    assert (await piped(stack, *found[1].split()))[1].decode() == script_text(script)


async def test_a_conversation_keeps_what_was_said(stack: Stack) -> None:
    with Terminal(headrace("chat", "--system", "Be brief."), env(stack), stack.directory) as terminal:
        await in_thread(terminal.until, "/quit or Ctrl-D")
        for n in (1, 2):
            await in_thread(wait_for_prompt, terminal, n)
            terminal.type(json.dumps({"text": f"reply {n}.", "name": "talk"}) + "\n")
            await in_thread(terminal.until, f"reply {n}.\n\nlocal/smollm2")
        await in_thread(wait_for_prompt, terminal, 3)
        terminal.type("/quit\n")
        assert await in_thread(terminal.wait) == 0
    assert len(stack.calls("talk")) == 2


def wait_for_prompt(terminal: Terminal, number: int) -> None:
    wait_until(lambda: terminal.output.count("› ") >= number, what=f"prompt {number}:\n{terminal.screen}")


async def test_a_mistake_is_told_in_one_sentence(stack: Stack) -> None:
    nobody, other_key, none, failed = await asyncio.gather(
        piped(stack, "tail", "A" * 24),
        piped(stack, "chat", "x", key="hr_wrong"),
        piped(stack, "chat", "x", key=""),
        piped(stack, "chat", json.dumps({"status": 400, "body": "no such thing"})),
    )
    assert nobody == (1, b"", "There is no such stream. It may have expired or been erased; create a new one.\n")
    assert other_key[0] == none[0] == 1
    assert "This key is not known here" in other_key[2]
    assert "--key or HEADRACE_KEY" in none[2]
    assert (failed[0], failed[1]) == (1, b"")
    assert "local/smollm2 · failed: " in failed[2]
