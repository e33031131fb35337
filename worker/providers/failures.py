"""What goes wrong on the way to a provider and in its answer, as errors with stable codes. Pure.

What a provider itself calls an error is read by :mod:`worker.providers.errors`.
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
"""Characters of an error's text: a person reads a few lines, and a provider may send a page."""
ECHO: Final = 40
"""Characters in a row that stand in the request as well: an error that repeats them would carry a prompt into logs,
and into records that outlive it."""
_BLOCK: Final = ECHO // 2
"""Each run of ECHO characters holds a whole one of the blocks into which the text is cut."""
_MAX_LOOKED_AT: Final = 4 * MAX_SENTENCE
"""Characters of an error in which echoes are looked for: each block is a search through the whole prompt."""
_MAX_PLACES: Final = 4
"""At which a block is looked at: a prompt may hold the same words many times."""
_MAX_ESCAPED: Final = 256 * 1024
"""Characters of a text that is looked for in other forms than its own: escaping takes 1 ms for so many."""
_LEAST_KEY: Final = 8
"""Characters of a key that is looked for in other forms than its own, and within words: a shorter one is no secret,
and the words of an error would suffer (``k``, ``local``)."""


def redirected(provider: Provider, status: int, to: str) -> ProviderError:
    """The provider sends us elsewhere. ``to``: an origin (scheme and host), or '' where that can't be told."""
    where = f" to {to}" if to else ""
    text = (
        f"The provider {provider.name!r} redirects{where} (status {status}), which is not followed, for it would "
        f"carry the key along: set {provider.name.upper()}_BASE_URL."
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
        return garbage(provider, "in no HTTP that can be read")
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
    """The provider answered, with something else than an answer: asking again would bring the same."""
    text = (
        f"The provider {provider.name!r} answered with {kind or 'no content type'}, which is neither a stream of "
        f"events nor an answer in JSON: check {provider.name.upper()}_BASE_URL."
    )
    return ProviderError("provider_garbage", text, refusal=True)


def bad_key(provider: Provider) -> ProviderError:
    """The key can't stand in a header."""
    variable = provider.key_variable
    text = f"The key of the provider {provider.name!r} has characters that can't be sent: check {variable}."
    return ProviderError("provider_auth", text, refusal=True)


def first_token_timeout(provider: Provider) -> ProviderError:
    """The provider took the request and said nothing."""
    text = f"The provider {provider.name!r} took too long to begin its answer: try again later."
    return ProviderError("first_token_timeout", text, retryable=True)


def upstream_silent(provider: Provider) -> ProviderError:
    """The provider fell silent in the middle of its answer."""
    text = f"The provider {provider.name!r} fell silent in the middle of its answer."
    return ProviderError("upstream_silent", text, retryable=True)


def upstream_cut(provider: Provider) -> ProviderError:
    """The connection broke, or the stream ended, before a finish reason."""
    text = f"The provider {provider.name!r} broke off before the end of its answer."
    return ProviderError("upstream_cut", text, retryable=True)


def noise(provider: Provider) -> ProviderError:
    """The provider sends, faster than any does, what means nothing."""
    text = f"The provider {provider.name!r} sent much that means nothing, and no more of an answer."
    return ProviderError("provider_garbage", text, retryable=True)


def too_large(provider: Provider) -> ProviderError:
    """Events of the stream are larger than anybody skips."""
    text = f"The provider {provider.name!r} sent events that are too large to be any."
    return ProviderError("provider_too_large", text, retryable=True)


def cleaned(error: ProviderError, api_key: str, request: GenerationRequest | None = None) -> ProviderError:
    """The same error, fit to be shown: without the key and without the request, should the provider echo them, on
    one line, bounded."""
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
    """The text without the key: as it is, with spaces in it, escaped for JSON or a URL, in hexadecimal, or as a
    part of what is in base64 (a header for Basic authentication)."""
    if not api_key:
        return text
    if len(api_key) < _LEAST_KEY:
        return re.sub(rf"(?<!\w){re.escape(api_key)}(?!\w)", "[key]", text)
    text = text.replace(api_key, "[key]")
    raw = api_key.encode()
    forms = [r"\s*".join(_any_form(character) for character in api_key), raw.hex()]
    for before in range(3):  # where it begins within three bytes
        packed = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        inner = packed[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
        forms.append("".join(f"[{one}{other}]" for one, other in zip(inner, _url_safe(inner), strict=True)))
    return re.sub("|".join(forms), "[key]", text, flags=re.IGNORECASE)


def _any_form(character: str) -> str:
    """What matches a character as it is, in a URL and in JSON."""
    in_url = "".join(f"%{byte:02x}" for byte in character.encode())
    escaped = "".join(rf"\\u{unit:04x}" for unit in _units(character))
    return rf"(?:\\?{re.escape(character)}|{in_url}|{escaped})"


def _units(character: str) -> Iterator[int]:
    raw = character.encode("utf-16-be", "surrogatepass")
    return (int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2))


def _url_safe(text: str) -> str:
    return text.replace("+", "-").replace("/", "_")


def _without_echoes(text: str, request: GenerationRequest) -> str:
    """The text without what stands in the request."""
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
    """The longest run around the block at this place, from ``begin`` on, that was said: (start, end)."""
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
    """What the request says, on one line, and as JSON where that looks different."""
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
