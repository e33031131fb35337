"""What a prompt can make the scripted provider do, and what it will say. Pure."""

import json
import random
import re
from typing import Any

DEFAULTS: dict[str, Any] = {
    "name": "",  # calls are counted by it
    "tokens": 20,
    "times": 1,  # each word of the answer is said so often, in one token
    "interval_ms": 0,  # between tokens
    "seed": 0,
    "text": None,  # an exact answer, instead of words from the seed
    "numbered": False,  # the call's number stands in its text
    "reasoning_tokens": 0,  # reasoning deltas, before the text
    "tool_call": False,  # one tool call, after the text
    "tool_call_times": None,  # only in the first N calls of the name
    "finish_reason": None,  # default: stop, or tool_calls
    "usage": True,
    "chunk_bytes": 0,  # cut the writes into pieces of this size
    "no_done": False,
    "double_done": False,
    "linger_ms": 0,  # stay silent before the end mark
    "prefix": "",  # what the assistant said already (set from the request)
    "raw": None,  # this text is the whole body
    "content_type": "text/event-stream",
    "headers": {},
    "after_tool": {},  # other values for a call that has a tool's result
    "models": {},  # other values for calls of these models: {"model": {…}}
    # Faults: "fail_times" limits them to the first N calls of the name; afterwards all is fine.
    "fail_times": None,
    "status": 200,
    "retry_after": None,
    "body": None,  # of an error response; "{authorization}" in it becomes the header that came
    "hang_before_first": False,  # silent until POST /_release {"name"}, or until the client closes
    "hang_after": None,
    "keepalive_ms": 0,  # while it hangs: a comment and an empty chunk this often
    "cut_after": None,  # abort the connection
    "end_after": None,  # end the body cleanly, without a finish reason
    "garbage_after": None,
    "error_after": None,
    "flood_bytes": 0,  # an endless line of this size
}
FAULTS = (
    "status",
    "hang_before_first",
    "hang_after",
    "cut_after",
    "end_after",
    "garbage_after",
    "error_after",
    "flood_bytes",
)
_WORDS = " river| der Fluß| 流れ| tide,| l’été| 🌊| naïve.\n| stone|\n\n| mill| água| и| wheel| \\n|\t| 👩‍🚀"
TOOL_ARGUMENTS = '{"query": "höchste Flut"}'


def script_tokens(script: dict[str, Any], call: int = 1) -> list[str]:
    """The tokens of the answer to this script's call number ``call`` (counted per name, from 1)."""
    wanted = {**DEFAULTS, **script}
    head = [f"[{call}]"] if wanted["numbered"] else []
    if wanted["text"] is not None:
        return head + re.findall(r"\s*\S{1,6}|\s+", wanted["text"])
    choose = random.Random(f"{wanted['seed']}/{call if wanted['numbered'] else 0}")
    words = _WORDS.split("|")
    return head + [choose.choice(words) * wanted["times"] for _ in range(wanted["tokens"] - len(head))]


def script_text(script: dict[str, Any], call: int = 1) -> str:
    """The whole answer to this script's call number ``call``."""
    return "".join(script_tokens(script, call))


def call_of(text: str) -> int | None:
    """The number of the call whose text this is, where the script is ``numbered``."""
    found = re.match(r"\[(\d+)\]", text)
    return int(found[1]) if found else None


def script_reasoning(script: dict[str, Any]) -> list[str]:
    """The reasoning deltas that stand before the answer."""
    return [f" thought {n}" for n in range({**DEFAULTS, **script}["reasoning_tokens"])]


def _text(content: Any) -> Any:
    """Plain text of a content that may be a list of parts."""
    if not isinstance(content, list):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, dict))


def script_of(request: dict[str, Any]) -> dict[str, Any]:
    """The script in a chat completions request, with all defaults filled in."""
    prompts = [_text(m.get("content")) for m in request["messages"] if m.get("role") == "user"]
    try:
        script = json.loads(prompts[-1])
    except (IndexError, TypeError, ValueError):
        script = {}
    last = request["messages"][-1]
    prefix = last["content"] if last.get("role") == "assistant" else ""
    asked = script if isinstance(script, dict) else {}
    if last.get("role") == "tool":
        asked = {**asked, **asked.get("after_tool", {})}
    return {**DEFAULTS, **asked, **asked.get("models", {}).get(request.get("model"), {}), "prefix": prefix}
