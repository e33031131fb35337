"""The apps of examples/ for tests: built once by npm and vite into ``tests/js/build``, which git ignores."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cli.up.sockets import free_port
from tests.support.node import FOLDER, npm_env
from tests.support.processes import Child, http_ok
from tests.support.requirements import skip_or_fail

EXAMPLES = Path(__file__).parents[2] / "examples"
STEP_TIMEOUT_S = 110


def build_example(
    name: str, pins: Mapping[str, str] | None = None, sources: Mapping[str, str] | None = None
) -> Path:
    """The built app of this name. ``pins``: other versions of its packages; ``sources``: other text of its files.

    Without node or npm, or where nothing can be installed, the test is skipped by name (failed under CI=true).
    """
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        skip_or_fail("needs node and npm on PATH")
    source = EXAMPLES / name
    files = sorted(path for path in source.rglob("*") if path.is_file() and "node_modules" not in path.parts)
    package = json.loads((source / "package.json").read_text(encoding="utf-8"))
    package["dependencies"] |= pins or {}
    told = json.dumps([package, sources]) + "".join(path.read_text(encoding="utf-8") for path in files)
    place = FOLDER / "build" / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".building").open("w") as lock:  # test processes run at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "dist" / "index.html").is_file():
            shutil.copytree(
                source, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "dist")
            )
            for file, text in {**(sources or {}), "package.json": json.dumps(package)}.items():
                (place / file).write_text(text, encoding="utf-8")
            _run(npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix", str(place))
            _run(npm, "run", "build", "--prefix", str(place))
    return place


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, env=npm_env(), capture_output=True, text=True, timeout=STEP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        skip_or_fail(f"{' '.join(command[1:3])} took longer than {STEP_TIMEOUT_S} s")
    if done.returncode:
        skip_or_fail(f"{' '.join(command[1:3])} failed: {(done.stdout + done.stderr)[-500:]}")


@contextmanager
def serving(app: Path, api_url: str, directory: Path) -> Iterator[str]:
    """vite serves a built app, and hands its calls on to this API, until the block ends. Out: where it is."""
    node = shutil.which("node")
    assert node is not None
    port = free_port()
    vite = str(app / "node_modules" / "vite" / "bin" / "vite.js")
    argv = (node, vite, "preview", str(app), "--host", "127.0.0.1", "--port", str(port), "--strictPort")
    env = {**os.environ, "HEADRACE_URL": api_url}
    with Child("vite", argv, env, directory) as child:
        child.url = f"http://127.0.0.1:{port}"
        child.wait_ready(lambda: http_ok(child.url))
        yield child.url
