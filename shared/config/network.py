"""Proxies and certificates for connections to the outside, from the usual environment variables. Pure.

It reads ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, the lower-case name first, as curl and
requests do. (The standard library and httpx understand no address ranges and no ports in ``NO_PROXY``.) It reads
``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` as OpenSSL does.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

_ENTRY = re.compile(r"(?P<host>\[[^]]*\]|[^:]*|[^:]*:[^:]*:.*?)(?::(?P<port>\d{1,5}))?", re.ASCII)
"""An entry of NO_PROXY: a host or an address (an IPv6 address with or without brackets), and perhaps a port."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy. ``variable``: the environment variable that named it."""

    url: str = field(repr=False)
    variable: str

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def shown(self) -> str:
        """``scheme://host:port``, without the credentials."""
        return f"{self.scheme}://{urlsplit(self.url).netloc.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class Network:
    """``proxies``: by the scheme of the URL that is called. ``no_proxy``: as it stands in the environment."""

    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    no_proxy: str = ""
    cert_file: str = ""
    cert_dir: str = ""

    def proxy(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for calls to this server; None: call it directly. ``host``: in lower case, without brackets."""
        found = self.proxies.get(scheme)
        if found is None or any(
            _matches(entry, host, port) for entry in re.split(r"[,\s]+", self.no_proxy) if entry
        ):
            return None
        return found


def read_network(env: Mapping[str, str]) -> Network:
    """The proxies and certificates that an environment names."""

    def read(name: str) -> tuple[str, str]:
        found = next((key for key in (name.lower(), name) if key in env), name)
        return found, env.get(found, "").strip()

    proxies = {}
    for scheme in ("http", "https"):
        # A variable that is set but empty means no proxy, even where ALL_PROXY names one.
        named = next((name for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY") if name in env), "")
        variable, url = read(f"{scheme.upper()}_PROXY" if named else "ALL_PROXY")
        if url:
            proxies[scheme] = Proxy(url if "://" in url else f"http://{url}", variable)
    return Network(proxies, read("NO_PROXY")[1], env.get("SSL_CERT_FILE", ""), env.get("SSL_CERT_DIR", ""))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    entry, host, address = entry.lower(), host.rstrip("."), _address(host)
    if "/" in entry:
        try:
            return address is not None and address in ip_network(entry, strict=False)
        except ValueError:
            return False
    split = None if entry.count(":") > 1 and not entry.startswith("[") else _ENTRY.fullmatch(entry)
    name = split["host"] if split else entry
    if split and split["port"] and int(split["port"]) != port:
        return False
    if (of_entry := _address(name.strip("[]"))) is not None:
        return of_entry == address
    name = name.removeprefix("*").strip(".")
    return bool(name) and address is None and (host == name or host.endswith("." + name))
