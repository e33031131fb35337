"""OpenAI's chat completion request. No I/O: a body in, a stream to create or what is wrong with it out.

Most fields have the names that :class:`api.schemas.requests.CreateStream` knows. What changes the meaning of an
answer and can't be honoured is refused; what changes nothing (where an answer is stored at OpenAI, tags) is passed
over. All else is handed to the provider as it is, by ``provider_options`` and its rules: a provider of the OpenAI
format knows it, and for another one it is refused.
"""

from typing import Any, Final, NamedTuple

from api.schemas.foreign import Refused, refuse, validated, while_read, wrong
from api.schemas.requests import OTHER_NAMES, CreateStream

_OURS: Final = (CreateStream.model_fields.keys() | OTHER_NAMES) - {
    "prompt",
    "provider_options",
    "flow",
    "pause_after",
    "abandon_after",
    "on_failure",
}
_PASSED_OVER: Final = frozenset(
    {"store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
)
"""What changes nothing of an answer."""
_REFUSED: Final[Refused] = {
    "n": ("one answer is made for each request: leave it out, or send 1", (1,)),
    "logprobs": ("they are not kept: leave it out, or send false", (False,)),
    "top_logprobs": ("they are not kept: leave it out", ()),
    "functions": ("send tools", ()),
    "function_call": ("send tool_choice", ()),
    "audio": ("an answer is text: leave it out", ()),
    "modalities": ('an answer is text: leave it out, or send ["text"]', (["text"],)),
    "prediction": ("it can't be honoured: leave it out", ()),
    "web_search_options": ("it can't be honoured: leave it out", ()),
}


class CompletionRequest(NamedTuple):
    """What is asked, and how the caller reads it."""

    asked: CreateStream
    stream: bool
    usage: bool


def completion_request(body: Any, grace_s: float) -> CompletionRequest:
    """Read a body. ``grace_s``: how long the generation goes on without its caller.

    Raises ``RequestValidationError``, whose places are the request's own fields.
    """
    if not isinstance(body, dict):
        raise wrong(body, why="send a JSON object", kind="model_type")
    sent = {name: value for name, value in body.items() if value is not None}
    refuse(body, sent, _REFUSED)
    stream, options = sent.pop("stream", False), sent.pop("stream_options", {})
    given = sent.pop("provider_options", {})
    if not isinstance(stream, bool):
        raise wrong(body, "stream", why="Input should be true or false")
    if not isinstance(options, dict):
        raise wrong(body, "stream_options", why="Input should be an object")
    ours = {name: value for name, value in sent.items() if name in _OURS}
    if not ours.get("messages"):
        raise wrong(body, "messages", why="send at least one message")
    rest = sent.keys() - ours.keys() - _PASSED_OVER - _REFUSED.keys()
    if not isinstance(given, dict):
        raise wrong(body, "provider_options", why="Input should be an object")
    provider_options = {**given, **{name: sent[name] for name in sorted(rest)}}
    wanted = {**ours, "on_failure": "continue_or_fail", **while_read(grace_s)}
    if provider_options:
        wanted["provider_options"] = provider_options
    return CompletionRequest(validated(CreateStream, wanted, body), stream, bool(options.get("include_usage")))
