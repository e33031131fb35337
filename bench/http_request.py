"""Requests of the benchmark: what a stream's provider should answer, and the bytes that ask for it."""

import http.client
import socket
from dataclasses import dataclass

from bench.spawn import BenchError

HTTP_S = 20.0


@dataclass(frozen=True, slots=True)
class AskedAnswer:
    """What the provider should answer. The provider reads it from the prompt (see ``native/provider.c``)."""

    tokens: int
    rate: float = 50
    delay_ms: int = 0
    hold_ms: int = 0
    """The pause between the last token and the end."""
    gated: bool = False
    """Whether the answer begins only after :meth:`bench.load.BenchProvider.go`."""

    @property
    def prompt(self) -> str:
        pauses = f"delay_ms={self.delay_ms} hold_ms={self.hold_ms} gate={self.gated:d}"
        return f"tokens={self.tokens} rate={self.rate:g} {pauses}"

    @property
    def last_ms(self) -> float:
        """When the last token is due, counted from the request."""
        return self.delay_ms + 1000 * (self.tokens - 1) / self.rate


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What a viewer sends: a request, and perhaps a second one, whose ``{}`` is replaced by the ``events_url`` of
    the first response."""

    port: int
    request: str
    follow: str = ""


def get(path: str, **headers: str) -> str:
    """A GET's text, for a stream."""
    return _request("GET", path, {"Accept": "text/event-stream", **_names(headers)}, "")


def post(path: str, body: str, **headers: str) -> str:
    """A POST's text, with a JSON body."""
    content = {"Content-Type": "application/json", "Content-Length": str(len(body.encode()))}
    return _request("POST", path, {**content, **_names(headers)}, body)


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _request(method: str, path: str, headers: dict[str, str], body: str) -> str:
    lines = [f"{name}: {value}" for name, value in {"Host": "127.0.0.1", **headers}.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", body])


def call(
    port: int, method: str, path: str, body: str = "", content_type: str = "application/json", **headers: str
) -> tuple[bytes, http.client.HTTPMessage]:
    """Send one request from this process. Out: body (b"" for a stream) and headers. Raises :class:`BenchError`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HTTP_S)
    try:
        connection.request(method, path, body or None, {"Content-Type": content_type, **_names(headers)})
        response = connection.getresponse()
        streams = (response.getheader("content-type") or "").startswith("text/event-stream")
        content = b"" if streams else response.read()
        if response.status >= 300:
            raise BenchError(f"{method} {path} was answered with {response.status}: {content[:300]!r}")
        return content, response.headers
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"{method} {path} on port {port} failed: {error!r}") from None
    finally:
        connection.close()


def accepts(port: int) -> bool:
    """Whether a server listens on this port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
