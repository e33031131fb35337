"""Bounds request bodies while they are read: Starlette's limit, whose refusal is a problem document here."""

from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import MEDIA_TYPE, body_too_large, refuse


class BodyLimit:
    """ASGI middleware: a body of more than ``max_bytes`` ends the request with 413, chunked or not."""

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
