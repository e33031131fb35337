"""A server that can't write its file ends, says so in a sentence, and goes on when there is room."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.up.sockets import free_port
from tests.support.probes import http_ok
from tests.support.process_tree import children
from tests.support.processes import Child, Server, base_env, wait_until
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
        wait_until(lambda: http_ok(up.url + "/readyz"), what="a ready API")
        before = len(acknowledged)
        wait_until(lambda: ended(0) and len(acknowledged) > before, what="an acknowledged create")
        assert [url for url in acknowledged if not http_ok(up.url + url)] == []
        assert up.state()["children"]["valkey"] != first
        # The logs of all others are on the same disk, and no process ends by what it can't say.
        assert "worker-1 ended" not in up.output()
        assert "api-1 ended" not in up.output()


def test_a_full_disk_under_the_logs_and_the_state_file_stops_nothing(disk: Path, valkey: Server) -> None:
    """From the start: `headrace up` with a server elsewhere, no room for its own files, and its output on a full
    disk as well."""
    ballast = fill(disk)
    env = base_env(LOCAL_BASE_URL="http://127.0.0.1:9/v1", LOCAL_MODELS="smollm2")
    port = free_port()
    command = (sys.executable, "-m", "cli", "up", "--no-model", "--workers", "1", "--port", str(port))
    options = ("--redis-url", valkey.url, "--data-dir", str(disk))
    mute = ("sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh")
    with Child("up", (*mute, *command, *options), env, disk.parent) as up:
        url = f"http://127.0.0.1:{port}"
        up.wait_ready(lambda: http_ok(url + "/readyz"), within_s=120)
        answer = create(url, "one")
        assert answer is not None
        assert answer.status_code == 202
        time.sleep(1)  # it stops where a child ends that it has not seen ready, and it looks later than we do
        before = children(up.pid)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(children(up.pid)) == 2 and not {*children(up.pid)} & {*before}, what="both again")
        wait_until(lambda: http_ok(url + "/readyz"), what="a ready API")
        assert not (disk / "up.json").exists()
        ballast.unlink()
        os.kill(next(iter(children(up.pid))), signal.SIGKILL)
        wait_until(lambda: (disk / "up.json").exists(), what="the state, now that there is room")
        up.send(signal.SIGTERM)
        up.wait(60)
        assert not (disk / "up.json").exists()
