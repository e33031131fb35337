"""What some tests need and not every machine has: they are skipped by name, and fail under CI=true."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Final, NoReturn

import pytest

from cli.model import missing_wheels
from cli.up.valkey import OLDEST_MAJOR, program_version

FETCH: Final = "make .venv/fetched-for-tests"
"""The command that fetches what tests take from npm."""


def skip_or_fail(reason: str) -> NoReturn:
    """What a test needs is not here: a person's machine skips it by name, under CI=true it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


CHROMIUMS: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first is Chromium without its own windows, which are most of its work: a page that is opened takes 0.36 s of
CPU in it, and 1.05 s in the others."""


def find_chromium() -> Path:
    """Chromium on PATH, else the test is skipped (or failed under CI=true)."""
    for name in CHROMIUMS:
        if path := shutil.which(name):
            return Path(path)
    names = ", ".join(CHROMIUMS)
    skip_or_fail(f"needs Chromium (Debian: apt-get install {CHROMIUMS[0]}): none of {names} is on PATH")


def find_node() -> Path:
    """Node 20 or newer on PATH, else the test is skipped (or failed under CI=true)."""
    if path := shutil.which("node"):
        version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10).stdout
        if int(version.strip().lstrip("v").split(".")[0] or 0) >= 20:
            return Path(path)
    skip_or_fail("needs Node 20 or newer: no such node is on PATH")


def find_redis() -> Path:
    """Redis itself (Debian's is 7.0, and speaks TLS) on PATH, else the test is skipped (failed under CI=true)."""
    path = shutil.which("redis-server")
    if path and (program_version(Path(path)) or (0,))[0] >= OLDEST_MAJOR:
        return Path(path)
    skip_or_fail("needs redis-server 7 or newer on PATH, built with TLS (Debian: apt-get install redis-server)")


def find_program(name: str, package: str = "") -> Path:
    """A program on PATH, else the test is skipped (or failed under CI=true). ``package``: Debian's, if it is called
    otherwise."""
    if path := shutil.which(name):
        return Path(path)
    skip_or_fail(f"needs {name} on PATH (Debian: apt-get install {package or name})")


def require_ipv6() -> None:
    """This machine has ``::1``, else the test is skipped (or failed under CI=true)."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError as error:
        skip_or_fail(f"needs IPv6 on loopback (::1): {error.strerror}")


def require_model() -> None:
    """The local model's wheels are installed, else the test is skipped (or failed under CI=true)."""
    if missing := missing_wheels():
        skip_or_fail(f"needs the local model: {' and '.join(missing)} not installed")
