"""The commands with curl that README and the pages show, as they stand there, against real processes."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from shared.version import VERSION
from tests.support.documents import blocks, document
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITHIN_S = 60.0
CURSOR = re.compile(r"\d{13}-\d+")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("curl")) as made:
        yield made


def commands(page: str) -> list[str]:
    """Every command with curl, continuation lines joined, comments cut."""
    text = "\n".join(blocks(document(page), "console")).replace("\\\n", " ")
    return [line[2:].partition("  #")[0].strip() for line in text.splitlines() if line.startswith("$ curl ")]


async def run(command: str, stack: Stack, stream_id: str) -> str:
    """What it prints, with this stack in place of the page's, and this stream in place of its own."""
    command = re.sub(r"\b\w{24}\b|\$ID\b", stream_id, command.replace("localhost:8000", stack.apis[0].url))
    # In a thread, for the provider answers from this loop.
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", command], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/http-api.md"])
async def test_the_walk_with_curl_is_one_that_can_be_taken(stack: Stack, page: str) -> None:
    walk = commands(page)
    create = walk[0]
    refused = [line for line in walk if "openai/" in line]
    read, resume, *rest = [line for line in walk[1:] if line not in refused]
    found = re.search(r'"id":"([\w-]+)"', await run(create, stack, ""))
    assert found
    stream_id = found[1]
    events = await run(read, stack, stream_id)
    assert "event: done" in events
    seen = CURSOR.findall(events)
    resumed = await run(CURSOR.sub(seen[2], resume), stack, stream_id)
    assert CURSOR.findall(resumed) == seen[3:]
    for command in [*refused, *rest]:
        printed = await run(CURSOR.sub(seen[-1], command), stack, stream_id)
        if "head -1" in command:
            assert "204" in printed
        elif "openai/" in command:
            assert '"code":"provider_not_configured"' in printed
        elif "DELETE" in command:
            assert printed == ""
        else:
            assert f'"id":"{stream_id}"' in printed
    assert (await stack.client.get(f"/v1/streams/{stream_id}")).status_code == 404


async def test_the_article_s_call_answers_as_its_page_shows(stack: Stack) -> None:
    (command,) = commands("docs/article.md")
    said = await run(command, stack, "")
    assert re.match(r"retry: 1000\nid: [\w-]{24}/\n\nid: [\w-]{24}/\d{13}-\d+\nevent: message\ndata: ", said)
    assert re.search(r"\nevent: done\ndata:\s*$", said)


async def test_the_api_tells_the_one_version(stack: Stack) -> None:
    assert (await stack.client.get("/openapi.json")).json()["info"]["version"] == VERSION
