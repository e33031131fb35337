"""AG-UI's clients from npm, with the snippets of docs/ag-ui.md."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final

from tests.support.node import FOLDER, node_script

PAGE: Final = Path(__file__).parents[2] / "docs" / "ag-ui.md"
WITHIN_S: Final = 90.0


async def run_node(script: str, *arguments: str, stdin: str = "") -> dict[str, Any]:
    """Run a script of tests/js beside AG-UI's clients. Out: the JSON that it prints."""
    node, _ = node_script("@tanstack/ai-client/package.json")
    page = PAGE.read_text(encoding="utf-8")
    for name in ("fetch", "reader", "tanstack"):
        found = re.search(rf"```js {name}\n(.*?)```", page, re.DOTALL)
        assert found, name
        snippet = FOLDER / "node_modules" / f".ag-ui-{name}.mjs"
        if not snippet.exists() or snippet.read_text(encoding="utf-8") != found[1]:  # others may be reading it
            snippet.write_text(found[1], encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(node, str(FOLDER / script), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            out, err = await process.communicate(stdin.encode())
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, err.decode()[-3000:]
    return dict(json.loads(out))
