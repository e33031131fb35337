"""What is asked of a provider: the whole request, or to carry on from what was said. Pure, no I/O.

Source for how providers carry on: llama.cpp's server continues a last message of the assistant; vLLM does so
with ``continue_final_message``. Both answer a stream with nothing but what is new.
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
    """How another attempt goes on behind what was said: continue, anew, restart or fail (see ``claim.lua``).

    Continuing can't be where reasoning was under way, or where there was a tool call or anything else of the
    provider's own at all: none of it can be given back to it as text. ``continue_or_fail`` takes no text back; with
    ``shows_all`` (the caller's dialect shows reasoning and tool calls, too) none of these either.
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
    """What the record's request asks of a provider, carrying on from what was said if anything was."""
    max_tokens = request.get("max_tokens")
    prefix = "" if said is None else said.transcript().text
    if max_tokens is not None:
        # What was said took some of them. How many is not known: each model counts in its own way. Counted so, an
        # answer is cut short by less than it would go over its limit otherwise.
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
