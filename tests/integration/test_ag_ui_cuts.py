"""An AG-UI run, cut at every event: the clients that people have end with the same messages as of an uncut run."""

import json
import re
from typing import Any, Final

import pytest

from api.dialects.ag_ui import AgUiDialect, TanStackDialect, place_of
from api.dialects.base import About
from shared.protocol.cursor import Cursor
from shared.protocol.events import encode_data
from shared.store.log import Entry
from tests.support.ag_ui import AgUi

STREAM: Final = "s" * 24
ASKED: Final = json.dumps({"ag-ui": {"threadId": "thread", "runId": "run"}})
ABOUT: Final = About(STREAM, "local/scripted", 1000, 0, ASKED)
EPOCH: Final = 200


def call(index: int, arguments: str, **first: str) -> dict[str, Any]:
    return {"tool_call": {"index": index, **first, "arguments": arguments}}


FIRST, SECOND = {"id": "call_a", "name": "look_up"}, {"id": "call_b", "name": "look_up"}
ANSWERS: Final[dict[str, list[dict[str, Any]]]] = {
    "reasoning, text and two calls in turns": [
        {"reasoning": "hm"},
        {"reasoning": ", so"},
        {"text": 'It "is'},
        {"text": '" \n🌊 {"type":"RUN_ERROR"}'},
        call(0, "", **FIRST),
        call(0, '{"query"'),
        call(1, '{"que', **SECOND),
        call(0, ': "a"}'),
        call(1, 'ry": "b"}'),
    ],
    "reasoning between the text": [
        {"text": "a"},
        {"reasoning": "hm"},
        {"text": "b"},
        {"reasoning": "!"},
        {"text": "c"},
    ],
    "a call without an id, and text behind it": [
        {"reasoning": "hm"},
        call(0, '{"query": "a"}', name="look_up"),
        {"text": "I look"},
        {"text": " it up"},
    ],
    "what the provider wants back": [
        {"reasoning": "hm"},
        {"provider": {"type": "thinking", "data": {"index": 0, "thinking": "hm", "signature": "sig"}}},
        call(0, '{"query": "a"}', **FIRST),
        {"provider": {"type": "citation", "data": 1}},
    ],
}


def log_of(deltas: list[dict[str, Any]]) -> list[Entry]:
    entries = [Entry(Cursor(100, 0), "queued", b"{}"), Entry(Cursor(EPOCH, 0), "started", b"{}", Cursor(100, 0))]
    entries += [Entry(Cursor(EPOCH, n), "message", encode_data(delta)) for n, delta in enumerate(deltas, 1)]
    behind = len(deltas) + 1
    reason = "tool_calls" if any("tool_call" in delta for delta in deltas) else "stop"
    entries.append(Entry(Cursor(EPOCH, behind), "finishing", encode_data({"finish_reason": reason})))
    usage = {"input_tokens": 7, "output_tokens": 3}
    done = {"finish_reason": reason, "usage": usage}
    return [*entries, Entry(Cursor(EPOCH, behind + 1), "done", encode_data(done))]


def events_of(sse: bytes) -> list[str]:
    return re.findall(r".*?\n\n", sse.decode(), re.DOTALL)


def answer(kind: type[AgUiDialect], entries: list[Entry]) -> dict[str, Any]:
    """The answer in a dialect, and what its resume brings after a cut behind each of its events."""
    dialect = kind(ABOUT)
    events = events_of(dialect.batch(entries))
    cuts = []
    for count in range(len(events)):
        ids = re.findall(r"^id: (.*)$", "".join(events[:count]), re.MULTILINE)
        last = ids[-1] if ids else ""
        place = place_of(last)
        place = None if place == Cursor(0, 0) else place
        twin = dialect.at(place)
        assert twin is not None
        rest = twin.greeting() + twin.batch([one for one in entries if place is None or one.cursor > place])
        cuts.append({"prefix": "".join(events[:count]), "last": last, "rest": rest.decode()})
    return {"whole": "".join(events), "cuts": cuts}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_run_cut_at_every_event_ends_as_an_uncut_one(ag_ui: AgUi, name: str) -> None:
    entries = log_of(ANSWERS[name])
    told = {"agui": answer(AgUiDialect, entries), "tanstack": answer(TanStackDialect, entries)}
    out = await ag_ui.run("ag_ui_cuts.mjs", "cuts", told)
    whole = out["whole"]
    assistant = next(message for message in whole["messages"] if message["role"] == "assistant")
    said = "".join(delta.get("text", "") for delta in ANSWERS[name])
    assert (assistant["id"], assistant.get("content", "")) == (STREAM, said)
    assert whole["finished"][-1][0] == "success"
    assert len(out["hand"]) == len(told["agui"]["cuts"])
    for place, found in enumerate(out["hand"]):
        assert found == whole, told["agui"]["cuts"][place]
    for found in out["fetch"] + out["clean"]:
        assert found == {**whole, "errors": []}
    assert len(out["fetch"]) == len(told["agui"]["cuts"]) - 1
    calls = len({delta["tool_call"]["index"] for delta in ANSWERS[name] if "tool_call" in delta})
    tanstack = out["wholeTanStack"]
    assert (len(tanstack["asked"]), tanstack["errors"]) == (calls, [])
    assert len(out["tanstack"]) == len(told["tanstack"]["cuts"]) - 1
    for found in out["tanstack"]:
        assert found == tanstack
