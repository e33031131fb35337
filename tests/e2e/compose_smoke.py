"""Smoke test of ``docker compose up``: answers, more, fewer and no workers, Redis restarts; and ``docker run``.

A program and no pytest module: it needs a stack that is up, its folder as the current one, and docker on the
PATH. Standard library only. It prints what it does and sees; exit code 0, or 1 with what went wrong::

    docker compose up -d --build --wait && python3 tests/e2e/compose_smoke.py
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from threading import Thread
from typing import Any

WORKERS = 3
READY_S = 120.0  # a fresh stack on a small machine: four Python processes that start at once
ANSWER_S = 180.0  # the longest answer asked for, twice over, with one core for the model
SILENCE_S = 40.0  # longer than two comments are apart (15 s)
COMMAND_S, GRACE_S = 120.0, 35.0  # for any command; stop_grace_period of the workers

LONG = "Write a very long and detailed fairy tale about a river, a mill and the people who live there."
TERMINAL = ("done", "failed", "cancelled")


class Failed(Exception):
    """The stack does not do what it should; the text says what was expected and what was seen."""


def expect(true: object, text: str) -> None:
    """Raise :class:`Failed` with the text if it is not so."""
    if not true:
        raise Failed(text)


def docker(*arguments: str) -> str:
    """Run docker; out: what it printed. Raises :class:`Failed` with what it complained of."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=COMMAND_S, check=False)
    expect(done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def compose(*arguments: str) -> str:
    return docker("compose", *arguments)


def until(what: str, seconds: float, look: Callable[[], object]) -> float:
    """Wait until ``look`` finds something true. Out: the seconds that took."""
    start = time.monotonic()
    while not look():
        expect(time.monotonic() - start < seconds, f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - start


@dataclass
class Api:
    """The API, at the address where compose published it."""

    host: str
    port: int

    def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """One call. Out: status and JSON; status 0 while nothing answers."""
        connection = HTTPConnection(self.host, self.port, timeout=10)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.load(response)
        except (OSError, HTTPException):
            return 0, {}
        finally:
            connection.close()

    def ask(self, prompt: str, max_tokens: int) -> "Viewer":
        """Create a stream and start to watch it."""
        status, made = self.call("POST", "/v1/streams", {"prompt": prompt, "max_tokens": max_tokens})
        expect(status == 202, f"create: expected 202, got {status} {made}")
        viewer = Viewer(self, made["id"], made["events_url"])
        Thread(target=viewer.watch, daemon=True).start()
        return viewer


@dataclass
class Viewer:
    """What a browser would do: reads the events, comes back with Last-Event-ID, and adds up the text."""

    api: Api
    id: str
    url: str
    text: str = ""
    last_id: str = ""
    opened: int = 0
    seen: list[tuple[str, float, dict[str, Any]]] = field(default_factory=list)  # type, moment, data
    deltas: list[float] = field(default_factory=list)  # their moments; they are not among ``seen``
    over: bool = False

    def watch(self) -> None:
        while not self.over:
            connection = HTTPConnection(self.api.host, self.api.port, timeout=SILENCE_S)
            try:
                headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
                connection.request("GET", self.url, headers=headers)
                response = connection.getresponse()
                self.over = response.status != 200
                self.opened += 1
                self._read(response)
            except (OSError, HTTPException):
                time.sleep(0.2)
            finally:
                connection.close()

    def _read(self, lines: Any) -> None:
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.decode().rstrip("\r\n").partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
            elif value == "" and "data" in fields:
                self._take(fields.get("event", "message"), fields["id"], json.loads(fields["data"]))
                fields = {}
            if self.over:
                return

    def _take(self, kind: str, event_id: str, data: dict[str, Any]) -> None:
        now = time.monotonic()
        self.last_id = event_id
        if kind == "message":
            self.text += data.get("text", "")
            self.deltas.append(now)
            return
        if kind in ("started", "restart", "snapshot"):
            self.text = data.get("text", "")
        self.seen.append((kind, now, data))
        self.over = kind in TERMINAL

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.seen if kind != "queued"]

    def until_said(self, deltas: int) -> None:
        until(f"{deltas} deltas of {self.id}", ANSWER_S, lambda: len(self.deltas) >= deltas or self.over)
        expect(not self.over, f"the answer was too short to disturb: {self.kinds}")

    def finished(self) -> dict[str, Any]:
        """Wait for the end; the record, which must hold the very text that was seen."""
        until(f"the end of {self.id}", ANSWER_S, lambda: self.over)
        status, record = self.api.call("GET", f"/v1/streams/{self.id}")
        expect(status == 200, f"record: expected 200, got {status} {record}")
        expect(self.kinds[-1:] == ["done"], f"expected done at the end, saw {self.seen}")
        expect(record["text"] == self.text, f"seen {self.text!r}, but the record says {record['text']!r}")
        expect(self.text.strip(), "the answer is empty")
        print(f"  seen: {' '.join(self.kinds)}; {len(self.text.encode())} bytes, the same as in the record")
        return record


def carrier(stream_id: str) -> str:
    """The container of the worker that carries the stream: a worker's name begins with its host's."""
    worker = compose("exec", "-T", "redis", "valkey-cli", "HGET", f"headrace:{{{stream_id}}}:meta", "worker")
    host = worker.rpartition("-")[0]
    expect(host in compose("ps", "-q", "worker"), f"no container of worker {worker!r}")
    return host


def answers(api: Api) -> None:
    waited = until("/readyz", READY_S, lambda: api.call("GET", "/readyz")[0] == 200)
    print(f"ready after {waited:.1f} s: {api.call('GET', '/readyz')[1]}")
    asked = time.monotonic()
    viewer = api.ask("Why is the sky blue? Answer in two sentences.", 80)
    viewer.finished()
    print(f"  first token after {viewer.deltas[0] - asked:.2f} s: {viewer.text[:60]!r}…")


def scales(api: Api) -> None:
    compose("up", "-d", "--no-build", "--no-recreate", "--scale", f"worker={WORKERS}")
    until(f"{WORKERS} workers", READY_S, lambda: api.call("GET", "/readyz")[1].get("workers") == WORKERS)
    print(f"  /readyz: {api.call('GET', '/readyz')[1]}")


def survives_a_killed_worker(api: Api) -> None:
    viewer = api.ask(LONG, 300)
    viewer.until_said(30)
    container = carrier(viewer.id)
    docker("kill", container)
    killed, said = time.monotonic(), len(viewer.deltas)
    record = viewer.finished()
    expect(viewer.kinds.count("continued") == 1, f"expected it to go on once, saw {viewer.kinds}")
    expect("restart" not in viewer.kinds, f"it should not start over, saw {viewer.kinds}")
    expect(record["attempt"] == 2, f"expected attempt 2, the record says {record['attempt']}")
    went_on = next(moment for kind, moment, _ in viewer.seen if kind == "continued")
    seconds = f"{went_on - killed:.2f} s"
    print(f"  {container} killed after {said} deltas; taken over in {seconds}, on {viewer.opened} connection(s)")


def survives_a_restart_of_redis(api: Api) -> None:
    viewer = api.ask(LONG, 300)
    viewer.until_said(30)
    said, start = len(viewer.deltas), time.monotonic()
    compose("restart", "redis")
    took = time.monotonic() - start
    viewer.finished()
    times = [start, *(moment for moment in viewer.deltas if moment > start)]
    pause = max(later - earlier for earlier, later in pairwise(times))
    expect(len(viewer.deltas) > said, "nothing was said after the restart: it did not happen in mid-stream")
    print(f"  redis restarted in {took:.1f} s; longest pause {pause:.2f} s, on {viewer.opened} connection(s)")


def drains_a_stopped_worker(api: Api) -> None:
    # Short enough to end within the drain time on a slow machine too.
    viewer = api.ask(LONG, 120)
    viewer.until_said(30)
    container = carrier(viewer.id)
    start = time.monotonic()
    docker("stop", container)
    took = time.monotonic() - start
    viewer.finished()
    code = docker("inspect", "--format", "{{.State.ExitCode}}", container)
    expect(code == "0" and took < GRACE_S, f"the worker ended with {code} after {took:.1f} s")
    expect("restart" not in viewer.kinds, f"it should have ended its answer first, saw {viewer.kinds}")
    print(f"  {container} ended its answer and left with exit code 0 after {took:.1f} s")


def reads_on_without_workers(api: Api) -> None:
    viewer = api.ask("Say one word.", 5)
    viewer.finished()
    compose("stop", "worker")
    until("no worker", READY_S, lambda: api.call("GET", "/readyz/creates")[1].get("code") == "no_workers")
    expect(api.call("GET", "/readyz/viewers")[0] == 200, "viewers are sent away for want of workers")
    expect(api.call("GET", f"/v1/streams/{viewer.id}")[0] == 200, "a stream can't be read for want of workers")
    seen = health(compose("ps", "-q", "api").split()[0])
    expect(seen == "healthy", f"the API is {seen} for want of workers")


def health(container: str) -> str:
    return docker("inspect", "--format", "{{.State.Health.Status}}", container)


def runs_by_itself(api: Api) -> None:
    refused = subprocess.run(
        ["docker", "run", "--rm", "headrace"], capture_output=True, text=True, timeout=COMMAND_S, check=False
    )
    expect(refused.returncode and "HEADRACE_ALLOW_OPEN" in refused.stderr, f"no way out is told: {refused.stderr}")
    expect("Traceback" not in refused.stderr, f"a traceback: {refused.stderr}")
    networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}"
    network = docker("inspect", "--format", networks, compose("ps", "-q", "api").split()[0])
    settings = ("-e", "HEADRACE_REDIS_URL=redis://redis:6379/0", "-e", "HEADRACE_ALLOW_OPEN=true")
    run = ("run", "-d", "--rm", "--network", network, *settings)
    started = [docker(*run, "-p", "127.0.0.1::8000", "headrace")]
    try:
        started.append(docker(*run, "headrace", "python", "-m", "worker"))
        port = docker("port", started[0], "8000").rpartition(":")[2]
        alone = Api("127.0.0.1", int(port))
        until("the API of docker run", READY_S, lambda: alone.call("GET", "/readyz/creates")[0] == 200)
        for container in started:
            until("healthy", READY_S, lambda one=container: health(one) == "healthy")
    finally:
        docker("stop", *started)
    print(f"  reached on port {port}, healthy; without keys it says what to set")


STEPS = {
    "an answer of the real model": answers,
    f"{WORKERS} workers": scales,
    "a worker killed in mid-answer": survives_a_killed_worker,
    "Redis restarted in mid-answer": survives_a_restart_of_redis,
    "a worker stopped in mid-answer": drains_a_stopped_worker,
    "no worker at all": reads_on_without_workers,
    "the image by itself": runs_by_itself,
}


def main() -> int:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        host, _, port = compose("port", "api", "8000").rpartition(":")
        for title, step in STEPS.items():
            print(f"{title} …")
            step(Api(host, int(port)))
    except (Failed, subprocess.TimeoutExpired) as error:
        print(f"FAILED: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
