"""OpenAI's chat completion request. No I/O: a body in, a stream to create or what is wrong with it out.

Most fields have the names that :class:`api.schemas.requests.CreateStream` knows. What changes the meaning of an
answer and can't be honoured is refused; what changes nothing (where an answer is stored at OpenAI, tags) is passed
over. All else is handed to the provider as it is, by ``provider_options`` and its rules: a provider of the OpenAI
format knows it, for another it is refused.
"""

from typing import Any, Final, NamedTuple

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from api.schemas.requests import CreateStream

_OURS: Final = frozenset(CreateStream.model_fields) - {
    "prompt",
    "flow",
    "pause_after",
    "abandon_after",
    "on_failure",
}
_OTHER_NAMES: Final = frozenset({"max_completion_tokens", "reasoning_effort"})
_PASSED_OVER: Final = frozenset(
    {"store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
"""What changes nothing of an answer."""
_REFUSED: Final = {
    "n": "one answer is made for each request: leave it out, or send 1",
    "logprobs": "they are not kept: leave it out, or send false",
    "top_logprobs": "they are not kept: leave it out",
    "functions": "send tools",
    "function_call": "send tool_choice",
    "audio": "an answer is text: leave it out",
    "modalities": 'an answer is text: leave it out, or send ["text"]',
    "prediction": "it can't be honoured: leave it out",
    "web_search_options": "it can't be honoured: leave it out",
}
_HARMLESS: Final = {"n": (1,), "logprobs": (False,), "modalities": (["text"],)}
"""Values that ask for what is done anyway."""


class ChatRequest(NamedTuple):
    """What is asked, and how the caller reads it."""

    asked: CreateStream
    stream: bool
    usage: bool


def chat_request(body: Any, grace_s: float) -> ChatRequest:
    """Read a body. ``grace_s``: how long the generation goes on without its caller.

    Raises ``RequestValidationError``, whose places are the request's own fields.
    """
    if not isinstance(body, dict):
        raise _wrong(body, "", "send a JSON object", kind="model_type")
    sent = {name: value for name, value in body.items() if value is not None}
    for name, why in _REFUSED.items():
        if name in sent and sent[name] not in _HARMLESS.get(name, ()):
            raise _wrong(body, name, why)
    stream, options = sent.pop("stream", False), sent.pop("stream_options", {})
    if not isinstance(stream, bool):
        raise _wrong(body, "stream", "Input should be true or false")
    if not isinstance(options, dict):
        raise _wrong(body, "stream_options", "Input should be an object")
    ours = {name: value for name, value in sent.items() if name in _OURS or name in _OTHER_NAMES}
    ours.pop("provider_options", None)
    if not ours.get("messages"):
        raise _wrong(body, "messages", "send at least one message")
    rest = sent.keys() - ours.keys() - _PASSED_OVER - _REFUSED.keys() - {"provider_options"}
    given = sent.get("provider_options", {})
    if not isinstance(given, dict):
        raise _wrong(body, "provider_options", "Input should be an object")
    provider_options = {**given, **{name: sent[name] for name in sorted(rest)}}
    try:
        asked = CreateStream.model_validate(
            {
                **ours,
                **({"provider_options": provider_options} if provider_options else {}),
                "on_failure": "continue_or_fail",
                "flow": "client",
                "pause_after": grace_s,
                "abandon_after": 1,
            }
        )
    except ValidationError as error:
        raise RequestValidationError(
            [{**found, "loc": ("body", *found["loc"])} for found in error.errors()], body=body
        ) from None
    return ChatRequest(asked, stream, bool(options.get("include_usage")))


def _wrong(body: Any, field: str, why: str, kind: str = "value_error") -> RequestValidationError:
    return RequestValidationError(
        [{"type": kind, "loc": ("body", field) if field else ("body",), "msg": why}], body=body
    )
