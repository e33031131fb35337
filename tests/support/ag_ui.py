"""AG-UI's clients from npm, with the snippets of docs/ag-ui.md."""

import re
from pathlib import Path
from typing import Any, Final

from tests.support.node import FOLDER, Node, require_packages

PAGE: Final = Path(__file__).parents[2] / "docs" / "ag-ui.md"


class AgUi:
    """The clients, in a run's Node."""

    def __init__(self, node: Node) -> None:
        """Where they are not fetched, the test is skipped by name (failed under CI=true)."""
        require_packages("@ag-ui/client", "@tanstack/ai-client")
        _write_snippets()
        self._node = node

    async def run(self, script: str, scenario: str, given: dict[str, Any]) -> dict[str, Any]:
        """What came of a scenario of this script of tests/js."""
        return dict(await self._node.run((script,), scenario, given))


def _write_snippets() -> None:
    """Put the page's code beside the clients."""
    page = PAGE.read_text(encoding="utf-8")
    for name in ("fetch", "reader", "tanstack"):
        found = re.search(rf"```js {name}\n(.*?)```", page, re.DOTALL)
        assert found, name
        snippet = FOLDER / "node_modules" / f".ag-ui-{name}.mjs"
        if not snippet.exists() or snippet.read_text(encoding="utf-8") != found[1]:  # others may be reading it
            snippet.write_text(found[1], encoding="utf-8")
