"""The path under which a proxy shows this server: ``/ai`` of ``https://example.com/ai/``.

The prefix comes from the setting ``HEADRACE_ROOT_PATH``, or from the header ``X-Forwarded-Prefix`` of a trusted
proxy. (From other peers the header is dropped: :mod:`api.http.connections`.) Some proxies remove the prefix from
the path, others leave it. Both work: it is removed here, in front of everything, so the rest of the API knows only
its own paths. Links for the caller (``Location``, ``events_url`` and ``url``) begin with the prefix. The page's own
links are relative.
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
    """The prefix of this server's paths, as this request's caller sees them ('': none)."""
    found: str = request.scope.get(PREFIX, "")
    return found


class Prefix:
    """ASGI middleware: removes the prefix from a request's path."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (prefix := self._forwarded(scope) or self._root_path):
            scope[PREFIX] = prefix
            path: str = scope["path"]
            if path == prefix:
                # The page's links are relative, so they need the slash. Location has no host: none is trusted here.
                await RedirectResponse(f"{prefix}/", 308)(scope, receive, send)
                return
            if path.startswith(f"{prefix}/"):
                scope["path"] = path[len(prefix) :]
                scope["raw_path"] = scope["path"].encode()
        await self._app(scope, receive, send)

    def _forwarded(self, scope: Scope) -> str:
        """The prefix that a trusted proxy sent; '' where there is none, or where it is no path."""
        value = next((value for name, value in scope["headers"] if name == b"x-forwarded-prefix"), b"")
        path = value.decode("latin-1").strip().rstrip("/")
        return path if _PATH.fullmatch(path) else ""
