"""`headrace up` as a person runs it: real processes, real signals."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from cli.up.sockets import free_port
from cli.up.valkey import allocator_env, find_server
from tests.support.probes import http_ok
from tests.support.process_tree import children, is_alive
from tests.support.processes import Child, Server, base_env, wait_until
from tests.support.requirements import find_program, require_model
from tests.support.up import Up


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One for all tests after which it still runs."""
    with Up(tmp_path_factory.mktemp("up"), "--no-model") as child:
        yield child.wait_up()


def test_up_answers_and_says_what_runs(up: Up) -> None:
    assert http_ok(up.url + "/healthz")
    assert http_ok(up.url + "/readyz")
    state = up.state()
    assert state["url"] == up.url
    assert state["pid"] == up.pid
    assert sorted(state["children"]) == ["api-1", "valkey", "worker-1", "worker-2"]
    assert set(state["children"].values()) == set(children(up.pid))
    for name in state["children"]:
        assert (up.data / "logs" / f"{name}.log").exists()
    assert "The local model is off (--no-model)." in up.output()
    assert "HEADRACE_DEFAULT_MODEL" in up.output()


def test_its_server_and_its_data_are_for_this_user_alone(up: Up) -> None:
    url = up.state()["redis_url"]
    password = urlsplit(url).password
    assert password
    with Redis.from_url(url) as redis:
        redis.set("of", "this user")
    with Redis(port=urlsplit(url).port or 0) as stranger, pytest.raises(AuthenticationError):
        stranger.keys("*")
    files = [file for file in up.data.rglob("*") if file.is_file()]
    assert [file.name for file in files if "appendonly" in file.name and file.stat().st_size]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in up.data.rglob("*/")} == {0o700}
    commands = [Path(f"/proc/{pid}/cmdline") for pid in (up.pid, *up.state()["children"].values())]
    told = [command.read_text() for command in commands if command.exists()]
    told += [log.read_text() for log in (up.data / "logs").iterdir()] + [up.output()]
    assert [text for text in told if password in text] == []


def test_its_server_allocates_with_jemalloc_where_this_machine_has_it(up: Up) -> None:
    loaded = Path(f"/proc/{up.state()['children']['valkey']}/maps").read_text()
    assert ("jemalloc" in loaded) == bool(allocator_env(find_server()))


def test_the_doctor_finds_it_by_its_folder(up: Up, tmp_path: Path) -> None:
    def examine(folder: Path) -> str:
        argv = [sys.executable, "-m", "cli", "doctor", "--data-dir", str(folder)]
        ran = subprocess.run(argv, env=base_env(), cwd=tmp_path, capture_output=True, text=True, timeout=60)
        return ran.stdout

    url = urlsplit(up.state()["redis_url"])
    said = examine(up.data)
    assert f"answers at redis://***@127.0.0.1:{url.port}/0" in said
    assert "2 alive" in said
    assert str(url.password) not in said
    assert f":{url.port}" not in examine(tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's death signal is Linux's")
def test_a_killed_cli_leaves_no_child_and_its_folder_can_be_used_again(tmp_path: Path) -> None:
    with Up(tmp_path, "--no-model", "--workers", "1") as first:
        pids = first.wait_up().state()["children"].values()
        first.kill()
    wait_until(lambda: not [pid for pid in pids if is_alive(pid)], what="the children's end")
    with Up(tmp_path, "--no-model", "--workers", "1", name="again") as again:
        again.wait_up()
        assert http_ok(again.url + "/healthz")
        assert_stops(again, signal.SIGTERM)


def assert_stops(up: Up, sig: signal.Signals) -> None:
    """The signal ends it and every child within seconds."""
    pids = up.state()["children"].values()
    began = time.monotonic()
    up.send(sig)
    assert up.wait(60) == 0, up.output()
    assert time.monotonic() - began < 10
    assert not [pid for pid in pids if is_alive(pid)]
    assert not (up.data / "up.json").exists()


def test_a_killed_worker_and_a_killed_api_are_started_again(up: Up) -> None:
    before = up.state()["children"]
    for name in ("worker-1", "api-1"):
        os.kill(before[name], signal.SIGKILL)
    wait_until(lambda: not set(up.state()["children"].values()) & {before["worker-1"], before["api-1"]})
    wait_until(lambda: http_ok(up.url + "/healthz"), what="the API")
    assert "worker-1 was ended by SIGKILL; starting it again" in up.output()
    assert up.state()["children"]["worker-2"] == before["worker-2"]


def test_a_killed_server_is_started_again_from_its_file(up: Up) -> None:
    before = up.state()
    os.kill(before["children"]["valkey"], signal.SIGKILL)
    wait_until(lambda: up.state()["children"]["valkey"] != before["children"]["valkey"])
    wait_until(lambda: http_ok(up.url + "/readyz"), what="a ready API")
    assert up.state()["redis_url"] == before["redis_url"]


def test_a_second_one_on_the_same_folder_is_refused_and_hurts_nobody(up: Up, tmp_path: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "cli", "up", "--port", "0", "--data-dir", str(up.data), "--no-model"],
        env=base_env(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 1
    assert "is in use by another `headrace up`" in second.stderr
    assert "--data-dir" in second.stderr
    assert http_ok(up.url + "/readyz")
    assert up.state()["pid"] == up.pid


def test_a_busy_port_is_refused_before_anything_is_started(up: Up, tmp_path: Path) -> None:
    port = up.url.rpartition(":")[2]
    second = subprocess.run(
        [sys.executable, "-m", "cli", "up", "--port", port, "--data-dir", str(tmp_path / "other")],
        env=base_env(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 1
    assert f"Port {port}" in second.stderr
    assert "--port" in second.stderr
    assert not (tmp_path / "other").exists()


def test_two_api_processes_share_the_port(tmp_path: Path) -> None:
    with Up(tmp_path, "--no-model", "--api", "2", "--workers", "1") as up:
        up.wait_up()
        pids = up.state()["children"]
        assert sorted(pids) == ["api-1", "api-2", "valkey", "worker-1"]
        os.kill(pids["api-1"], signal.SIGKILL)
        for _ in range(20):
            assert http_ok(up.url + "/healthz")


def test_a_server_that_is_already_there_is_used(tmp_path: Path, valkey: Server) -> None:
    with Up(tmp_path, "--no-model", "--workers", "1", "--redis-url", valkey.url) as up:
        up.wait_up()
        assert "valkey" not in up.state()["children"]
        assert up.state()["redis_url"] == valkey.url
        assert http_ok(up.url + "/readyz")


def test_the_built_in_model_answers_the_command_that_is_printed_and_all_ends_with_ctrl_c(tmp_path: Path) -> None:
    require_model()
    find_program("curl")
    with Up(tmp_path) as up:
        up.wait_up()
        assert "model" in up.state()["children"]
        assert "model is ready after" in up.output()
        told = up.state()["environment"]
        headers = {"Content-Type": "application/json"}
        url = told["LOCAL_BASE_URL"] + "/chat/completions"
        asked = httpx.post(url, content=b"{", headers=headers, timeout=60)
        assert asked.status_code == 401, "no page and no other user may ask it"
        headers["Authorization"] = f"Bearer {told['LOCAL_API_KEY']}"
        assert httpx.post(url, content=b"{", headers=headers, timeout=60).status_code not in (200, 401)
        stream = httpx.post(up.url + "/v1/streams", json={"prompt": "Hello", "max_tokens": 3}, timeout=60).json()
        record = up.url + stream["url"]
        wait_until(lambda: httpx.get(record, timeout=60).json()["status"] == "done", what="an answer")
        command = re.search(r"^curl .*\n.*\n$", up.output(), re.MULTILINE)
        assert command
        # A few words are enough; then the answer is still under way when everything is stopped.
        pasted = ["sh", "-c", command[0].rstrip() + " | head -n 20"]
        said = subprocess.run(pasted, capture_output=True, text=True, timeout=60)
        assert 'data: {"text":' in said.stdout, said.stderr
        assert_stops(up, signal.SIGINT)


def test_whoever_reads_its_output_may_leave(tmp_path: Path) -> None:
    """As in ``headrace up | head``: what runs goes on, and ends in order."""
    data, port = tmp_path / "data", free_port()
    command = (sys.executable, "-m", "cli", "up", "--no-model", "--workers", "1", "--port", str(port))
    piped = ("sh", "-c", '{ "$@"; echo $? > code; } | head -n 1', "sh", *command, "--data-dir", str(data))
    with Child("up", piped, base_env(), tmp_path) as up:
        up.wait_ready(lambda: http_ok(f"http://127.0.0.1:{port}/readyz"), within_s=120)
        state = json.loads((data / "up.json").read_text())
        os.kill(state["children"]["worker-1"], signal.SIGKILL)
        wait_until(lambda: len(children(state["pid"])) == 2, what="a worker that is gone")
        wait_until(lambda: len(children(state["pid"])) == 3, what="a worker in its place")
        os.kill(state["pid"], signal.SIGTERM)
        up.wait(60)
    assert (tmp_path / "code").read_text() == "0\n"


def test_a_redis_url_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    with Up(tmp_path, "--no-model", env=base_env(HEADRACE_QUEUE_URL="nonsense://")) as up:
        assert up.wait(60) == 2
        assert "HEADRACE_QUEUE_URL: it begins with none of redis://" in " ".join(up.output().split())
        assert "Traceback" not in up.output()
