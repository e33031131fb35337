"""Failures on the way to a provider and in its answer, as errors with stable codes. Pure.

Errors that the provider itself reports are read by :mod:`worker.providers.errors`.
"""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, Final

from shared.config.providers import Provider
from worker.providers.base import GenerationRequest, ProviderError
from worker.providers.http.connection import BadAddress, BadCertificate, ConnectTimeout, NoResponse, NotHttp

MAX_SENTENCE: Final = 500
"""The most characters of an error's text: a person reads a few lines, and a provider may send a page."""
ECHO: Final = 40
"""A run of this many characters that is also in the request is an echo. An error that repeats it would carry a
prompt into logs, and into records that outlive it."""
_BLOCK: Final = ECHO // 2
"""The text is cut into blocks of this size. Each run of ECHO characters contains a whole block."""
_MAX_LOOKED_AT: Final = 4 * MAX_SENTENCE
"""The most characters of an error that are checked for echoes: each block is a search through the whole prompt."""
_MAX_PLACES: Final = 4
"""The most matches of a block that are looked at: a prompt may repeat the same words many times."""
_MAX_ESCAPED: Final = 256 * 1024
"""The most characters of a text that is also searched for in escaped form: escaping this many takes 1 ms."""
_LEAST_KEY: Final = 8
"""The least characters of a key that is also searched for in other forms, and within words. A shorter one is no
secret, and the words of an error would suffer (``k``, ``local``)."""


def redirected(provider: Provider, status: int, to: str) -> ProviderError:
    """The provider redirects. ``to``: an origin (scheme and host), or '' if it is unknown."""
    where = f" to {to}" if to else ""
    text = (
        f"The provider {provider.name!r} redirects{where} (status {status}). Headrace does not follow that: "
        f"the key would go elsewhere: set {provider.name.upper()}_BASE_URL."
    )
    return ProviderError("provider_refused", text, refusal=True)


def of_connection(provider: Provider, error: NoResponse) -> ProviderError:
    """The error of a request that got no response at all."""
    name, variable = provider.name, f"{provider.name.upper()}_BASE_URL"
    why = f": {error}" if str(error) else ""
    if isinstance(error, BadAddress):
        text = f"The address of the provider {name!r} can't be used{why}. Check {variable}."
        return ProviderError("provider_unreachable", text, refusal=True)
    if isinstance(error, BadCertificate):
        text = f"No safe connection to the provider {name!r}{why}. If its address is wrong, correct {variable}."
        return ProviderError("provider_tls", text, refusal=True)
    if isinstance(error, NotHttp):
        return garbage(provider, "with something that is not HTTP")
    if isinstance(error, ConnectTimeout):
        text = f"Connecting to the provider {name!r} took too long{why}. Check {variable}, or try again later."
        return ProviderError("provider_connect_timeout", text, retryable=True)
    text = f"The provider {name!r} can't be reached{why}. Check {variable}, or try again later."
    return ProviderError("provider_unreachable", text, retryable=True)


def garbage(provider: Provider, how: str) -> ProviderError:
    """The provider answered, but not with a stream of events."""
    text = f"The provider {provider.name!r} answered {how}, where a stream of events was expected."
    return ProviderError("provider_garbage", text, retryable=True)


def unreadable(provider: Provider, kind: str) -> ProviderError:
    """The provider's response is not an answer. Asking again would give the same."""
    text = (
        f"The provider {provider.name!r} answered with {kind or 'no content type'}, which is neither a stream of "
        f"events nor an answer in JSON: check {provider.name.upper()}_BASE_URL."
    )
    return ProviderError("provider_garbage", text, refusal=True)


def bad_key(provider: Provider) -> ProviderError:
    """The key has characters that can't be in a header."""
    variable = provider.key_variable
    text = f"The key of the provider {provider.name!r} has characters that can't be sent: check {variable}."
    return ProviderError("provider_auth", text, refusal=True)


def first_token_timeout(provider: Provider) -> ProviderError:
    """The provider accepted the request and sent no content in time."""
    text = f"The provider {provider.name!r} took too long to begin its answer: try again later."
    return ProviderError("first_token_timeout", text, retryable=True)


def upstream_silent(provider: Provider) -> ProviderError:
    """The provider sent nothing more in the middle of its answer."""
    text = f"The provider {provider.name!r} fell silent in the middle of its answer."
    return ProviderError("upstream_silent", text, retryable=True)


def upstream_cut(provider: Provider) -> ProviderError:
    """The connection broke, or the stream ended, before a finish reason."""
    text = f"The provider {provider.name!r} broke off before the end of its answer."
    return ProviderError("upstream_cut", text, retryable=True)


def noise(provider: Provider) -> ProviderError:
    """The provider sends meaningless data, faster than any real provider does."""
    text = f"The provider {provider.name!r} sent a lot of data without a meaning, and no more of its answer."
    return ProviderError("provider_garbage", text, retryable=True)


def too_large(provider: Provider) -> ProviderError:
    """The stream's events are larger than the most that is skipped."""
    text = f"The provider {provider.name!r} sent events that are too large to be read."
    return ProviderError("provider_too_large", text, retryable=True)


def cleaned(error: ProviderError, api_key: str, request: GenerationRequest | None = None) -> ProviderError:
    """The same error, fit to be shown: on one line, bounded, and without the key and the request, which the
    provider may echo."""
    text = _without_key(str(error), api_key)
    text = " ".join(text.split())
    if request is not None and len(text) >= ECHO:
        text = _without_echoes(text[:_MAX_LOOKED_AT], request)
    if len(text) > MAX_SENTENCE:
        text = text[: MAX_SENTENCE - 1] + "…"
    return ProviderError(
        error.code,
        text,
        retryable=error.retryable,
        refusal=error.refusal,
        retry_after_s=error.retry_after_s,
    )


def _without_key(text: str, api_key: str) -> str:
    """The text without the key in any form: as it is, with spaces in it, escaped for JSON or a URL, in hexadecimal,
    or inside base64 (a header for Basic authentication)."""
    if not api_key:
        return text
    if len(api_key) < _LEAST_KEY:
        return re.sub(rf"(?<!\w){re.escape(api_key)}(?!\w)", "[key]", text)
    text = text.replace(api_key, "[key]")
    raw = api_key.encode()
    forms = [r"\s*".join(_any_form(character) for character in api_key), raw.hex()]
    for before in range(3):  # base64 encodes three bytes at a time: the key's offset in them
        packed = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        inner = packed[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
        forms.append("".join(f"[{one}{other}]" for one, other in zip(inner, _url_safe(inner), strict=True)))
    return re.sub("|".join(forms), "[key]", text, flags=re.IGNORECASE)


def _any_form(character: str) -> str:
    """A pattern for a character as it is, in a URL, and in JSON."""
    in_url = "".join(f"%{byte:02x}" for byte in character.encode())
    escaped = "".join(rf"\\u{unit:04x}" for unit in _units(character))
    return rf"(?:\\?{re.escape(character)}|{in_url}|{escaped})"


def _units(character: str) -> Iterator[int]:
    raw = character.encode("utf-16-be", "surrogatepass")
    return (int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2))


def _url_safe(text: str) -> str:
    return text.replace("+", "-").replace("/", "_")


def _without_echoes(text: str, request: GenerationRequest) -> str:
    """The text without the parts that are also in the request."""
    said = "\0".join(_forms(request))
    kept: list[str] = []
    begin = at = 0
    while at + _BLOCK <= len(text):
        start, end = _echo(text, begin, at, said)
        if end - start < ECHO:
            at += _BLOCK
            continue
        kept += (text[begin:start], "[…]")
        begin = at = end
    return "".join((*kept, text[begin:]))


def _echo(text: str, begin: int, at: int, said: str) -> tuple[int, int]:
    """The longest run around the block at ``at``, from ``begin`` on, that is in ``said``: (start, end)."""
    longest, place = (at, at), -1
    for _ in range(_MAX_PLACES):
        place = said.find(text[at : at + _BLOCK], place + 1)
        if place < 0:
            break
        before, behind = 0, _BLOCK
        while before < min(at - begin, place) and text[at - before - 1] == said[place - before - 1]:
            before += 1
        while behind < min(len(text) - at, len(said) - place) and text[at + behind] == said[place + behind]:
            behind += 1
        if before + behind > longest[1] - longest[0]:
            longest = (at - before, at + behind)
    return longest


def _forms(request: GenerationRequest) -> Iterator[str]:
    """The request's texts on one line each, and as JSON if that looks different."""
    for said in _texts([request.messages, request.tools, request.prefix]):
        forms = [said]
        if len(said) <= _MAX_ESCAPED:
            forms += (json.dumps(said)[1:-1], json.dumps(said, ensure_ascii=False)[1:-1])
        for form in dict.fromkeys(forms):
            yield " ".join(form.split())


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if len(value) >= ECHO:
            yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
