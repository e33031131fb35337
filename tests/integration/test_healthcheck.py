"""What an image's HEALTHCHECK asks: whether the process of this container is well."""

import importlib.util
import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest
from redis import Redis

from tests.support.processes import Server

FILE = Path(__file__).parents[2] / "deploy" / "healthcheck.py"
HOST = socket.gethostname()


@pytest.fixture
def look() -> ModuleType:
    spec = importlib.util.spec_from_file_location("healthcheck", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def redis(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """The server, with a password, as the environment names it."""
    with Redis(port=valkey.port) as admin:
        admin.config_set("requirepass", "p@ss")
        admin.execute_command("AUTH", "p@ss")
        monkeypatch.setenv("HEADRACE_REDIS_URL", f"redis://:p%40ss@127.0.0.1:{valkey.port}/0")
        monkeypatch.delenv("HEADRACE_QUEUE_URL", raising=False)
        monkeypatch.delenv("HEADRACE_KEY_PREFIX", raising=False)
        yield admin


def now_ms(redis: Redis) -> int:
    seconds, _ = redis.time()  # type: ignore[misc]
    return int(seconds) * 1000


@pytest.mark.parametrize(("age_s", "well"), [(1, True), (30, False), (-30, False)])
@pytest.mark.parametrize("query", ["", "?client_name=probe"])
def test_a_worker_is_well_that_gave_a_sign_of_life(
    look: ModuleType, redis: Redis, monkeypatch: pytest.MonkeyPatch, age_s: int, well: bool, query: str
) -> None:
    """One that is far ahead was written before the server's clock went back."""
    url = f"redis://:p%40ss@127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0{query}"
    monkeypatch.setenv("HEADRACE_REDIS_URL", url)
    redis.zadd("headrace:workers", {f"{HOST}-1": now_ms(redis) - age_s * 1000, "other-2": now_ms(redis)})
    assert look.worker_is_well() is well


@pytest.mark.parametrize("apart_s", [-3600, 3600])
def test_this_machine_s_clock_counts_nothing(
    look: ModuleType, redis: Redis, monkeypatch: pytest.MonkeyPatch, apart_s: int
) -> None:
    redis.zadd("headrace:workers", {f"{HOST}-1": now_ms(redis)})
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + apart_s)
    assert look.worker_is_well()


def test_a_password_that_is_refused_is_said(
    look: ModuleType, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = redis.connection_pool.connection_kwargs["port"]
    monkeypatch.setenv("HEADRACE_REDIS_URL", f"redis://:wrong@127.0.0.1:{port}/0")
    with pytest.raises(Exception, match="WRONGPASS"):
        look.worker_is_well()


def test_an_api_is_well_that_answers(look: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Healthy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HEADRACE_PORT", str(server.server_port))
        assert look.api_is_well()
        server.shutdown()


def test_kubernetes_variable_of_a_service_is_no_port(look: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_PORT", "tcp://10.0.0.1:80")
    assert look.api_port() == 8000
