"""The path under which a proxy shows this server: ``/ai`` of ``https://example.com/ai/``.

The setting ``HEADRACE_ROOT_PATH`` names it, or each request does (``X-Forwarded-Prefix``) that comes from a trusted
proxy. (From others the header is dropped: :mod:`api.http.connections`.) Proxies differ in what they pass on: one
takes the prefix off the path, another leaves it. Both are understood: it is taken off here, in front of everything,
so the rest of the API knows only its own paths. What leads a caller on (``Location``, ``events_url`` and ``url``)
begins with the prefix. The page's own links are relative.
"""

import re
from typing import Final

from fastapi import Request
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX: Final = "headrace.prefix"
"""In the ASGI scope: the prefix of this request, '' without one."""
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]{1,100}){1,10}")


def prefix_of(request: Request) -> str:
    """The path in front of this server's own, as this request's caller sees it ('': none)."""
    found: str = request.scope.get(PREFIX, "")
    return found


class Prefix:
    """ASGI middleware: takes the prefix off a request's path."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (prefix := self._told(scope) or self._root_path):
            scope[PREFIX] = prefix
            path: str = scope["path"]
            if path == prefix:
                # Its links are relative, so they need the slash. The address has no host: none is believed here.
                await RedirectResponse(f"{prefix}/", 308)(scope, receive, send)
                return
            if path.startswith(f"{prefix}/"):
                scope["path"] = path[len(prefix) :]
                scope["raw_path"] = scope["path"].encode()
        await self._app(scope, receive, send)

    def _told(self, scope: Scope) -> str:
        """What a trusted proxy says; '' where none does, or where it is no path."""
        said = next((value for name, value in scope["headers"] if name == b"x-forwarded-prefix"), b"")
        path = said.decode("latin-1").strip().rstrip("/")
        return path if _PATH.fullmatch(path) else ""
