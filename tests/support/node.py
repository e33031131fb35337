"""Programs from npm for tests: installed once into ``tests/js/node_modules``, which git ignores."""

import fcntl
import os
import shutil
import ssl
import subprocess
from pathlib import Path

from tests.support.requirements import skip_or_fail

FOLDER = Path(__file__).parents[1] / "js"
INSTALL_TIMEOUT_S = 100


def node_script(path: str) -> list[str]:
    """The command that runs a script below ``node_modules``, which is installed where it is missing.

    Without node or npm, or where nothing can be installed, the test is skipped by name (failed under CI=true).
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        skip_or_fail("needs node and npm on PATH")
    script = FOLDER / "node_modules" / path
    modules = FOLDER / "node_modules"
    modules.mkdir(exist_ok=True)
    with (modules / ".installing").open("w") as lock:  # test processes run at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not script.is_file():
            command = [npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(FOLDER)]
            try:
                done = subprocess.run(
                    command, env=npm_env(), capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
                )
            except subprocess.TimeoutExpired:
                skip_or_fail(f"needs {path} from npm, and npm install took longer than {INSTALL_TIMEOUT_S} s")
            if done.returncode or not script.is_file():
                skip_or_fail(f"needs {path} from npm, and npm install failed: {done.stderr[-500:]}")
    return [node, str(script)]


def npm_env() -> dict[str, str]:
    """Node trusts the certificates that it brought along; Python and the rest of the machine trust the system's."""
    cafile = ssl.get_default_verify_paths().cafile
    return {**({"NODE_EXTRA_CA_CERTS": cafile} if cafile else {}), **os.environ}
