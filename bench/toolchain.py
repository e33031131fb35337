"""What the benchmark builds or installs at first use: three C sources, and the contenders from npm."""

import os
import shutil
import subprocess
from pathlib import Path

from bench.spawn import BenchError

HERE = Path(__file__).parent
BUILD = HERE / "build"
NODE = HERE / "node"
NODE_MAJOR = 20
COMPILE_S, INSTALL_S = 60, 240


def native(name: str) -> Path:
    """The program of ``native/<name>.c``, compiled if the source is newer. Raises :class:`BenchError`."""
    return _compiled(name, BUILD / name, ())


def preload(name: str) -> Path:
    """The library of ``native/<name>.c`` for ``LD_PRELOAD``, compiled if the source is newer. Raises
    :class:`BenchError`."""
    return _compiled(name, BUILD / f"{name}.so", ("-shared", "-fPIC"))


def _compiled(name: str, made: Path, options: tuple[str, ...]) -> Path:
    source = HERE / "native" / f"{name}.c"
    if made.exists() and made.stat().st_mtime >= source.stat().st_mtime:
        return made
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BenchError(
            "There is no C compiler: the load generator and the provider are two small C programs, so that they "
            "cost less than what they measure. Install one (Debian, Ubuntu: apt install gcc libc6-dev), and run "
            "this again."
        )
    BUILD.mkdir(exist_ok=True)
    fresh = made.with_name(f"{made.name}.{os.getpid()}")
    argv = [compiler, "-O2", "-Wall", "-Wextra", *options, "-o", str(fresh), str(source), "-ldl"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=COMPILE_S)
    if done.returncode:
        raise BenchError(f"{source.name} could not be compiled (it needs Linux and its C headers):\n{done.stderr}")
    # Replace it in one step, because another process may be using it.
    fresh.replace(made)
    return made


def why_no_node() -> str:
    """Install the packages of ``node/package.json`` if needed. Out: '', or why they can't be installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return f"node and npm are not installed (Node.js {NODE_MAJOR} or newer is needed)"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=10).stdout.strip()
    if not said.startswith("v") or int(said[1:].split(".")[0]) < NODE_MAJOR:
        return f"node is {said}, and {NODE_MAJOR} or newer is needed"
    wanted, installed = NODE / "package.json", NODE / "node_modules" / ".installed"
    if installed.exists() and installed.stat().st_mtime >= wanted.stat().st_mtime:
        return ""
    try:
        done = subprocess.run([npm, "install"], cwd=NODE, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        return f"npm install took more than {INSTALL_S} s"
    if done.returncode:
        return "npm install failed: " + (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
    installed.touch()
    return ""
