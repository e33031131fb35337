"""The contenders: how each is started, how it is asked for a stream, and which processes belong to it."""

import json
import re
import shutil
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from typing import ClassVar, Self

import redis

from bench.http_request import AskedAnswer, HttpRequest, accepts, call, get, post
from bench.spawn import BenchError, Child, clean_env
from bench.toolchain import NODE, why_no_node
from cli.up.sockets import held_port
from cli.up.valkey import ALWAYS, allocator_env, find_server, server_argv
from shared.config.api_keys import new_api_key
from shared.store.keys import Keys

GATE_S = 60.0
MAX_STREAMS = "4000"
"""Not Headrace's default (200), because the table needs one worker process to carry every load."""
WAITING_PER_ADDRESS = "0"
"""Not Headrace's default (256), because here thousands of callers come from one address at one moment."""


_PORT = re.compile(r"^port (\d+)$", re.MULTILINE)


class Contender:
    """A contender, which runs as long as its block lasts. Each subclass defines how it is started and asked."""

    key: ClassVar[str]
    title: ClassVar[str]
    asks: ClassVar[bool] = True
    """Whether viewers may ask it for streams of their own. If not, it is only for reading."""
    shares: ClassVar[bool] = True
    """Whether many viewers may follow one stream, and come back to it."""

    def __init__(self, directory: Path, provider_url: str) -> None:
        self.directory = directory / self.key
        self.provider_url = provider_url
        self.port = 0
        self.redis_url = ""
        self.roots: list[int] = []
        self._owned = ExitStack()

    @staticmethod
    def why_not() -> str:
        """Why it can't run on this machine; '' if it can."""
        return ""

    def start(self) -> None:
        """Start its processes, and wait until it answers."""
        raise NotImplementedError

    def asking(self, answer: AskedAnswer) -> HttpRequest:
        """The request of a viewer that asks for a stream of its own."""
        raise NotImplementedError

    def open(self, answer: AskedAnswer) -> str:
        """Make a stream that nobody follows yet. Out: its name."""
        raise NotImplementedError

    def reading(self, name: str) -> HttpRequest:
        """The request of a viewer that follows this stream from its beginning."""
        raise NotImplementedError

    def go(self) -> None:
        """Let gated streams begin that the contender (and not the provider) writes."""

    def resuming(self, name: str) -> HttpRequest:
        """The request of a viewer that has seen the beginning, and was cut off."""
        return self.reading(name)

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self._owned.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._owned.close()

    def _run(self, name: str, *argv: str, **env: str) -> Child:
        child = self._owned.enter_context(Child(name, argv, self.directory, clean_env(**env)))
        self.roots.append(child.pid)
        return child

    def _start_redis(self) -> None:
        """Start a server as `headrace up` does: with its append-only file."""
        port = self._owned.enter_context(held_port())
        program = find_server()
        argv, env = server_argv(program, port, self.directory), clean_env(**allocator_env(program))
        child = self._owned.enter_context(Child("redis", argv, self.directory, env, orphaned=signal.SIGTERM))
        self.roots.append(child.pid)
        child.wait_until(lambda: accepts(port))
        self.redis_url = f"redis://127.0.0.1:{port}/0"

    def _start_uvicorn(self, module: str, **env: str) -> None:
        """Start an app as FastAPI's documentation says: ``uvicorn module:app``."""
        self.port = self._owned.enter_context(held_port())
        address = ("--host", "127.0.0.1", "--port", str(self.port), "--backlog", "2048")
        argv = (sys.executable, "-m", "uvicorn", f"{module}:app", *address, "--no-access-log")
        child = self._run(self.key, *argv, PROVIDER_URL=self.provider_url, PROVIDER_KEY="bench", **env)
        child.wait_until(lambda: accepts(self.port))


class Direct(Contender):
    key, title, shares = "direct", "(a) direct proxy, a client per request", False

    def start(self) -> None:
        self._start_uvicorn(f"bench.contenders.{self.key}")

    def asking(self, answer: AskedAnswer) -> HttpRequest:
        return HttpRequest(self.port, post("/chat/stream", json.dumps({"prompt": answer.prompt})))


class Shared(Direct):
    key, title = "shared", "(b) direct proxy, one shared client"


class Headrace(Contender):
    """``headrace up``: the embedded server with its append-only file, the API, a worker; with an API key."""

    key, title = "headrace", "(c) Headrace"
    processes = 1
    appendfsync: ClassVar[str] = ALWAYS
    owners: ClassVar[tuple[str, ...]] = ("bench",)
    """The owners of the API keys. The first one is the default."""

    def env(self) -> dict[str, str]:
        """More variables of its environment."""
        return {}

    def start(self) -> None:
        keys = {owner: new_api_key(owner) for owner in self.owners}
        self._auths = {owner: f"Bearer {secret}" for owner, (secret, _) in keys.items()}
        count = str(self.processes)
        options = ["--port", "0", "--no-model", "--api", count, "--workers", count, "--data-dir", "data"]
        options += ["--appendfsync", self.appendfsync]
        child = self._run(
            "up",
            *(sys.executable, "-P", "-m", "cli", "up", *options),
            LOCAL_BASE_URL=self.provider_url,
            HEADRACE_API_KEYS=",".join(entry for _, entry in keys.values()),
            **{
                "HEADRACE_MAX_STREAMS": MAX_STREAMS,
                "HEADRACE_WAITING_PER_ADDRESS": WAITING_PER_ADDRESS,
                **self.env(),
            },
        )
        child.wait_until(lambda: "Headrace is up: " in child.output(), within_s=60)
        state = json.loads((self.directory / "data" / "up.json").read_text())
        self.port = int(state["url"].rpartition(":")[2])
        self.redis_url = state["redis_url"]

    def asking(self, answer: AskedAnswer) -> HttpRequest:
        return self.asking_as(self.owners[0], answer)

    def asking_as(self, owner: str, answer: AskedAnswer) -> HttpRequest:
        """The request of a viewer with this owner's key."""
        return HttpRequest(self.port, self._create(answer, owner), get("{}"))

    def creating(self, answer: AskedAnswer) -> HttpRequest:
        """A request that makes a stream which nobody follows."""
        return HttpRequest(self.port, self._create(answer, self.owners[0]))

    def _create(self, answer: AskedAnswer, owner: str) -> str:
        """A create like that of the project's own clients: with an ``Idempotency-Key``, a different one for each
        viewer."""
        key = f"{token_hex(8)}-{{viewer}}"
        body = json.dumps({"prompt": answer.prompt})
        return post("/v1/streams", body, Authorization=self._auths[owner], Idempotency_Key=key)

    def open(self, answer: AskedAnswer) -> str:
        body = json.dumps({"prompt": answer.prompt})
        headers = {"Authorization": self._auths[self.owners[0]], "Idempotency_Key": token_hex(8)}
        content, _ = call(self.port, "POST", "/v1/streams", body, **headers)
        return str(json.loads(content)["events_url"])

    def reading(self, name: str) -> HttpRequest:
        return HttpRequest(self.port, get(name))

    def resuming(self, name: str) -> HttpRequest:
        return HttpRequest(self.port, get(name, Last_Event_ID=first_entry(self.redis_url, name)))


class InOpenAI(Headrace):
    """Headrace, read in another dialect than the native one. ``key`` is the dialect's name."""

    key, title = "openai", "(c) Headrace, in OpenAI's dialect"

    def asking(self, answer: AskedAnswer) -> HttpRequest:
        # The events_url holds a read token, so there is a query already.
        return HttpRequest(self.port, self._create(answer, self.owners[0]), get(f"{{}}&dialect={self.key}"))


class InResponses(InOpenAI):
    key, title = "responses", "(c) Headrace, in the dialect of OpenAI's Responses"


class InAiSdk(InOpenAI):
    key, title = "ai-sdk", "(c) Headrace, in the AI SDK's dialect"


class InAgUi(InOpenAI):
    key, title = "ag-ui", "(c) Headrace, in AG-UI's dialect"


DIALECTS: tuple[type[InOpenAI], ...] = (InOpenAI, InResponses, InAiSdk, InAgUi)


class Neighbours(Headrace):
    """Headrace with ten keys and its default number of places. The first key is greedy."""

    key, title = "neighbours", "(c) Headrace, ten keys"
    owners = ("greedy", *(f"other{n}" for n in range(9)))

    def env(self) -> dict[str, str]:
        return {
            "HEADRACE_MAX_STREAMS": "200",
            "HEADRACE_CREATIONS_PER_MINUTE": "0",
            "HEADRACE_STREAMS_PER_KEY": "0",
            "HEADRACE_MAX_QUEUE": "20000",
        }


class TwoOfEach(Headrace):
    key, title, processes = "headrace2", "(c) Headrace, two API and two worker processes", 2


class Xread(Contender):
    """Headrace's worker and server, with another app instead of its API."""

    key, title = "xread", "(d) Headrace's log, an XREAD per viewer"

    def start(self) -> None:
        self._start_redis()
        env = {"HEADRACE_REDIS_URL": self.redis_url, "HEADRACE_MAX_STREAMS": MAX_STREAMS}
        worker = self._run("worker", sys.executable, "-P", "-m", "worker", LOCAL_BASE_URL=self.provider_url, **env)
        worker.wait_until(lambda: "worker_started" in worker.output())
        self._start_uvicorn("bench.contenders.xread", **env)

    def asking(self, answer: AskedAnswer) -> HttpRequest:
        return HttpRequest(self.port, post("/streams", json.dumps({"prompt": answer.prompt})), get("{}"))

    def open(self, answer: AskedAnswer) -> str:
        content, _ = call(self.port, "POST", "/streams", json.dumps({"prompt": answer.prompt}))
        return str(json.loads(content)["events_url"])

    def reading(self, name: str) -> HttpRequest:
        return HttpRequest(self.port, get(name))

    def resuming(self, name: str) -> HttpRequest:
        return HttpRequest(self.port, get(name, Last_Event_ID=first_entry(self.redis_url, name)))


class NodeContender(Contender):
    """A contender from npm."""

    @staticmethod
    def why_not() -> str:
        return why_no_node()

    def _start_node(self, script: str, **env: str) -> None:
        node = shutil.which("node") or "node"
        child = self._run(self.key, node, str(NODE / script), NODE_ENV="production", **env)
        child.wait_until(lambda: _PORT.search(child.output()))
        self.port = int(_PORT.findall(child.output())[0])


class Resumable(NodeContender):
    key, title = "resumable", "(e) resumable-stream (npm)"

    def start(self) -> None:
        self._start_redis()
        self._start_node("resumable.mjs", REDIS_URL=self.redis_url, PROVIDER_URL=self.provider_url)

    def asking(self, answer: AskedAnswer) -> HttpRequest:
        return HttpRequest(self.port, post("/", json.dumps({"prompt": answer.prompt})))

    def open(self, answer: AskedAnswer) -> str:
        _, headers = call(self.port, "POST", "/", json.dumps({"prompt": answer.prompt}))
        return str(headers["x-stream-id"])

    def reading(self, name: str) -> HttpRequest:
        return HttpRequest(self.port, get(f"/{name}"))


class Durable(NodeContender):
    """Only for reading: a thread of this process writes its streams, with one append for each token."""

    key, title, asks = "durable", "(f) @durable-streams/server (npm), reading only", False

    def start(self) -> None:
        self._start_node("durable.mjs")
        self._made = 0
        self._gate = threading.Event()
        self._closing = threading.Event()
        self._owned.callback(self._closing.set)

    def open(self, answer: AskedAnswer) -> str:
        self._made += 1
        name = f"/stream-{self._made}"
        call(self.port, "PUT", name, content_type="text/plain")
        gate = self._gate if answer.gated else None
        threading.Thread(target=self._write, args=(name, answer, gate), daemon=True).start()
        return name

    def _write(self, name: str, answer: AskedAnswer, gate: threading.Event | None) -> None:
        if gate and not gate.wait(GATE_S):
            return
        began = time.monotonic() + answer.delay_ms / 1000
        for number in range(answer.tokens):
            if self._closing.wait(max(0.0, began + number / answer.rate - time.monotonic())):
                return
            try:
                call(self.port, "POST", name, f"{number}@{time.monotonic_ns()} ", content_type="text/plain")
            except BenchError:
                return  # the tokens that its viewers miss are counted

    def go(self) -> None:
        self._gate.set()
        self._gate = threading.Event()

    def reading(self, name: str) -> HttpRequest:
        return HttpRequest(self.port, get(f"{name}?offset=-1&live=sse"))


ALL: tuple[type[Contender], ...] = (Direct, Shared, Headrace, Xread, Resumable, Durable)


def first_entry(redis_url: str, events_url: str) -> str:
    """The id of the first event of a stream's log, as a viewer has seen it that was cut off at the beginning."""
    found = re.search(r"/streams/([^/]+)/events", events_url)
    if not found:
        raise BenchError(f"{events_url} names no stream")
    with redis.Redis.from_url(redis_url) as client:
        entries = client.xrange(Keys("headrace").log(found[1]), count=1)
    return str(entries[0][0].decode())
