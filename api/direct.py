"""Straight ways: the two busiest requests go to their function past the framework's routing.

Theory of operation. Hundreds come at the same moment, when streams begin or viewers come back, and each waits for
all that came before it. Routing, exit stacks, solved parameters and validated answers are a fifth of the
instructions that a stream costs the API. FastAPI has the same routes: it documents them, and gets each request that
is not as it should be (another method, a body that can't be used), so what is refused is refused in its words.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from fastapi import Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Way(NamedTuple):
    """``answer`` gets the request and the path's named groups; None: FastAPI shall say what is wrong with it."""

    method: str
    path: re.Pattern[str]
    answer: Callable[..., Awaitable[Response | None]]


class Direct:
    """ASGI middleware, the innermost: what guards the doors, bounds bodies and handles errors is in front of it."""

    def __init__(self, app: ASGIApp, ways: Sequence[Way]) -> None:
        self._app = app
        self._ways: Final = ways

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for method, path, answer in self._ways:
                if scope["method"] == method and (found := path.fullmatch(scope["path"])):
                    request = Request(scope, receive)
                    try:
                        response = await answer(request, **found.groupdict())
                        if response is None:
                            receive = _told_again(await request.body(), receive)
                            break
                    except ClientDisconnect:
                        return  # nobody is there to be answered
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _told_again(body: bytes, receive: Receive) -> Receive:
    """What hands out a body that was read already, and then goes on."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def told() -> Message:
        return messages.pop() if messages else await receive()

    return told
