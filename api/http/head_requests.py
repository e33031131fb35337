"""HEAD: the response to a GET without its body, on every path that has a GET."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

IS_HEAD: Final = "headrace.head"
"""In the ASGI scope of a HEAD request: nothing is created for it, and no stream is read."""


class HeadRequests:
    """ASGI middleware: the routes see a GET. uvicorn keeps the original scope, and sends no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", IS_HEAD: True}
        await self._app(scope, receive, send)
