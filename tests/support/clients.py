"""Other people's clients, as their registries have them: Python ones, in a folder of their own (tests/clients)."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from tests.support.requirements import skip_or_fail

ROOT: Final = Path(__file__).parents[2]
CLIENTS: Final = ROOT / "tests" / "clients"
PYTHON: Final = ROOT / ".venv" / "clients" / "bin" / "python"
WITHIN_S: Final = 90.0


async def run_client(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of tests/clients by the Python that has the clients. Out: the JSON of its last line."""
    if not PYTHON.exists():
        skip_or_fail("needs the clients of tests/clients/requirements.txt: make .venv/installed-for-tests")
    process = await asyncio.create_subprocess_exec(
        *(str(PYTHON), str(CLIENTS / script), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, err.decode()[-3000:]
    return dict(json.loads(out.decode().splitlines()[-1]))
