"""Request bodies on their way to a route: neither one of them nor many of them may block other work.

Theory of operation. No body has more than ``HEADRACE_MAX_BODY_BYTES``, whether its length is declared or not. JSON
is parsed and validated on the event loop, which does nothing else meanwhile: a body of 1 MiB that holds 300,000
empty lists takes 100 ms and more. Three rules keep that time short.

- *Few values.* The cost of a body follows the number of its values, which is counted (about 1 ms for 1 MiB) before
  the body is parsed. With :data:`MAX_VALUES` parsing and validating take less than 20 ms; a conversation of 1,000
  messages with 100 tools has some 10,000 values.
- *One at a time.* Between two large bodies the event loop runs once, so other work that came meanwhile goes first.
- *Refused bodies count.* This process gives each key as many units a minute as it may create streams. A refused
  body takes one unit, and one more for each 4 KiB. A key without units is refused before its body is read. An
  accepted create takes none: it is counted in Redis.

(A thread would not help: the parser and the validation hold the interpreter's lock, so the loop would be blocked
just the same.)
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.auth import OWNER
from api.http.problems import Problem, body_too_large, refuse
from api.http.rate_limiter import RateLimiter

LARGE_BYTES: Final = 32 * 1024
"""A smaller body takes less than 2 ms, whatever its content."""
MAX_VALUES: Final = 20_000
UNIT_BYTES: Final = 4096
REFUSED: Final = frozenset({400, 413, 422})
"""The statuses of a response to a bad body."""


class BodyLimit:
    """ASGI middleware: a body of more than ``max_bytes`` ends the request with 413. A body that declares its length
    is refused here; others are counted by Starlette's limit while they are read."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = RequestBodyLimitMiddleware(app, max_bytes)
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _declared(scope) > self._max_bytes:
            await refuse(scope, body_too_large())(scope, receive, send)
            return
        await self._app(scope, receive, send)


class BodyRoute(APIRoute):
    """A route whose body is read by the rules of this module."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_in_turn(request: Request) -> Response:
            owner: str = request.scope[OWNER] or ""
            bodies: Bodies = request.app.state.bodies
            bodies.check(owner)
            try:
                body = await request.body()
            except ClientDisconnect:
                return Response(status_code=400)  # the client is gone: nobody receives this
            try:
                await bodies.turn(body)
                return await handle(request)
            except (Problem, HTTPException, RequestValidationError) as error:
                if getattr(error, "status_code", getattr(error, "status", 422)) in REFUSED:
                    bodies.refused(owner, len(body))
                raise

        return handle_in_turn


class Bodies:
    """The bodies of one process's requests."""

    def __init__(self, per_minute: int) -> None:
        """``per_minute``: creations of a key; 0: no limit."""
        self._limiter = RateLimiter(per_minute)
        self._turn = asyncio.Lock()

    def check(self, owner: str) -> None:
        """Raises :class:`Problem` (429) where too many bodies of this key were refused."""
        if wait_s := self._limiter.wait_s(owner):
            raise Problem(
                429,
                "rate_limited",
                f"Too many requests of this key were refused. Correct them, and try again in {wait_s:.0f} s.",
                headers={"Retry-After": str(int(wait_s) + 1)},
            )

    async def turn(self, body: bytes) -> None:
        """Wait until this body may be parsed. Raises :class:`Problem` (413) where it holds too many values."""
        if len(body) <= LARGE_BYTES:
            return
        async with self._turn:
            await asyncio.sleep(0)
        if _holds_many(body):
            raise Problem(
                413,
                "body_too_large",
                f"The body holds more than {MAX_VALUES} values. Send fewer, larger ones.",
            )

    def refused(self, owner: str, size: int) -> None:
        """Count a refused body of ``size`` bytes."""
        self._limiter.take(owner, 1 + size // UNIT_BYTES)


def _declared(scope: Scope) -> int:
    """The declared length of a body (bytes); 0 where none is declared."""
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(length) if length.isdigit() else 0


def _holds_many(body: bytes) -> bool:
    """Whether there are more than :data:`MAX_VALUES` values. Marks within strings are no values; they are taken out
    only where there could be too many values."""
    if _marks(body) <= MAX_VALUES:
        return False
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > 2 * MAX_VALUES:
        return True
    return _marks(b"".join(plain.split(b'"')[::2])) > MAX_VALUES


def _marks(json: bytes) -> int:
    return json.count(b",") + json.count(b"[") + json.count(b"{")
