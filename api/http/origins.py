"""The web pages that may call the API through a browser, where no keys are set.

Theory of operation. Without keys, everybody who reaches the API may use it, and a browser on this machine reaches
it for any page that is open in it. So two headers are checked, which a browser sets truthfully:

- *The name that was called* (``Host``). A page can let its own name point to this machine's address (DNS
  rebinding); for the browser it then has the same origin as the API. So the name must be one that the operator
  listens on or lists. An address instead of a name can't be rebound: loopback addresses are always accepted, and
  all addresses where the API listens on every one. Behind a trusted proxy the name is that of ``X-Forwarded-Host``.
- *The page that calls* (``Sec-Fetch-Site``, or ``Origin`` from a browser that does not send it). Calls that create,
  cancel or erase are refused to pages of other sites, unless CORS lists them. Otherwise an image on any page could
  cause a request to a provider.

Programs that are no browsers send neither ``Sec-Fetch-Site`` nor ``Origin``: they may call. Where keys are set,
none of this is checked: each of these calls needs a key in a header, which no page of another site can add without
CORS.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.problems import Problem, refuse
from shared.config.settings import is_loopback

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CREATES_BY_GET: Final = frozenset({"/chat/stream"})
PROBED: Final = frozenset({"/healthz", "/readyz", "/readyz/viewers", "/readyz/creates"})
"""Load balancers probe these by any address or name, and without a key. A page learns nothing useful from them."""
FORWARDED: Final = b"x-forwarded-host"
"""Only trusted proxies can send it (:mod:`api.http.connections`)."""
EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104
"""With these a server listens on all addresses of the machine."""


class Origins:
    """ASGI middleware: a request from a foreign page, or to a foreign name, ends here with 403."""

    def __init__(self, app: ASGIApp, listens_on: str, hosts: Iterable[str], origins: Iterable[str]) -> None:
        """``listens_on``: an address or a name. ``hosts``: more names (* is any). ``origins``: the origins that may
        call (* is any)."""
        self._app = app
        self._hosts = {listens_on.lower(), "localhost", *(host.lower() for host in hosts)}
        self._any_address = listens_on in EVERYWHERE
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refused := self._refusal(scope)) is not None:
            await refuse(scope, refused)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        if scope["path"] in PROBED:
            return None
        headers = [(name, value) for name, value in scope["headers"] if name in _CHECKED]
        if forwarded := [(b"host", value) for name, value in headers if name == FORWARDED]:
            headers = [(name, value) for name, value in headers if name not in (b"host", FORWARDED)] + forwarded
        hosts = [value for name, value in headers if name == b"host"]
        if not all(self._is_ours(host.decode("latin-1")) for host in hosts):
            return _wrong_host()
        changes = scope["method"] not in SAFE or scope["path"] in CREATES_BY_GET
        if changes and len(headers) > len(hosts) and self._is_foreign(dict(headers)):
            return _foreign_page()
        return None

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        if name in self._hosts or "*" in self._hosts or is_loopback(name):
            return True
        return self._any_address and _is_address(name)

    def _is_foreign(self, headers: dict[bytes, bytes]) -> bool:
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin in self._origins or "*" in self._origins:
            return False
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            return site not in (b"same-origin", b"none")
        return urlsplit(origin).netloc.lower() != headers.get(b"host", b"").decode("latin-1").lower()


_CHECKED: Final = frozenset({b"host", b"origin", b"sec-fetch-site", FORWARDED})


def _name(host: str) -> str:
    """The host without its port, and without the brackets of an IPv6 address; an unreadable one stays as it is."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _wrong_host() -> Problem:
    return Problem(
        403,
        "host_not_allowed",
        "This server does not answer to that name. Call it by its address, or list the name in "
        "HEADRACE_ALLOWED_HOSTS.",
    )


def _foreign_page() -> Problem:
    return Problem(
        403,
        "foreign_page",
        "A page of another site may not do this. List its origin in HEADRACE_CORS_ORIGINS, or set keys.",
    )
