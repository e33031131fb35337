"""A server that can't write its file ends, says so in a sentence, and goes on when there is room."""

import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.probes import http_ok
from tests.support.processes import wait_until
from tests.support.up import Up

DISK_BYTES = 6 * 1024 * 1024
"""Room for the server's file and the logs of a few streams."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "data"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "headrace-test", str(place)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"a small file system can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room. Out: the file that takes it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def create(url: str, name: str) -> httpx.Response | None:
    """A stream that nobody can answer for; None where nothing answers."""
    try:
        return httpx.post(
            f"{url}/v1/streams", json={"prompt": "x" * 4000}, headers={"Idempotency-Key": name}, timeout=5
        )
    except httpx.TransportError:
        return None


def test_a_full_disk_ends_the_server_until_there_is_room_and_nothing_acknowledged_is_missing(disk: Path) -> None:
    env = {"LOCAL_BASE_URL": "http://127.0.0.1:9/v1", "LOCAL_MODELS": "smollm2"}
    with Up(disk.parent, "--no-model", "--workers", "1", env={**os.environ, **env}) as up:
        up.wait_up()
        first = up.state()["children"]["valkey"]
        acknowledged = []
        names = (f"create-{number}" for number in itertools.count())

        def ended(times: int) -> bool:
            """Ask for a stream. Out: whether the server has ended so often."""
            answer = create(up.url, next(names))
            if answer is not None and answer.status_code == 202:
                acknowledged.append(answer.json()["url"])
            return up.output().count("valkey ended: ") >= times

        ballast = fill(disk)
        wait_until(lambda: ended(1), what="a server that has no room")
        said = next(line for line in up.output().splitlines() if "valkey ended: " in line)
        assert "is full. Nothing that was acknowledged is lost; make room there. It is started again in" in said
        wait_until(lambda: ended(6), 60, "one more end than what is given up")
        ballast.unlink()
        wait_until(lambda: http_ok(up.url + "/readyz"), 30, "a ready API")
        before = len(acknowledged)
        wait_until(lambda: ended(0) and len(acknowledged) > before, what="an acknowledged create")
        assert [url for url in acknowledged if not http_ok(up.url + url)] == []
        assert up.state()["children"]["valkey"] != first
        # The logs of all others are on the same disk, and no process ends by what it can't say.
        assert "worker-1 ended" not in up.output()
        assert "api-1 ended" not in up.output()
