"""Bounds request bodies while they are read, not after."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem

DROPPED: Final = 8
"""A body up to so many times too large is still taken off the wire, and not kept: whoever closes while a client
sends costs it the answer."""


class BodyLimit:
    """ASGI middleware: a body of more than ``max_bytes`` ends the request with 413, chunked or not."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # No route reads a body of a GET, and the server stops taking it in at 64 KiB by itself.
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > self._max_bytes:
            close = not declared.isdigit() or int(declared) > DROPPED * self._max_bytes
            await self._problem(close=close).response()(scope, receive, send)
            return
        seen = 0
        close = answered = False

        async def bounded() -> Message:
            nonlocal seen, close
            while True:
                message = await receive()
                seen += len(message.get("body", b""))
                if seen <= self._max_bytes:
                    return message
                close = seen > DROPPED * self._max_bytes
                if close or not message.get("more_body"):
                    raise self._problem(close=close)

        async def answer(message: Message) -> None:
            nonlocal answered
            # Whatever the framework makes of an error inside the body: the answer is this one.
            if seen > self._max_bytes:
                if not answered:
                    answered = True
                    await self._problem(close=close).response()(scope, receive, send)
                return
            answered = True
            await send(message)

        await self._app(scope, bounded, answer)

    def _problem(self, *, close: bool) -> Problem:
        return Problem(
            413,
            "body_too_large",
            f"The body is larger than {self._max_bytes} bytes. Send less.",
            headers={"Connection": "close"} if close else None,
        )
