"""The API's composition root: reads the environment, opens the connections, serves until SIGTERM."""

import argparse
import asyncio
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from api import health, routes
from api.body_limit import BodyLimit
from api.creation import Creation
from api.dialects.native import NativeDialect
from api.hints import Hints
from api.metrics import make_registry
from api.problems import add_handlers
from api.reader import Reader
from api.repeats import Repeats
from api.responses import Protocol, SendWatch
from api.services import Cancellation, Services, Viewing
from shared.connections import OwnedConnection, open_client
from shared.keys import Keys
from shared.logs import configure_logs
from shared.queue import Queue
from shared.scripts import load_scripts
from shared.settings import BadSettings, Configuration, environment, load
from shared.streams import Streams

STATIC: Final = Path(__file__).parent / "static"
STOP_S: Final = 5
"""Viewers end within a moment of the signal; what still hangs then is cut."""
BACKLOG: Final = 2048

PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def build(configuration: Configuration) -> FastAPI:
    """Wire one API process together; connections are opened when it starts."""
    settings = configuration.settings
    keys = Keys(settings.key_prefix)
    log_client = open_client(settings.redis_url)
    queue_client = open_client(settings.queue_redis_url)
    streams = Streams(log_client, keys, load_scripts())
    queue = Queue(queue_client, keys)
    repeats = Repeats()
    cancellation = Cancellation(settings, streams, queue, repeats)
    reader = Reader(
        lambda: OwnedConnection(settings.redis_url),
        log_client,
        Hints(queue_client, keys.wake_channel, repeats.repeat),
        keys,
        settings.linger_s,
    )
    viewing = Viewing(reader, NativeDialect(), settings.viewers)
    watch = SendWatch(settings.send_timeout_s)
    known_secret: list[bytes] = [settings.secret.encode()] if settings.secret else []

    async def secret() -> bytes:
        if not known_secret:
            known_secret.append((await queue.secret(secrets.token_urlsafe(32))).encode())
        return known_secret[0]

    parts = Services(
        settings=settings,
        providers=configuration.providers,
        streams=streams,
        queue=queue,
        reader=reader,
        viewing=viewing,
        creation=Creation(settings, configuration.providers, streams, queue, repeats, secret),
        cancellation=cancellation,
        watch=watch,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(reader.run()), asyncio.create_task(watch.run())]
        try:
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
        version="0.1.0",
        lifespan=lifespan,
        redoc_url=None,
        middleware=[Middleware(BodyLimit, max_bytes=settings.max_body_bytes)],
    )
    app.state.services = parts
    app.state.metrics = make_registry(reader, viewing)
    add_handlers(app)
    app.include_router(routes.router)
    app.include_router(health.router)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=PAGE_HEADERS)

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


class Server(uvicorn.Server):
    """uvicorn's server, which tells the viewers about the signal at once: it waits for them to leave."""

    def __init__(self, config: uvicorn.Config, viewing: Viewing) -> None:
        super().__init__(config)
        self._viewing = viewing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._viewing.stop()


def main() -> None:
    """Run one API process until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m api", description="One API process of Headrace.")
    parser.add_argument("--fd", type=int, help="serve on this inherited, listening socket")
    fd = parser.parse_args().fd
    try:
        configuration = load(environment())
    except BadSettings as error:
        sys.exit(str(error))
    settings = configuration.settings
    configure_logs(settings.log_level, settings.log_format)
    app = build(configuration)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=Protocol,
        ws="none",
        backlog=BACKLOG,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=STOP_S,
    )
    sockets = [socket.socket(fileno=fd)] if fd is not None else None
    Server(config, app.state.services.viewing).run(sockets=sockets)
