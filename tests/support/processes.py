"""Real processes for tests: started, waited for, and always reaped.

Every child dies with the test run (``PR_SET_PDEATHSIG``). Children run in a folder of their own, so that
a ``.env`` in this one changes no test.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import pytest

from cli.model import NAME as MODEL_NAME
from cli.up.process import end_with_parent, ending, last_lines
from cli.up.sockets import free_port, held_port
from cli.up.valkey import find_server, server_argv
from tests.support.probes import http_ok, pong
from tests.support.template import ForkedProcess, can_fork, template

ROOT = Path(__file__).parents[2]
READY_WITHIN_S = 90.0
"""Generous: several processes import at once, on two cores that others use too."""
END_WITHIN_S = 30.0

SETTINGS = re.compile(
    r"HEADRACE_.*|.*_(API_KEY|BASE_URL|MODELS|OPTIONS|CONTINUES|MAX_CONCURRENT|(REQUESTS|TOKENS)_PER_MINUTE|RATE_PER_SECOND)"
)
"""The variables of Headrace and of its providers."""

_Result = TypeVar("_Result")


def wait_until(
    check: Callable[[], _Result], within_s: float = READY_WITHIN_S, what: str = "a condition"
) -> _Result:
    """Call ``check`` until it is truthy. Out: what it returned. Fails the test after ``within_s``."""
    deadline = time.monotonic() + within_s
    while not (result := check()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {within_s:.0f} s in vain for {what}")
        time.sleep(0.02)
    return result


def base_env(redis_url: str = "", **more: str) -> dict[str, str]:
    """This process's environment without any setting of Headrace or of a provider, plus ``more``."""
    env = {name: value for name, value in os.environ.items() if not SETTINGS.fullmatch(name)}
    if redis_url:
        env["HEADRACE_REDIS_URL"] = redis_url
    return {**env, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **more}


class Child:
    """A process of a test. A context manager: it is gone when the block ends."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        directory: Path,
        *,
        pass_fds: Sequence[int] = (),
        orphaned: signal.Signals = signal.SIGKILL,
        forked: bool = False,
    ) -> None:
        """Started in ``directory``, where ``<name>.log`` takes its output; the log is appended to. ``forked``:
        ``argv`` is a module of this project and its arguments; it is forked from the run's template."""
        self.name = name
        self.url = ""
        self.log = directory / f"{name}.log"
        self._asked_to_end = False
        self._process: ForkedProcess | subprocess.Popen[bytes]
        with self.log.open("ab") as log:
            if forked and can_fork():
                descriptors = {1: log.fileno(), 2: log.fileno(), **{fd: fd for fd in pass_fds}}
                self._process = template().start(argv, env, directory, descriptors)
            else:
                self._process = subprocess.Popen(
                    (sys.executable, "-P", "-m", *argv) if forked else list(argv),
                    env=dict(env),
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=tuple(pass_fds),
                    preexec_fn=end_with_parent(orphaned),
                )
        self.pid = self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text("utf-8", "replace")

    def wait_ready(self, check: Callable[[], object], within_s: float = READY_WITHIN_S) -> None:
        """Wait until ``check`` is truthy. Fails the test, with the last log lines, if that never comes."""
        deadline = time.monotonic() + within_s
        while not check():
            code = self.exit_code
            if code is not None or time.monotonic() > deadline:
                self.terminate()
                why = ending(code) if code is not None else f"was not ready within {within_s:.0f} s"
                pytest.fail(f"{self.name} {why}:\n{last_lines(self.log, 30)}")
            time.sleep(0.02)

    def wait(self, within_s: float = END_WITHIN_S) -> int:
        """Wait for its end. Out: the exit code. Fails the test if it takes longer."""
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self.name} did not end within {within_s:.0f} s:\n{last_lines(self.log, 30)}")

    def send(self, sig: signal.Signals) -> None:
        """Send a signal to the process alone."""
        self._process.send_signal(sig)

    def pause(self) -> None:
        """Stop it as a long pause of its machine would."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL for its whole group, and reap it."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(END_WITHIN_S)

    def ask_to_end(self) -> None:
        """SIGTERM, once."""
        if self.exit_code is None and not self._asked_to_end:
            self._asked_to_end = True
            self.send(signal.SIGTERM)
            # A stopped process takes no SIGTERM.
            self.send(signal.SIGCONT)

    def terminate(self, within_s: float = END_WITHIN_S) -> int:
        """SIGTERM, and SIGKILL if that is not enough. Out: the exit code; it is reaped in any case."""
        self.ask_to_end()
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait(END_WITHIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()


def run(
    argv: Sequence[str], env: Mapping[str, str], directory: Path, stdin: bytes = b"", within_s: float = 60.0
) -> "subprocess.CompletedProcess[bytes]":
    """Run a module of this project, forked, to its end. ``argv``: the module and its arguments. Raises
    :class:`subprocess.TimeoutExpired`."""
    if not can_fork():
        command = (sys.executable, "-P", "-m", *argv)
        return subprocess.run(
            command, env=dict(env), cwd=directory, input=stdin, capture_output=True, timeout=within_s
        )
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        files = {number: file.fileno() for number, file in enumerate((given, out, err))}
        process = template().start(argv, env, directory, files)
        try:
            code = process.wait(within_s)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(list(argv), code, out.read(), err.read())


class Server:
    """A Redis-compatible server with an append-only file, as `headrace up` starts it."""

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        program: Path | None = None,
        env: Mapping[str, str] | None = None,
        config_file: str = "",
        **config: str,
    ) -> None:
        """``program``: None for the one that `headrace up` would start. ``env``: more of its environment.
        ``config_file``: a file of settings that the server may rewrite. ``config``: more of its settings, ``_`` for
        ``-`` (``maxmemory="10mb"``)."""
        self._held = contextlib.ExitStack()
        self.port = port or self._held.enter_context(held_port())
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._program = program or find_server()
        self._env = env or {}
        self._config_file = config_file
        self._config = [x for name, value in config.items() for x in (f"--{name.replace('_', '-')}", value)]
        self._child = self._start()

    def _start(self) -> Child:
        program, *options = server_argv(self._program, self.port, self._directory)
        argv = (program, *filter(None, (self._config_file,)), *options, *self._config)
        child = Child(f"valkey-{self.port}", argv, base_env(**self._env), self._directory, orphaned=signal.SIGTERM)
        child.wait_ready(lambda: pong(self.port))
        return child

    @property
    def pid(self) -> int:
        return self._child.pid

    def kill(self) -> None:
        """SIGKILL: what it has written is kept, for the kernel has it."""
        self._child.kill()

    def stop(self) -> None:
        """SIGTERM: nothing is lost. The port is held on, for it may be started again."""
        self._child.terminate()

    def start_again(self) -> None:
        """On the same port, from the append-only file."""
        self._child.terminate()
        self._child = self._start()

    def pause(self) -> None:
        self._child.pause()

    def resume(self) -> None:
        self._child.resume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._held.close()


start_server = Server
"""Whoever starts a server stops it: ``with start_server(directory, maxmemory="10mb") as server``."""


def start_api(env: Mapping[str, str], directory: Path, name: str = "api", port: int = 0) -> Child:
    """`python -m api`, forked, on a socket handed over (so no port is guessed); ready when /healthz says so."""
    with socket.create_server(("127.0.0.1", port), backlog=2048) as listener:
        fd = listener.fileno()
        child = Child(name, ("api", "--fd", str(fd)), env, directory, pass_fds=(fd,), forked=True)
        child.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    child.wait_ready(lambda: http_ok(child.url + "/healthz"))
    return child


def start_worker(env: Mapping[str, str], directory: Path, name: str = "worker", module: str = "worker") -> Child:
    """`python -m worker`, forked; ready when it says that it has started. One name for each in a folder."""
    child = Child(name, (module,), env, directory, forked=True)
    child.wait_ready(lambda: "worker_started" in child.output())
    return child


def arq_command(*options: str) -> tuple[str, ...]:
    """arq's own command line, with the worker's settings, as a module with its arguments."""
    return ("arq", "worker.main.WorkerSettings", *options)


def start_arq_worker(env: Mapping[str, str], directory: Path, name: str = "arq") -> Child:
    """arq's own worker, which its command line starts; ready as :func:`start_worker`."""
    child = Child(name, arq_command(), env, directory, forked=True)
    child.wait_ready(lambda: "worker_started" in child.output())
    return child


def start_model(directory: Path) -> Child:
    """The local model on one thread, so that it starves nobody. ``url`` is its base URL (``…/v1``)."""
    port = free_port()
    argv = (sys.executable, "-P", "-m", "cli.model", "--port", str(port), "--threads", "1")
    child = Child("model", argv, base_env(), directory)
    child.wait_ready(lambda: http_ok(f"http://127.0.0.1:{port}/health"), within_s=120)
    child.url = f"http://127.0.0.1:{port}/v1"
    return child


def local_provider(model_url: str) -> dict[str, str]:
    """The environment that makes the model at this URL the provider ``local``."""
    return {"LOCAL_BASE_URL": model_url, "LOCAL_MODELS": MODEL_NAME}
