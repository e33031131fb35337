"""The API's composition root: reads the environment, opens the connections, serves until SIGTERM."""

import argparse
import asyncio
import pkgutil
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import anyio
import structlog
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from api import routes
from api.context import Context, Viewing
from api.http.auth import Auth
from api.http.bodies import Bodies, BodyLimit
from api.http.connections import Connections, HttpConnection
from api.http.head_requests import HeadRequests
from api.http.openapi import add_docs
from api.http.origins import Origins
from api.http.prefix import Prefix
from api.http.problems import handlers
from api.http.rate_limiter import OpenLimits
from api.http.scheduler import RequestScheduler
from api.http.sse_response import SendWatch
from api.http.unsent import Unsent
from api.metrics import ApiMetrics
from api.server import ApiServer
from api.streams.admission import Admission
from api.streams.cancellation import Cancellation
from api.streams.creation import Creation
from api.streams.links import ReadLinks
from api.streams.memory import Memory
from api.streams.records import Records
from api.streams.secret import Secret
from api.viewing.hub import Hub
from api.viewing.presence import Presence
from api.viewing.viewer_quota import ViewerQuota
from shared.config.settings import BadSettings, Configuration, Settings, check_open, environment, load
from shared.process.critical_tasks import start_critical
from shared.process.files import Room, find_room, raise_file_limit
from shared.process.gc_tuning import calm_collector
from shared.process.logging import LogOutput, configure_logs
from shared.process.metrics import common, served
from shared.process.rights_watch import RightsWatch
from shared.redis import connect_to_logs, errors_of, load_scripts, open_client, read_url
from shared.store.chats import Chats
from shared.store.create import Creator
from shared.store.durability import log_durability
from shared.store.erasures import Erasures
from shared.store.keys import Keys
from shared.store.presence import PresenceKeys
from shared.store.queue import Queue
from shared.store.quotas import Quotas
from shared.store.streams import Streams
from shared.version import VERSION

log = structlog.get_logger("api")

STATIC: Final = Path(__file__).parent / "static"
STOP_S: Final = 5
"""Viewers end within a moment of the signal; connections that are still open after this time are cut."""
BACKLOG: Final = 2048

PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Cache-Control": "no-cache",
}
NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own telemetry would record refused prompts, and URLs with read tokens."""
ALL_HEADERS: Final = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]
"""Headers of every response. The server adds them: a middleware would cost a call for each chunk of each viewer."""


def build(configuration: Configuration, room: Room, listens_on: str, output: LogOutput) -> FastAPI:
    """Wire one API process together; its connections are opened when it starts. ``listens_on``: its address.
    ``output``: the output of its log."""
    settings = configuration.settings
    keys = Keys(settings.key_prefix)
    log_client = open_client(settings.redis_url)
    queue_client = open_client(settings.queue_redis_url) if settings.queue_url else log_client
    scripts = load_scripts()
    streams = Streams(log_client, keys, scripts)
    queue = Queue(queue_client, keys)
    secret = Secret(settings.secret, queue)
    metrics = ApiMetrics()
    hub = Hub(
        lambda: connect_to_logs(settings.redis_url),
        log_client,
        settings.queue_redis_url,
        keys,
        settings.linger_s,
        metrics.was_read,
    )
    shared = len(settings.keys.names) > 1
    quotas = Quotas(
        queue_client,
        keys,
        per_minute=settings.creations_per_minute,
        at_once=settings.streams_per_key,
        waiting=settings.max_queue,
        shared=shared,
    )
    servers = (log_client, queue_client) if settings.queue_url else (log_client,)
    memory = Memory(servers, quotas, settings.bytes_per_key, shared=shared)
    one_server = not settings.queue_url and read_url(settings.redis_url).kind != "cluster"
    creator = Creator(streams, queue, quotas, one_server=one_server)
    admission = Admission(settings, quotas, streams, queue)
    viewer_quota = ViewerQuota(quotas, queue, settings.viewers_per_stream)
    unsent = Unsent()
    viewing = Viewing(hub, room.viewers, settings.viewers_per_key, shared=shared)
    presence = Presence(PresenceKeys(log_client, keys))
    watch = SendWatch(settings.send_timeout_s)
    rights = RightsWatch((settings.redis_url, settings.queue_redis_url), settings.key_prefix)
    metrics.watch(queue, lambda: viewing.viewers, lambda: hub.following, lambda: hub.snapshots_sent)
    common(
        metrics.registry,
        lambda: output.dropped,
        lambda: hub.errors + errors_of(log_client, queue_client),
    )
    connections = Connections(
        room.connections, settings.waiting_per_address, most_waiting=room.waiting, proxies=settings.proxies
    )

    parts = Context(
        settings=settings,
        providers=configuration.providers,
        streams=streams,
        queue=queue,
        hub=hub,
        viewing=viewing,
        creation=Creation(settings, configuration.providers, creator, admission, presence, secret, metrics),
        cancellation=Cancellation(
            settings, streams, queue, quotas, Erasures(settings, queue_client, keys), metrics
        ),
        admission=admission,
        chats=Chats(queue_client, keys),
        read_links=ReadLinks(settings, secret, streams),
        records=Records(streams, unsent),
        unsent=unsent,
        viewer_quota=viewer_quota,
        presence=presence,
        servers=servers,
        memory=memory,
        rights=rights,
        watch=watch,
        opens=OpenLimits(settings.opens_per_stream, settings.opens_per_key),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        background = (
            (hub.run(), "hub"),
            (watch.run(), "send_watch"),
            (connections.run(), "connections"),
            (viewer_quota.run(), "seats"),
            (presence.run(), "presence"),
            (memory.run(), "memory"),
        )
        tasks = [start_critical(work, name) for work, name in background]
        tasks += [asyncio.create_task(work) for work in (log_durability(settings.redis_url), rights.run())]
        anyio.Lock()  # loads anyio's backend now; otherwise the first viewer would wait for it, a tenth of a second
        try:
            async with served(settings.metrics_host, settings.metrics_port, metrics.render):
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await log_client.aclose()
            await queue_client.aclose()

    app = FastAPI(
        title="Headrace",
        description="Tokens from any AI API to any browser, over a durable log.",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would lead to the host in the Host header, which anybody can set
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        telemetry=NO_TELEMETRY,
        exception_handlers=handlers(),
        middleware=_middleware(settings, listens_on),
    )
    app.state.context = parts
    app.state.bodies = Bodies(settings.creations_per_minute)
    app.state.connections = connections
    app.state.metrics = metrics
    app.state.error_forms = {}
    for found in pkgutil.iter_modules(routes.__path__):
        module = import_module(f"{routes.__name__}.{found.name}")
        app.include_router(module.router)
        app.state.error_forms |= getattr(module, "ERROR_FORMS", {})
    add_docs(app)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _middleware(settings: Settings, listens_on: str) -> list[Middleware]:
    """From the outside in. CORS comes before Origins and Auth, because a preflight carries no key."""
    inner = [
        Middleware(Auth, keys=settings.keys),
        Middleware(RequestScheduler),
        Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        Middleware(HeadRequests),
    ]
    if not settings.keys:
        inner.insert(0, Middleware(Origins, listens_on=listens_on, hosts=settings.hosts, origins=settings.origins))
    outer = []
    if settings.root_path or settings.proxies:
        outer.append(Middleware(Prefix, root_path=settings.root_path))
    if not settings.origins:
        return [*outer, *inner]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=[
            *("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"),
            *("X-AI-SDK-Version", "X-Run-Id"),
        ],
        expose_headers=["Location", "Retry-After", "Idempotency-Replayed", "X-Headrace-Stream"],
        max_age=600,
    )
    return [*outer, cors, *inner]


def main() -> None:
    """Run one API process until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m api", description="One API process of Headrace.")
    parser.add_argument("--fd", type=int, help="serve on this inherited, listening socket")
    fd = parser.parse_args().fd
    try:
        configuration = load(environment())
        listener = socket.socket(fileno=fd) if fd is not None else None
        host = _host(listener) or configuration.settings.host
        check_open(configuration.settings, host)
    except BadSettings as error:
        sys.exit(str(error))
    settings = configuration.settings
    output = configure_logs(settings.log_level, settings.log_format)
    room = find_room(raise_file_limit(), settings.viewers)
    log.info("files", connections=room.connections, viewers=room.viewers)
    if not room.enough:
        log.warning(
            "too_few_files",
            viewers=room.viewers,
            wanted=settings.viewers,
            mend="raise the hard limit of open files (ulimit -Hn), or lower HEADRACE_VIEWERS",
        )
    app = build(configuration, room, host, output)
    protocol: Any = partial(HttpConnection, table=app.state.connections)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=protocol,
        ws="none",
        backlog=BACKLOG,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # uvicorn would trust every program on this machine; see api/http/connections.py
        headers=ALL_HEADERS,
        timeout_graceful_shutdown=STOP_S,
    )
    calm_collector()
    sockets = None if listener is None else [listener]

    def listening(addresses: Sequence[str]) -> None:
        log.info("api_started", version=app.version, listening=addresses, settings=settings.told())
        if configuration.service_links:
            log.info("service_links_passed_over", names=configuration.service_links)

    server = ApiServer(config, app.state.context.viewing, listening)
    server.run(sockets=sockets)
    log.info("api_stopped")
    if not server.started:
        sys.exit(1)


def _host(listener: socket.socket | None) -> str:
    """The address that an inherited socket listens on; loopback for a Unix socket; '' without one."""
    if listener is None:
        return ""
    name = listener.getsockname()
    return str(name[0]) if isinstance(name, tuple) else "127.0.0.1"
