"""Each provider's answers, in the shape in which it sends them, mean what they say.

The files in ``tests/data/providers`` are written after each provider's documentation (its source and the day stand
in it). ``means`` holds what a record tells: text, reasoning, tools (name and arguments), finish, usage (input,
output, cached, reasoning tokens; -1: not told), parts (types of what has no word), or the code of an error,
what its sentence ``says``, and how long to wait.
"""

import json
from typing import Any

import pytest

from tests.support.recorded import Recorded, recorded, tell

WANTED = {
    "openai", "azure", "deepseek", "mistral", "groq", "together", "openrouter", "ollama", "vllm", "lmstudio",
    "llamacpp", "fireworks", "xai", "anthropic", "bedrock", "gemini", "vertex",
}  # fmt: skip
answers = pytest.mark.parametrize("one", recorded(), ids=lambda one: f"{one.provider}: {one.name}")


def meaning(one: Recorded, reads: list[bytes]) -> dict[str, Any]:
    """What was told, in the words of ``means``."""
    told = tell(one.wire_format, reads, status=one.status, kind=one.kind)
    transcript, usage = told.transcript, told.usage
    calls = transcript.tool_calls
    assert all(call["id"] for call in calls)
    assert len({call["id"] for call in calls}) == len(calls)
    counted = [] if usage is None else [usage.input_tokens, usage.output_tokens]
    counted += [] if usage is None else [usage.cached_tokens, usage.reasoning_tokens]
    counted = [-1 if count is None else count for count in counted]
    return {
        "text": transcript.text,
        "reasoning": transcript.reasoning,
        "tools": [[call["name"], call["arguments"]] for call in calls],
        "parts": [part["type"] for part in transcript.provider_parts],
        "finish": told.finish,
        "usage": counted,
        "code": told.error and told.error.code,
        "says": str(told.error or ""),
        "retry_after_s": told.error and told.error.retry_after_s,
    }


def check(one: Recorded, reads: list[bytes]) -> None:
    told = meaning(one, reads)
    wanted = {"text": "", "reasoning": "", "tools": [], "parts": [], "finish": None, "code": None, **one.means}
    usage, says = wanted.pop("usage", []), wanted.pop("says", "")
    wait_s = wanted.pop("retry_after_s", None)
    assert {name: told[name] for name in wanted} == wanted
    assert told["usage"][: len(usage)] == usage
    assert says in told["says"]
    assert wait_s is None or told["retry_after_s"] == pytest.approx(wait_s)


@answers
def test_an_answer_means_what_it_says(one: Recorded) -> None:
    check(one, [one.body])


@answers
def test_a_provider_s_answer_means_the_same_in_small_reads(one: Recorded) -> None:
    check(one, [one.body[at : at + 1] for at in range(len(one.body))])
    events = one.body.split(b"\n\n")
    check(one, [event + b"\n\n" for event in events[:-1]] + [events[-1]])


def test_each_provider_has_its_answers() -> None:
    names: dict[str, set[str]] = {}
    for one in recorded():
        names.setdefault(one.provider, set()).add(one.name)
    assert set(names) == WANTED
    for provider, found in names.items():
        needed = {"text", "tools", "error", "error in the stream"}
        if provider not in ("openai", "azure"):  # their models keep it to themselves here
            needed.add("reasoning")
        assert needed <= found, provider


def test_an_answer_in_bare_lines_of_json_is_read() -> None:
    lines = [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}, {"delta": {}, "finish_reason": "stop"}]
    raw = b"".join(json.dumps({"choices": [line]}).encode() + b"\n" for line in lines)
    told = tell("openai", [raw], kind="application/x-ndjson")
    assert (told.transcript.text, told.finish) == ("ab", "stop")


def test_an_error_in_the_stream_names_who_sent_it_and_what_to_check() -> None:
    for raw in (
        b'data: {"error": {"code": "invalid_api_key", "message": "no"}}\n\n',
        b"event: error\ndata: 401 invalid api key\n\n",
    ):
        told = tell("openai", [raw])
        assert told.error is not None
        assert told.error.code == "provider_auth"
        assert "'acme'" in str(told.error)
        assert "ACME_API_KEY" in str(told.error)
