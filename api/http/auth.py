"""Authentication: every request needs a key unless its path is open. It stands in front of all routes, so a new
route is closed by default.

Where keys are set, the page's shell, static files and health are open. The events route also accepts a read token,
and checks it itself, because only that route knows the stream. All other paths need ``Authorization: Bearer
<secret>``. Paths that people and scrapers open by their address (``/docs``, ``/metrics``) also take the secret as a
Basic password, because a browser can ask its user for that. The ``/v1`` routes do not: a browser would then send
the password with requests of other sites, too.
"""

import base64
import binascii
import hmac
import re
from typing import Final

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.context import Context
from api.http.origins import PROBED
from api.http.problems import Problem, no_such_stream, refuse
from shared.config.api_keys import ApiKeys
from shared.protocol.cursor import is_stream_id

OPEN: Final = PROBED | {"/"}
BY_ADDRESS: Final = frozenset({"/docs", "/openapi.json", "/metrics"})
EVENTS: Final = re.compile(r"/v1/streams/(?P<stream_id>[^/]+)/events")
_TOKEN: Final = re.compile(rb"(?:^|&)token=[^&]")
OWNER: Final = "headrace.owner"
"""In the ASGI scope: the key's name; '' where no keys are set; None on an open path, and where a read token stands
in for the key."""


class Auth:
    """ASGI middleware: a request without a known key ends here, with 401."""

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope[OWNER] = self._owner(scope)
            except Problem as problem:
                await refuse(scope, problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _owner(self, scope: Scope) -> str | None:
        path: str = scope["path"]
        if not self._keys:
            return ""
        if path in OPEN or path.startswith("/static/"):
            return None
        secret = _secret(scope, basic=path in BY_ADDRESS)
        if secret is not None:
            owner = self._keys.owner(secret)
            if owner is None:
                raise _unauthorized("key_unknown", "This key is not known here. Check it, or get another.", path)
            return owner
        if scope["method"] in ("GET", "HEAD") and EVENTS.fullmatch(path) and _token(scope):
            return None
        raise _unauthorized("key_missing", "This needs a key: send it as 'Authorization: Bearer <key>'.", path)


def context(request: Request) -> Context:
    """The parts that the composition root made."""
    found: Context = request.app.state.context
    return found


def owner_of(request: Request) -> str:
    """The owner of this request ('' where no keys are set). Raises :class:`Problem` (401) without a key."""
    owner: str | None = request.scope[OWNER]
    if owner is None:
        raise _unauthorized("key_missing", "This needs a key.", request.url.path)
    return owner


async def own_fields(request: Request, stream_id: str, *names: str) -> list[str | None]:
    """Fields of the record of a stream that belongs to the caller.

    Raises :class:`Problem` (404) for an unknown stream and for that of another owner. Both cost the same round
    trips, so the two can't be told apart.
    """
    if is_stream_id(stream_id):
        owner, *fields = await context(request).streams.fields(stream_id, "owner", *names)
        if hmac.compare_digest((owner or "").encode(), owner_of(request).encode()) and owner is not None:
            return fields
    raise no_such_stream()


def _secret(scope: Scope, *, basic: bool) -> str | None:
    """The secret that was sent; None without one; '' for a header that can't be read, which is no key's secret."""
    value = next((value for name, value in scope["headers"] if name == b"authorization"), None)
    if value is None:
        return None
    scheme, _, rest = value.partition(b" ")
    match scheme.lower():
        case b"bearer":
            return str(rest.strip().decode("latin-1"))
        case b"basic" if basic:
            try:
                return base64.b64decode(rest, validate=True).partition(b":")[2].decode("latin-1")
            except binascii.Error:
                return ""
    return ""


def _token(scope: Scope) -> bool:
    return _TOKEN.search(scope["query_string"]) is not None


def _unauthorized(code: str, detail: str, path: str) -> Problem:
    challenge = 'Basic realm="headrace", charset="UTF-8"' if path in BY_ADDRESS else 'Bearer realm="headrace"'
    return Problem(401, code, detail, headers={"WWW-Authenticate": challenge})
