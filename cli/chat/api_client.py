"""Talking to a Headrace server: create a stream, read it to its end over any number of lost connections, stop it.

Theory of operation. A create carries an ``Idempotency-Key``. So it can be repeated until there is a response, and
it makes one stream even if it arrived several times. After each loss, reading resumes after the last event. Only
events count as progress (see :mod:`cli.chat.backoff`). A permanent error (4xx) ends the command at once; a passing
one (no connection, 5xx, 429, a response that ends) is tried again. The API key is sent with every call, also for
events. A read token is for callers that can't send a key, and it could expire.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from cli.chat.answer_state import AnswerState, BadEvent, Change
from cli.chat.backoff import Backoff
from cli.errors import NoAnswer
from shared.config.settings import is_loopback
from shared.process.connecting import cause_of, is_refused_tls, unreachable
from shared.protocol.sse import SseError, SseParser

SILENCE_S: Final = 50.0
"""Comments come every 15 s. When three are missing, the connection counts as lost."""
CONNECT_S: Final = 5.0
ANSWER_S: Final = 10.0
"""Enough for any response: a create waits for Redis for 2 s at most, any other call 5 s for each reply."""
CREATE_TRIES: Final = 5
STOP_TRIES: Final = 3
PASSES: Final = frozenset({429, 500, 502, 503, 504})

Note = Callable[[str], None]


@asynccontextmanager
async def open_http(url: str, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client for the server at ``url``. Raises :class:`NoAnswer` if the URL or the key can't be used."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoAnswer(
            f"{_shown(url)!r} is no server's address. It looks like http://127.0.0.1:8000 (--url or HEADRACE_URL)."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise NoAnswer("The key holds characters that no key has. Copy it again (--key or HEADRACE_KEY).")
    timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # The environment's proxy is for other machines, never for this one.
    outside = not is_loopback(parts.hostname)
    try:
        trusted = httpx.create_ssl_context()
    except OSError as error:
        raise NoAnswer(f"SSL_CERT_FILE or SSL_CERT_DIR can't be read as certificates ({error}).") from None
    try:
        made = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, verify=trusted, trust_env=outside)
    except (httpx.InvalidURL, ValueError) as error:
        raise NoAnswer(f"{_shown(url)!r} can't be used: {error}") from None
    async with made as http:
        yield http


class ApiClient:
    """The client of one server. ``note`` gets a text for people whenever a call is tried again."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        note: Note,
        new_backoff: Callable[[int | None], Backoff] = lambda most: Backoff() if most is None else Backoff(most),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``new_backoff`` makes a backoff with this many tries (None: its default). ``sleep`` waits (s)."""
        self._http = http
        self._note = note
        self._new_backoff = new_backoff
        self._sleep = sleep

    async def create(self, body: Mapping[str, Any]) -> str:
        """Ask for one generation. Out: the stream's id. Raises :class:`NoAnswer`."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        made = await self._call("/v1/streams", CREATE_TRIES, body, headers)
        return str(made["id"])

    async def stop(self, stream_id: str) -> None:
        """Cancel a stream. Raises :class:`NoAnswer`."""
        await self._call(f"/v1/streams/{stream_id}/cancel", STOP_TRIES)

    async def changes(self, stream_id: str, answer: AnswerState) -> AsyncIterator[Change]:
        """Read after ``answer.cursor`` until the answer has ended. Raises :class:`NoAnswer`."""
        backoff = self._new_backoff(None)
        while not answer.ending:
            why, asked_s = "the connection was lost", 0.0
            parser = SseParser()
            try:
                async with self._events(stream_id, answer.cursor) as response:
                    if response.status_code == 204:
                        raise NoAnswer("This answer has ended, and nothing follows that event.")
                    if response.status_code in PASSES:
                        why, asked_s = f"the server answered {response.status_code}", _retry_after_s(response)
                    else:
                        await _refuse_all_but(response, "text/event-stream")
                        async with aclosing(response.aiter_bytes()) as chunks:
                            async for chunk in chunks:
                                for event in parser.feed(chunk):
                                    backoff.succeeded()
                                    for change in answer.take(event):
                                        yield change
                                    if answer.ending:
                                        return
                        why = "the server closed the connection"
            except httpx.TransportError as error:
                why = _why(error)
            except (SseError, BadEvent) as error:
                raise NoAnswer(f"The server sends {error}. Is it a Headrace server of this version?") from None
            if parser.retry_ms is not None:
                asked_s = max(asked_s, parser.retry_ms / 1000)
            await self._wait(backoff, why, asked_s)

    def _events(self, stream_id: str, cursor: str) -> Any:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if cursor:
            headers["Last-Event-ID"] = cursor
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        return self._http.stream("GET", f"/v1/streams/{stream_id}/events", headers=headers, timeout=timeout)

    async def _call(
        self, path: str, most: int, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        backoff = self._new_backoff(most)
        while True:
            asked_s = 0.0
            try:
                response = await self._http.post(path, json=body, headers=headers)
            except httpx.TransportError as error:
                why = _why(error)
            else:
                if response.is_success:
                    return _object(response)
                why = _detail(response)
                if response.status_code not in PASSES:
                    raise NoAnswer(why)
                asked_s = _retry_after_s(response)
            await self._wait(backoff, why, asked_s)

    async def _wait(self, backoff: Backoff, why: str, asked_s: float) -> None:
        delay_s = backoff.next_s(asked_s)
        if delay_s is None:
            raise NoAnswer(f"{_shown(self._http.base_url)}: {why} (gave up after {backoff.tried} tries).")
        self._note(f"{why}; trying again in {delay_s:.1f} s ({backoff.tried} of {backoff.most - 1})")
        await self._sleep(delay_s)


def _shown(url: str | httpx.URL) -> str:
    """A URL without its login and query, which may hold secrets."""
    scheme, separator, rest = str(url).partition("?")[0].rpartition("//")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _why(error: httpx.TransportError) -> str:
    """Why a call failed. Raises :class:`NoAnswer` if trying again can't help (no safe connection)."""
    match error:
        case httpx.ConnectError():
            cause = cause_of(error)
            if is_refused_tls(cause):
                raise NoAnswer(
                    f"No safe connection to {_shown(error.request.url)}: {unreachable(cause)}."
                ) from None
            return f"nothing answers there ({unreachable(cause)})"
        case httpx.ConnectTimeout():
            return "nothing answers there (connecting took too long)"
        case httpx.TimeoutException():
            return "the server is silent"
    return "the connection was lost"


async def _refuse_all_but(response: httpx.Response, media_type: str) -> None:
    if response.status_code != 200:
        await response.aread()
        raise NoAnswer(_detail(response))
    if not response.headers.get("content-type", "").startswith(media_type):
        raise NoAnswer(f"{_shown(response.url)} answers, but not with {media_type}. Is it a Headrace server?")


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):
        raise NoAnswer(f"{_shown(response.url)} answers, but not as a Headrace server does. Check --url.")
    return found


def _detail(response: httpx.Response) -> str:
    """The text of a problem document; for 401 also how to give a key."""
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("detail"), str):
        return f"{_shown(response.url)} answered {response.status_code}. Is it a Headrace server? Check --url."
    more = " (--key or HEADRACE_KEY)" if response.status_code == 401 else ""
    return f"{found['detail']}{more}"


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0.0
