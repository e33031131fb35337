"""Other people's clients, as their registries have them: Python ones, in a folder of their own (tests/clients)."""

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.support.processes import END_WITHIN_S, base_env
from tests.support.requirements import skip_or_fail
from tests.support.template import template

ROOT: Final = Path(__file__).parents[2]
CLIENTS: Final = ROOT / "tests" / "clients"
PYTHON: Final = ROOT / ".venv" / "clients" / "bin" / "python"
WITHIN_S: Final = 90.0
MODULES: Final = {
    "langchain-openai": "langchain_openai",
    "litellm": "litellm",
    "openai-agents": "agents",
    "pydantic-ai": "pydantic_ai.models.openai",
}
"""What takes 0.8 to 4 s of CPU to import. Each is imported once."""
LITELLM: Final = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""Else it asks for its list of prices on the network."""


def require_clients() -> None:
    """The clients are installed, else the test is skipped (or failed under CI=true)."""
    if not PYTHON.exists():
        skip_or_fail("needs the clients of tests/clients/requirements.txt: make .venv/installed-for-tests")


async def run_client(script: str, *arguments: str) -> dict[str, Any]:
    """Run a module of tests/clients by the Python that has the clients. Out: the JSON of its last line."""
    require_clients()
    imports = ["openai", *(module for name, module in MODULES.items() if arguments[0].startswith(name))]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        client = template(str(PYTHON), (), LITELLM).start(
            (f"tests.clients.{script}", *arguments),
            base_env(),
            ROOT,
            {1: out.fileno(), 2: err.fileno()},
            imports=imports,
        )
        try:
            code = await asyncio.to_thread(client.wait, WITHIN_S)
        finally:
            client.kill()
            client.wait(END_WITHIN_S)  # a client that hung is reaped, too
        said, complained = (_read(file.fileno()) for file in (out, err))
    assert code == 0, complained[-3000:]
    return dict(json.loads(said.splitlines()[-1]))


def _read(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()
