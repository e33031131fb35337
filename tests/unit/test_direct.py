"""Straight ways: what goes them, what does not, and that nobody can tell which it was."""

import re
from typing import Any

import httpx
from fastapi import FastAPI, Request, Response
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware

from api.direct import Direct, Way
from api.problems import Problem, handlers


async def asked(method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    """What an app answers that has one straight way, which takes the body 'plain' and no other."""

    async def answer(request: Request, name: str) -> Response | None:
        if name == "broken":
            raise Problem(418, "teapot", "I am one.")
        return Response(f"straight {name}") if await request.body() == b"plain" else None

    problems: dict[Any, Any] = {kind: handler for kind, handler in handlers().items() if kind is not Exception}
    app = FastAPI(
        exception_handlers=handlers(),
        middleware=[
            Middleware(ExceptionMiddleware, handlers=problems),
            Middleware(Direct, ways=[Way("POST", re.compile("/say/(?P<name>[^/]+)"), answer)]),
        ],
    )

    @app.post("/say/{name}")
    async def say(request: Request, name: str) -> Response:
        return Response(f"{name} by the framework: {(await request.body()).decode()}")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        found = await client.request(method, path, content=body)
    return found.status_code, found.json()["code"] if found.status_code >= 400 else found.text


async def test_what_the_way_does_not_take_reaches_the_framework_whole() -> None:
    assert await asked("POST", "/say/this", b"plain") == (200, "straight this")
    assert await asked("POST", "/say/this", b"something else") == (200, "this by the framework: something else")


async def test_a_problem_on_the_way_is_answered_as_one() -> None:
    assert await asked("POST", "/say/broken", b"plain") == (418, "teapot")


async def test_other_methods_and_paths_are_the_framework_s() -> None:
    assert await asked("GET", "/say/this") == (405, "method_not_allowed")
    assert await asked("POST", "/say/this/too", b"plain") == (404, "not_found")
