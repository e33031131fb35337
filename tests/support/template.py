"""Python processes that are forked from one which has imported everything.

Theory of operation. An API or worker process spends 0.6 to 0.8 s of CPU on imports before its own first step, and a
test run starts hundreds; other people's clients spend 1 to 5 s. So a run keeps one *template* for each Python that
it uses: a process of one thread that has imported what they import, or does it with the first order that names it
(no thread is begun by that), and waits for orders. For each order it forks, and the child takes on what an exec
would have given it: environment, folder, standard files, inherited descriptors under their own numbers, a session
of its own. Then the child runs its module as ``python -m`` does.

The child is forked twice. As an orphan it is adopted by the run (:func:`tests.support.process_tree.adopt_orphans`),
so the run reaps it, and the kernel ends it with the run, as with a child that the run started itself. Its command
line is the template's: a test that looks at command lines or memory maps starts the real thing.

The template ends when the run's end of its socket is closed.
"""

import atexit
import ctypes
import fcntl
import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from tests.support.process_tree import adopts_orphans

_PR_SET_PDEATHSIG = 1
_HEADRACE = (
    *("api.app", "worker.main", "cli.main", "arq.cli"),
    # Packages whose modules are found by file when a process starts.
    *("api.routes.*", "api.dialects.*", "worker.providers.formats.*"),
    # What libraries load at their first use.
    *("anyio._backends._asyncio", "encodings.idna", "fastapi.telemetry._runtime", "pydantic.v1"),
    *("uvicorn.lifespan.on", "uvicorn.loops.uvloop"),
)
_MOST_DESCRIPTORS = 16
_HIGH = 400
"""Received descriptors wait above this number until those below are free. (A shell's usual limit is 1024.)"""
_LENGTH_BYTES = 4


class ForkedProcess:
    """What :class:`subprocess.Popen` is of a process that it started, of one that was adopted."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._reaping = threading.Lock()

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        with self._reaping:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end. Out: the exit code. Raises :class:`subprocess.TimeoutExpired`."""
        if (code := self.poll()) is None:
            descriptor = os.pidfd_open(self.pid)
            try:
                select.select([descriptor], [], [], timeout)
            finally:
                os.close(descriptor)
            if (code := self.poll()) is None:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return code

    def send_signal(self, sig: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Template:
    """The run's end of a template. ``python``: whose packages it has. ``modules``: what it imports at once
    (``package.*``: all modules of the package); ``env``: what they want in the environment for that."""

    def __init__(self, python: str, modules: Sequence[str], env: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            argv = (python, "-P", "-u", "-m", __name__, str(theirs.fileno()), str(os.getpid()), *modules)
            root = str(Path(__file__).parents[2])
            self._popen = subprocess.Popen(
                argv,
                env={**os.environ, **env, "PYTHONPATH": root},
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._socket = ours
        self._one_at_a_time = threading.Lock()

    def start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        directory: Path,
        descriptors: Mapping[int, int],
        *,
        at_terminal: bool = False,
        imports: Sequence[str] = (),
    ) -> ForkedProcess:
        """Fork a process. ``argv``: a module's name and its arguments. ``descriptors``: by the number that each has
        in the process, the caller's, which stay open here (0 is /dev/null where it is not named). ``at_terminal``:
        descriptor 0 becomes its controlling terminal. ``imports``: what the template imports in front of it."""
        order = {
            "argv": list(argv),
            "imports": list(imports),
            "env": dict(env),
            "directory": str(directory),
            "descriptors": list(descriptors),
            "at_terminal": at_terminal,
        }
        body = json.dumps(order).encode()
        with self._one_at_a_time:
            head = len(body).to_bytes(_LENGTH_BYTES, "big")
            socket.send_fds(self._socket, [head], list(descriptors.values()))
            self._socket.sendall(body)
            pid = int.from_bytes(_receive(self._socket, _LENGTH_BYTES), "big")
        return ForkedProcess(pid)

    def close(self) -> None:
        """End it. What it forked is the run's own."""
        self._socket.close()
        self._popen.wait(60)


_begun: dict[str, Template] = {}
_begun_once = threading.Lock()


def template(
    python: str = sys.executable, modules: Sequence[str] = _HEADRACE, env: Mapping[str, str] = MappingProxyType({})
) -> Template:
    """The run's template of this Python, begun with the first process that is wanted of it."""
    with _begun_once:
        if python not in _begun:
            _begun[python] = Template(python, modules, env)
        return _begun[python]


def end_templates() -> None:
    """End those that were begun."""
    with _begun_once:
        while _begun:
            _begun.popitem()[1].close()


def can_fork() -> bool:
    """Whether this run adopts orphans, as the tests of pytest do. Others (chaos, hostile) start the real thing."""
    return adopts_orphans()


def _receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError("the other end of the template's socket is closed")
        data += piece
    return data


def _serve(connection: socket.socket, run: int) -> list[str]:
    """Fork for each order. Out: in a forked child, the module to run and its arguments. Ends the process when the
    run has ended. ``run``: its pid."""
    while True:
        head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, _MOST_DESCRIPTORS)
        if not head:
            os._exit(0)
        order = json.loads(_receive(connection, int.from_bytes(head, "big")))
        _import(order["imports"])
        middle = os.fork()
        if not middle:
            parent = os.getpid()
            if os.fork():
                os._exit(0)
            _be_adopted(run, parent)
            connection.sendall(os.getpid().to_bytes(_LENGTH_BYTES, "big"))
            connection.detach()
            _take_on(order, descriptors)
            return list(order["argv"])
        os.waitpid(middle, 0)
        for descriptor in descriptors:
            os.close(descriptor)


def _be_adopted(run: int, parent: int) -> None:
    """Wait until the run has this process from its parent, and end with it. A run that is over adopts nobody: then
    this process ends at once."""
    while os.getppid() == parent:
        time.sleep(0.0005)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != run:
        os._exit(1)


def _take_on(order: dict[str, Any], descriptors: Sequence[int]) -> None:
    """What an exec would have given this process."""
    os.setsid()
    os.chdir(order["directory"])
    os.environ.clear()
    os.environ.update(order["env"])
    waiting = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _HIGH) for descriptor in descriptors]
    os.closerange(3, _HIGH)
    for descriptor, number in zip(waiting, order["descriptors"], strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if order["at_terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _run(module: str) -> NoReturn:
    """Run the module as ``python -m`` does, and end. An interpreter that takes itself apart would copy the
    template's pages for that: 0.035 s of CPU a process."""
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as told:
        code = told.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # what an interpreter does first: executors end their threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _import(names: Sequence[str]) -> None:
    for name in names:
        module = import_module(name.removesuffix(".*"))
        if name.endswith(".*"):
            _import([f"{module.__name__}.{found.name}" for found in pkgutil.iter_modules(module.__path__)])
    gc.freeze()  # a collector that visits these objects in a fork would copy their pages


def main() -> None:
    """``python -m tests.support.template SOCKET PID MODULE…``."""
    connection, run = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    _import(sys.argv[3:])
    module, *arguments = _serve(connection, run)
    sys.argv = [module, *arguments]
    _run(module)


if __name__ == "__main__":
    main()
