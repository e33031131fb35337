"""What an attempt asks a provider for: the whole answer, or a continuation of the text so far. Pure, no I/O.

Sources for how providers continue: llama.cpp's server continues a last message of the assistant; vLLM does so with
``continue_final_message``. Both send only the new text.
"""

from collections.abc import Mapping
from typing import Any, Final

from shared.config.providers import Provider
from shared.protocol.events import Delta, decode_data
from shared.store.streams import Reading
from worker.attempt.pacing import CHARACTERS_A_TOKEN
from worker.providers.base import GenerationRequest

_AS_ASKED: Final = ("tool_choice", "parallel_tool_calls", "response_format", "reasoning", "seed", "user")
"""Fields of a request that the adapters know under the same name."""


def how_to_continue(provider: Provider, said: Reading | None, on_failure: str, *, shows_all: bool = False) -> str:
    """How another attempt goes on after what was said: ``continue``, ``anew``, ``restart`` or ``fail`` (see
    ``claim.lua``).

    An answer can't be continued if it broke off in reasoning, or if it has a tool call or a part in the provider's
    own form: none of these can be sent back as text. With ``continue_or_fail`` no text is ever taken back; with
    ``shows_all`` (the caller's dialect shows reasoning and tool calls, too) nothing at all is.
    """
    if said is None:
        return "restart"
    transcript = said.transcript()
    others = bool(transcript.tool_calls or transcript.provider_parts)
    if transcript.text and provider.continues != "no" and not others and "text" in _last_delta(said):
        return "continue"
    text_alone = on_failure == "continue_or_fail" and not shows_all
    if not transcript.text and (text_alone or not (others or transcript.reasoning)):
        return "anew"
    return "fail" if on_failure == "continue_or_fail" else "restart"


def _last_delta(said: Reading) -> Delta:
    deltas = said.deltas()
    if deltas:
        return deltas[-1]
    lines = said.snapshot.splitlines()
    return decode_data(lines[-1]) if lines else {}


def asked_of(request: Mapping[str, Any], provider: Provider, said: Reading | None) -> GenerationRequest:
    """The request to a provider, made from the record's request. If there is text already, it asks to continue
    it."""
    max_tokens = request.get("max_tokens")
    prefix = "" if said is None else said.transcript().text
    if max_tokens is not None:
        # The text so far used some of the tokens. Their number is an estimate, because each model counts in its own
        # way. With it the answer may end a little early; without it the answer would exceed its limit by more.
        max_tokens = max(1, max_tokens - len(prefix) // CHARACTERS_A_TOKEN)
    return GenerationRequest(
        model=request["model"],
        messages=request["messages"],
        max_tokens=max_tokens,
        temperature=request.get("temperature"),
        top_p=request.get("top_p"),
        stop=request.get("stop") or [],
        tools=request.get("tools") or [],
        options=request.get("provider_options") or {},
        prefix=prefix,
        continues=provider.continues,
        **{name: request.get(name) for name in _AS_ASKED},
        provider=provider.name,
        quirks=provider.quirks,
    )
