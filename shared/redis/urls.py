"""Redis URLs: the one place that parses them. Pure, no I/O.

    redis://[user:password@]host[:port][/db]                       one server
    unix://[user:password@]/path/to/socket[?db=1]                  one server, through a socket file
    redis+cluster://[user:password@]host:port,host:port            a cluster: some of its nodes
    redis+sentinel://[user:password@]host:26379,host:26379/name[/db]   the master of that name, as Sentinel knows it

With ``rediss`` in place of ``redis`` all connections use TLS. Options stand behind ``?`` (:data:`OPTIONS`). They
and the login apply to every server that the URL leads to; Sentinels have a login of their own.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, quote, urlencode

from redis.asyncio.connection import parse_url

OPTIONS: Final = (
    "client_name",
    "db",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_keyfile",
)
"""The options that may stand behind ``?``. ``protocol`` is not among them: replies are parsed as RESP2, which every
server uses by default. Nor are time-outs and pools: they are part of how a lost server is noticed."""
SENTINEL_OPTIONS: Final = ("sentinel_password", "sentinel_username")

_SCHEMES: Final = {
    f"redis{tls}{kind}": (f"redis{tls}", name)
    for tls in ("", "s")
    for kind, name in (("", "server"), ("+cluster", "cluster"), ("+sentinel", "sentinel"))
} | {"unix": ("unix", "server")}
_SENTINEL_PORT: Final = 26379
_PORT: Final = 6379


class BadUrl(ValueError):
    """A URL can't be used; the text tells why, without the password."""


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """The target of a URL: one server, a cluster (by some of its nodes), or a master behind Sentinels.

    ``nodes``: a URL for each server, node or Sentinel. ``master``: the master's name at the Sentinels; ``server``:
    the URL of the master, with a placeholder for its address.
    """

    kind: Literal["server", "cluster", "sentinel"]
    nodes: tuple[str, ...]
    master: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a URL. ``login``: as it stands there, with its ``@``."""

    scheme: str
    login: str
    hosts: str
    path: str
    query: str


def _taken_apart(url: str) -> _Parts:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise BadUrl(f"it begins with none of {', '.join(f'{known}://' for known in _SCHEMES)}")
    rest, _, query = rest.partition("?")
    if "#" in url or "@" in query or "@" in rest.partition("/")[2]:
        # The text shows no part of the URL, which may be half of a password.
        raise BadUrl(
            "it has a character that must be written otherwise: # as %23, / as %2F and ? as %3F in a "
            "password, @ as %40 in a file's name"
        )
    authority, slash, path = rest.partition("/")
    login, at, hosts = authority.rpartition("@")
    return _Parts(scheme, login + at, hosts, slash + path, query)


def read_url(url: str) -> RedisTarget:
    """Parse a URL. Raises :class:`BadUrl`."""
    parts = _taken_apart(url)
    scheme, kind = _SCHEMES[parts.scheme]
    options = _options(parts.query, OPTIONS + (SENTINEL_OPTIONS if kind == "sentinel" else ()))
    if scheme == "unix":
        if len(parts.path) < 2 or parts.hosts:
            raise BadUrl("it names no socket file, as unix:///run/redis.sock does")
        _number(options.get("db", "0"))
        return RedisTarget("server", (url,))
    addresses = [_address(host, _SENTINEL_PORT if kind == "sentinel" else _PORT) for host in parts.hosts.split(",")]
    path = parts.path.strip("/")
    if kind == "server":
        if len(addresses) > 1:
            raise BadUrl("it names several hosts, which only redis+cluster:// and redis+sentinel:// do")
        _number(options.get("db", path or "0"))
        return RedisTarget("server", (url,))
    own = {name: value for name, value in options.items() if name not in SENTINEL_OPTIONS}
    if kind == "cluster":
        if path not in ("", "0") or own.get("db", "0") != "0":
            raise BadUrl("it names a database, and a cluster has none but 0")
        return RedisTarget("cluster", tuple(_url(scheme, parts.login, address, "", own) for address in addresses))
    name, _, database = path.partition("/")
    if not name:
        raise BadUrl("it names no master, as redis+sentinel://host:26379/mymaster does")
    database = own.pop("db", database or "0")
    _number(database)
    login = _login(options.get("sentinel_username", ""), options.get("sentinel_password", ""))
    return RedisTarget(
        "sentinel",
        tuple(_url(scheme, login, address, "", own) for address in addresses),
        name,
        _url(scheme, parts.login, "master.invalid", f"/{database}", own),
    )


def arguments(url: str) -> dict[str, Any]:
    """The URL of one server as redis-py's arguments. A certificate must be for the URL's host, unless
    ``ssl_check_hostname=false`` or ``ssl_cert_reqs=none`` turns that off."""
    found = dict(parse_url(url))
    if url.startswith("rediss") and found.get("ssl_cert_reqs", "required") == "required":
        found.setdefault("ssl_check_hostname", True)
    return found


def with_address(url: str, host: str, port: int) -> str:
    """The URL with another address (an IPv6 address without brackets); login, options and database stay."""
    parts = _taken_apart(url)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{parts.scheme}://{parts.login}{address}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def address_of(url: str) -> str:
    """The address in the URL of one server, for people: ``host:port``, or the socket's file."""
    parts = _taken_apart(url)
    return parts.hosts or parts.path


def without_password(url: str) -> str:
    """The URL without its login and passwords, for logs and people."""
    try:
        parts = _taken_apart(url)
    except BadUrl:
        return url.rpartition("@")[2]
    query = urlencode(
        [(name, "***" if name in SENTINEL_OPTIONS else value) for name, value in parse_qsl(parts.query)], safe="*/"
    )
    login = "***@" if parts.login else ""
    return f"{parts.scheme}://{login}{parts.hosts}{parts.path}" + (f"?{query}" if query else "")


def _options(query: str, known: tuple[str, ...]) -> dict[str, str]:
    found = dict(parse_qsl(query, keep_blank_values=True))
    for name in found:
        if name not in known:
            raise BadUrl(f"it has an option {name!r}; known are {', '.join(known)}")
    if found.get("ssl_cert_reqs", "required") not in ("none", "optional", "required"):
        raise BadUrl("its ssl_cert_reqs must be none, optional or required")
    return found


def _address(text: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets. An error does not show the wrong text: it may be a misplaced
    password."""
    host, colon, given = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, given = text, ""
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not bracketed):
        raise BadUrl("a host is missing in it (an IPv6 address stands in brackets: [::1]:6379)")
    if colon and not (given.isascii() and given.isdigit() and 0 < int(given) < 65536):
        raise BadUrl("a port in it is no number from 1 to 65535")
    return f"{host}:{given or port}"


def _number(database: str) -> None:
    if not (database.isascii() and database.isdigit()):
        raise BadUrl(f"its database {database!r} is no number")


def _login(user: str, password: str) -> str:
    return f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""


def _url(scheme: str, login: str, address: str, path: str, options: dict[str, str]) -> str:
    return f"{scheme}://{login}{address}{path}" + (f"?{urlencode(options)}" if options else "")
