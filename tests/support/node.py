"""Programs from npm for tests, in ``tests/js/node_modules`` (:mod:`tests.support.downloads`)."""

import shutil
from pathlib import Path

from tests.support.requirements import FETCH, skip_or_fail

FOLDER = Path(__file__).parents[1] / "js"


def node_script(path: str) -> list[str]:
    """The command that runs a script below ``node_modules``. Where there is none, the test is skipped by name
    (failed under CI=true)."""
    node, script = shutil.which("node"), FOLDER / "node_modules" / path
    if node is None:
        skip_or_fail("needs node on PATH")
    if not script.is_file():
        skip_or_fail(f"needs {path} from npm: {FETCH}")
    return [node, str(script)]
