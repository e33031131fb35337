"""A body that is too large is refused once, whether it declares its length or not."""

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from api.http.bodies import BodyLimit
from api.http.problems import handlers

MOST = 100


async def ask(headers: list[tuple[bytes, bytes]], size: int) -> tuple[int, list[str], bool]:
    """Send a body of so many bytes. Out: the status, what was counted, whether the route had the whole body."""
    refused: list[str] = []
    reached = False

    async def route(request: Request) -> Response:
        nonlocal reached
        await request.body()
        reached = True
        return Response()

    app = Starlette(routes=[Route("/", route, methods=["POST"])], exception_handlers=handlers())
    app.state.metrics = SimpleNamespace(refused=refused.append)
    app.add_middleware(BodyLimit, max_bytes=MOST)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * size, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return sent[0]["status"], refused, reached


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_refused_once(declared: bool) -> None:
    for size in (MOST, MOST + 1):
        headers = [(b"content-length", b"%d" % size)] if declared else []
        wanted = (200, [], True) if size == MOST else (413, ["body_too_large"], False)
        assert await ask(headers, size) == wanted
