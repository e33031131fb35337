"""Request bodies on their way to a route: bounded while they are read, and taken by turns
(:mod:`api.http.bodies`)."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.doors import OWNER, services
from api.http.problems import MEDIA_TYPE, Problem, body_too_large, refuse

REFUSED: Final = frozenset({400, 413, 422})
"""Statuses that tell of a body that is wrong."""


class BodyLimit:
    """ASGI middleware: a body of more than ``max_bytes`` ends the request with 413, chunked or not. It is
    Starlette's limit, whose refusal is a problem document here."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = RequestBodyLimitMiddleware(app, max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def worded(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and message["status"] == 413:
                kind = dict(message["headers"]).get(b"content-type", b"")
                replaced = not kind.startswith(MEDIA_TYPE.encode())
                if replaced:
                    await refuse(scope, body_too_large())(scope, receive, send)
            if not replaced:
                await send(message)

        await self._app(scope, receive, worded)


class BodyRoute(APIRoute):
    """A route whose body is taken by the rules of :mod:`api.http.bodies`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_in_turn(request: Request) -> Response:
            owner, bodies = request.scope[OWNER] or "", services(request).bodies
            bodies.check(owner)
            try:
                body = await request.body()
            except ClientDisconnect:
                return Response(status_code=400)  # to nobody
            try:
                await bodies.turn(body)
                return await handle(request)
            except (Problem, HTTPException, RequestValidationError) as error:
                if getattr(error, "status_code", getattr(error, "status", 422)) in REFUSED:
                    bodies.refused(owner, len(body))
                raise

        return handle_in_turn
