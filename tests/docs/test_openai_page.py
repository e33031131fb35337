"""The code of docs/openai.md, as it stands there, against real processes."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from tests.support.clients import PYTHON, require_clients
from tests.support.node import FOLDER, node_script
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE: Final = (Path(__file__).parents[2] / "docs" / "openai.md").read_text(encoding="utf-8")
SCRIPT: Final = {"tokens": 20, "seed": 8}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("openai-page")) as made:
        yield made


def code(stack: Stack, language: str) -> str:
    """A block of the page, with this test's server, model and question in place of the page's."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    told = found[1].replace("http://127.0.0.1:8000", stack.apis[0].url).replace("local/smollm2", "local/scripted")
    return told.replace('"Why is the sky blue?"', json.dumps(json.dumps(SCRIPT)))


async def output(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_python_of_the_page_prints_the_answer(stack: Stack) -> None:
    require_clients()
    assert await output(str(PYTHON), "-c", code(stack, "python")) == script_text(SCRIPT)


async def test_the_javascript_of_the_page_prints_the_answer(stack: Stack) -> None:
    node, _ = node_script("openai/package.json")
    snippet = FOLDER / "node_modules" / ".openai-page.mjs"
    snippet.write_text(code(stack, "js"), encoding="utf-8")
    assert await output(node, str(snippet)) == script_text(SCRIPT)
