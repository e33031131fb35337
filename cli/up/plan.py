"""The children of `headrace up`: every command, environment, order and time bound in one place.

Stopping takes at most the sum of the three turns, 5 s: first the API (it tells its viewers to come back), then the
workers (they hand their streams over, which needs the server) and the model, then the server.
"""

import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cli.model import NAME as MODEL_NAME
from cli.up.process import ChildCommand
from cli.up.sockets import answers_ok
from cli.up.supervisor import Spec
from cli.up.valkey import allocator_env, answers, server_argv, why_no_room

CODE = Path(__file__).parents[2]
"""The folder of the packages. Children run the CLI's own code, and never an ``api`` in the current folder."""

API_TURN, WORKER_TURN, SERVER_TURN = 0, 1, 2
API_STOP_S, WORKER_STOP_S, MODEL_STOP_S, SERVER_STOP_S = 1.5, 2.0, 1.0, 1.5

SERVER_READY_S = 60.0
"""Loading a large append-only file takes seconds for each GB."""
MODEL_READY_S = 60.0
"""The model usually needs about a second; a cold disk or a busy machine takes longer."""
CODE_READY_S = 30.0
"""Each process imports for about a second, and all start at once."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address on which the API listens."""

    host: str
    port: int
    fd: int
    """The listening socket that all API processes share."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all children share: their environment, the paths of their logs, and the API's address."""

    env: Mapping[str, str]
    log: Callable[[str], Path]
    address: Address

    def server(
        self, program: Path, port: int, config: Path, directory: Path, lock_fd: int, appendfsync: str
    ) -> Spec:
        """The embedded Redis server. If the CLI dies, it gets SIGTERM, so that it can save its append-only file.
        ``config``: the file with its password, which is also in ``HEADRACE_REDIS_URL``."""
        url = self.env["HEADRACE_REDIS_URL"]

        async def ready() -> bool:
            return await answers(url)

        argv = server_argv(program, port, directory, appendfsync)
        command = ChildCommand(
            "valkey",
            (argv[0], str(config), *argv[1:]),
            {**allocator_env(program), **self.env},
            self.log("valkey"),
            orphaned=signal.SIGTERM,
            pass_fds=(lock_fd,),
        )

        def waits_for(log_lines: str) -> str:
            return why_no_room(log_lines, directory)

        return Spec(command, ready, SERVER_READY_S, SERVER_STOP_S, SERVER_TURN, waits_for=waits_for)

    def model(self, port: int) -> Spec:
        """The local model."""
        command = self._python("model", ("cli.model", "--port", str(port)), ())
        return Spec(command, _http_ok("127.0.0.1", port, "/health"), MODEL_READY_S, MODEL_STOP_S, WORKER_TURN)

    def worker(self, number: int, after: tuple[str, ...]) -> Spec:
        """A worker process. It is ready when the API's ``/readyz`` sees it in Redis."""
        command = self._python(f"worker-{number}", ("worker",), ())
        ready = _http_ok(self.address.host, self.address.port, "/readyz")
        return Spec(command, ready, CODE_READY_S, WORKER_STOP_S, WORKER_TURN, after)

    def api(self, number: int, after: tuple[str, ...]) -> Spec:
        """An API process on the shared socket."""
        command = self._python(f"api-{number}", ("api", "--fd", str(self.address.fd)), (self.address.fd,))
        ready = _http_ok(self.address.host, self.address.port, "/healthz")
        return Spec(command, ready, CODE_READY_S, API_STOP_S, API_TURN, after)

    def _python(self, name: str, module: tuple[str, ...], pass_fds: tuple[int, ...]) -> ChildCommand:
        argv = (sys.executable, "-P", "-m", *module)
        return ChildCommand(name, argv, self.env, self.log(name), pass_fds=pass_fds)


def decided_env(redis_url: str, host: str, port: int, model_port: int | None) -> dict[str, str]:
    """The settings that `headrace up` decides. The local model gets a key, because other users of this machine can
    reach its server."""
    decided = {"HEADRACE_REDIS_URL": redis_url, "HEADRACE_HOST": host, "HEADRACE_PORT": str(port)}
    if model_port is not None:
        decided |= {"LOCAL_BASE_URL": f"http://127.0.0.1:{model_port}/v1", "LOCAL_MODELS": MODEL_NAME}
        decided["LOCAL_API_KEY"] = secrets.token_urlsafe(24)
    return decided


def children_env(env: Mapping[str, str], decided: Mapping[str, str]) -> dict[str, str]:
    """The environment of every child: the CLI's own, and what `headrace up` decided."""
    ours = {
        # A Ctrl-C must not take 25 s: streams are handed over, and go on at the next start.
        "HEADRACE_DRAIN_S": "0",
        "PYTHONPATH": str(CODE),
        "PYTHONUNBUFFERED": "1",
    }
    if "LOCAL_BASE_URL" in decided:
        # The environment's proxy can't reach servers on this machine's loopback.
        no_proxy = "no_proxy" if "no_proxy" in env else "NO_PROXY"
        ours[no_proxy] = ",".join(filter(None, (env.get(no_proxy), urlsplit(decided["LOCAL_BASE_URL"]).netloc)))
    return {**env, **decided, **ours}


def embedded_url(port: int, password: str) -> str:
    """The URL of the embedded server."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def _http_ok(host: str, port: int, path: str) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return await answers_ok(host, port, path)

    return ready
