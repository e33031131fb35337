"""The code of docs/responses.md, as it stands there, over a connection that is cut again and again."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest
import pytest_asyncio

from tests.docs.test_openai_page import output
from tests.support.clients import PYTHON, require_clients
from tests.support.documents import blocks, document
from tests.support.node import FOLDER, node_script
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack
from tests.support.tcp_proxy import TcpProxy

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE: Final = document("docs/responses.md")
SCRIPT: Final = {"tokens": 150, "interval_ms": 20, "seed": 8}
CUTS: Final = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("responses-page")) as made:
        yield made


def code(language: str, port: int, name: str) -> str:
    """The page's block, with this test's server, model and question in place of the page's."""
    (told,) = blocks(PAGE, language)
    told = told.replace("http://127.0.0.1:8000", f"http://127.0.0.1:{port}")
    told = told.replace("local/smollm2", "local/scripted")
    return told.replace('"Why is the sky blue?"', json.dumps(json.dumps({**SCRIPT, "name": name})))


async def read_over_cuts(stack: Stack, language: str, run: Callable[[str], Awaitable[str]]) -> None:
    port = int(stack.apis[0].url.rpartition(":")[2])
    async with TcpProxy(port) as proxy, asyncio.TaskGroup() as group:
        reading = group.create_task(run(code(language, proxy.port, language)))
        await stack.until_sent(language, 1)
        for _ in range(CUTS):
            await asyncio.sleep(0.6)
            proxy.cut()
        assert await reading == script_text(SCRIPT) + "\n"
    assert len(stack.calls(language)) == 1


async def test_the_python_of_the_page_prints_the_whole_answer(stack: Stack) -> None:
    require_clients()
    await read_over_cuts(stack, "python", lambda told: output(str(PYTHON), "-c", told))


async def test_the_javascript_of_the_page_prints_the_whole_answer(stack: Stack) -> None:
    node, _ = node_script("openai/package.json")
    snippet = FOLDER / "node_modules" / ".responses-page.mjs"

    async def run(told: str) -> str:
        snippet.write_text(told, encoding="utf-8")
        return await output(node, str(snippet))

    await read_over_cuts(stack, "js", run)
