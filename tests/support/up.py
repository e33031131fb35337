"""`headrace up` as a child of a test."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.support.processes import Child, base_env


class Up(Child):
    """A running `headrace up` with a data folder of its own."""

    def __init__(
        self, directory: Path, *arguments: str, env: dict[str, str] | None = None, name: str = "up"
    ) -> None:
        self.data = directory / "data"
        argv = (sys.executable, "-m", "cli", "up", "--port", "0", "--data-dir", str(self.data), *arguments)
        super().__init__(name, argv, env or base_env(), directory)

    def wait_up(self) -> "Up":
        # The last of its welcome: what to try, or what is missing for that.
        said = re.compile(r"Headrace is up: (\S+).*(?:curl|HEADRACE_DEFAULT_MODEL)", re.DOTALL)
        self.wait_ready(lambda: said.search(self.output()), within_s=120)
        found = said.search(self.output())
        assert found
        self.url = found[1]
        return self

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads((self.data / "up.json").read_text())
        return state
