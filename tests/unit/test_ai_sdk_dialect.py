"""The AI SDK's dialect: wherever a log is cut, trimmed or begun anew, its own reducer makes the same of it."""

import json
import random
from typing import Any

import pytest
from hypothesis import given

from api.dialects import dialect
from api.dialects.ai_sdk import BAD_INPUT_TEXT, AiSdkDialect, continued, replay, speak, speak_resets
from api.dialects.base import About
from api.dialects.endings import RESTARTED_TEXT
from api.schemas.ui_messages import ChatRequest
from api.viewing.viewer import resync
from shared.protocol.cursor import Cursor
from shared.protocol.events import encode_data
from shared.store.log import Entry
from tests.support.ai_sdk import PACKAGES, AiSdk, Message, user
from tests.support.made_logs import ATTEMPTS, delta_of, log_of
from tests.support.made_logs import trimmed as trimmed_log
from worker.providers import adapter
from worker.providers.base import GenerationRequest

STREAM = "s" * 24
ARGUMENTS = '{"a": [1, "é\\n"]}'


def spoken(text_index: int = 0, *, resets: bool = False) -> AiSdkDialect:
    return AiSdkDialect(About(STREAM, "local/m", 1000, text_index), "m1", resets=resets)


def chunks(raw: bytes) -> list[Any]:
    """The data of all events."""
    lines = [line.removeprefix("data: ") for line in raw.decode().split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def kinds(raw: bytes) -> list[str]:
    return [one if isinstance(one, str) else one["type"] for one in chunks(raw)]


def test_it_is_found_by_its_name_and_names_the_message_after_the_stream() -> None:
    assert dialect("ai-sdk") is speak
    said = speak(About(STREAM, "local/m")).entry(b"5-0", "queued", b"{}")
    assert chunks(said)[0] == {"type": "start", "messageId": STREAM}
    assert speak_resets(About(STREAM)).resets


@pytest.mark.parametrize(
    ("asked", "message_id"),
    [("", STREAM), ('{"metadata":{}}', STREAM), ('{"ui_message":{"id":"a1","parts":[]}}', "a1")],
)
def test_the_message_is_the_one_that_the_answer_continues(asked: str, message_id: str) -> None:
    said = speak(About(STREAM, "local/m", asked=asked)).entry(b"5-0", "queued", b"{}")
    assert chunks(said)[0]["messageId"] == message_id
    assert (continued(asked) or {"id": STREAM})["id"] == message_id


@given(ATTEMPTS)
def test_a_viewer_that_begins_late_or_comes_back_gets_the_rest_as_it_was(attempts: list[list[Any]]) -> None:
    entries = log_of(attempts)
    whole = spoken()
    said = [whole.entry(entry.cursor.encode(), entry.type, entry.data) for entry in entries]
    late = spoken(1)
    assert chunks(late.greeting() + late.batch(entries[1:])) == chunks(b"".join(said))
    for place, entry in enumerate(entries):
        twin = whole.at(entry.cursor)
        assert twin is not None
        assert twin.name == whole.name
        assert twin.batch(entries[place + 1 :]) == b"".join(said[place + 1 :])
    assert all(one.count(b"id: ") <= 1 for one in said)


def test_each_kind_of_entry_has_its_chunks() -> None:
    call = {"index": 0, "id": "c1", "name": "t"}
    log = log_of(
        [
            [
                {"reasoning": "hm"},
                {"provider": {"type": "thinking", "data": {"signature": "x"}}},
                {"text": 'a "b"\n'},
                {"tool_call": {**call, "arguments": ARGUMENTS[:4]}},
                {"text": "c"},
                {"tool_call": {"index": 0, "arguments": ARGUMENTS[4:]}},
                {"tool_call": {"index": 1, "id": "c2", "name": "u", "arguments": "{"}},
                {"tool_call": {"index": 2, "id": "c3", "name": "v", "arguments": ""}},
            ]
        ]
    )
    log[-1] = log[-1]._replace(data=encode_data({"finish_reason": "tool_calls", "usage": {"n": 1}, "cost": None}))
    said = chunks(spoken().batch(log))
    assert said == [
        {"type": "start", "messageId": "m1"},
        {"type": "start-step"},
        {"type": "reasoning-start", "id": f"{STREAM}-0"},
        {"type": "reasoning-delta", "id": f"{STREAM}-0", "delta": "hm"},
        {
            "type": "data-provider",
            "data": {"provider": "local", "type": "thinking", "data": {"signature": "x"}},
        },
        {"type": "reasoning-end", "id": f"{STREAM}-0"},
        {"type": "text-start", "id": f"{STREAM}-1"},
        {"type": "text-delta", "id": f"{STREAM}-1", "delta": 'a "b"\n'},
        {"type": "text-end", "id": f"{STREAM}-1"},
        {"type": "tool-input-start", "toolCallId": "c1", "toolName": "t"},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": ARGUMENTS[:4]},
        {"type": "text-start", "id": f"{STREAM}-3"},
        {"type": "text-delta", "id": f"{STREAM}-3", "delta": "c"},
        {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": ARGUMENTS[4:]},
        {"type": "text-end", "id": f"{STREAM}-3"},
        {"type": "tool-input-start", "toolCallId": "c2", "toolName": "u"},
        {"type": "tool-input-delta", "toolCallId": "c2", "inputTextDelta": "{"},
        {"type": "tool-input-start", "toolCallId": "c3", "toolName": "v"},
        {"type": "tool-input-delta", "toolCallId": "c3", "inputTextDelta": ""},
        {"type": "tool-input-available", "toolCallId": "c1", "toolName": "t", "input": json.loads(ARGUMENTS)},
        {
            "type": "tool-input-error",
            "toolCallId": "c2",
            "toolName": "u",
            "input": "{",
            "errorText": BAD_INPUT_TEXT,
        },
        {"type": "tool-input-available", "toolCallId": "c3", "toolName": "v", "input": {}},
        {
            "type": "message-metadata",
            "messageMetadata": {"model": "local/m", "usage": {"n": 1}, "cost": None, "stream": STREAM},
        },
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "tool-calls"},
        "[DONE]",
    ]


def ended(kind: str, data: dict[str, Any], *, resets: bool = False) -> bytes:
    log = log_of([[{"text": "so far"}]])
    log[-1] = log[-1]._replace(type=kind, data=encode_data(data))
    return spoken(resets=resets).batch(log)


def test_what_is_open_is_closed_at_the_end() -> None:
    said = kinds(ended("done", {"finish_reason": "stop"}))
    assert said[said.index("text-delta") + 1 :] == [
        "text-end",
        "message-metadata",
        "finish-step",
        "finish",
        "[DONE]",
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool-calls"),
        ("content_filter", "content-filter"),
        ("other", "other"),
        (None, "other"),
    ],
)
def test_reasons_are_in_the_sdk_s_words(ours: str | None, theirs: str) -> None:
    assert chunks(ended("done", {"finish_reason": ours}))[-2] == {"type": "finish", "finishReason": theirs}


def test_a_failure_is_an_error_and_a_stop_is_an_abort() -> None:
    failed = {"code": "x", "message": "The provider broke off.", "retryable": True}
    assert chunks(ended("failed", failed))[-2:] == [
        {"type": "error", "errorText": "The provider broke off."},
        "[DONE]",
    ]
    assert kinds(ended("cancelled", {"reason": "requested"}))[-3:] == ["text-end", "abort", "[DONE]"]


def restarted_log(first: list[Any], second: list[Any]) -> list[Entry]:
    """An answer that started over."""
    entries = log_of([first, second])
    return [
        entry._replace(type="restart", data=b'{"model":"other/n"}') if entry.type == "continued" else entry
        for entry in entries
    ]


def test_a_restart_ends_what_is_shown_and_goes_on_for_who_knows_reset_step() -> None:
    log = restarted_log([{"text": "one"}], [{"provider": {"type": "t", "data": 1}}, {"text": "two"}])
    plain = chunks(spoken().batch(log))
    assert plain[-2:] == [{"type": "error", "errorText": RESTARTED_TEXT}, "[DONE]"]
    resets = spoken(resets=True)
    said = chunks(resets.batch(log))
    at = said.index({"type": "reset-step"})
    assert said[at + 1]["data"] == {"provider": "other", "type": "t", "data": 1}
    assert said[at + 2] == {"type": "text-start", "id": f"{STREAM}-0"}
    assert "error" not in kinds(resets.batch([]))
    # Nothing was shown: there is nothing to take back.
    assert "reset-step" not in kinds(spoken(resets=True).batch(restarted_log([], [{"text": "x"}])))
    # A place in front of it is not known any more, one behind it is.
    places = [entry.cursor for entry in log]
    restart = next(place for place, entry in enumerate(log) if entry.type == "restart")
    assert resets.at(places[restart - 1]) is None
    twin = resets.at(places[restart])
    assert twin is not None
    assert chunks(twin.batch(log[restart + 1 :])) == said[at + 1 :]


def test_the_two_kinds_of_client_share_no_bytes() -> None:
    assert spoken().name != spoken(resets=True).name
    assert spoken().last_words != spoken(resets=True).last_words


# -- the SDK's own reducer -------------------------------------------------------------------------------


def some_log(chooses: random.Random) -> list[Entry]:
    """An answer of one to three attempts, with all kinds of deltas."""

    def delta() -> dict[str, Any]:
        text = "".join(chooses.choices('ab "\\\n🌊é{}', k=chooses.randint(1, 5)))
        index = chooses.randint(0, 2)
        call = {"index": index, "id": f"id{index}", "name": f"tool{index}", "arguments": text}
        kinds_of = [
            {"text": text},
            {"text": text},
            {"reasoning": text},
            {"provider": {"type": "t", "data": text}},
            {"tool_call": call},
            {"tool_call": {"index": index, "arguments": text}},
        ]
        return chooses.choice(kinds_of)

    attempts = [[delta() for _ in range(chooses.randint(0, 12))] for _ in range(chooses.randint(1, 3))]
    return log_of(attempts)


def trimmed(entries: list[Entry], as_of: int, first: int) -> bytes:
    """What a viewer gets whose log has lost its beginning: everything up to ``as_of`` stands in the snapshot."""
    reading = trimmed_log(entries, as_of)
    found = resync(spoken(1), reading, entries[first : as_of + 1])
    whole = spoken()
    said = [whole.entry(entry.cursor.encode(), entry.type, entry.data) for entry in entries]
    return found.head + b"".join(said[as_of + 1 :])


@pytest.mark.parametrize("package", PACKAGES)
async def test_the_sdk_s_reducer_makes_the_same_message_of_a_trimmed_log(ai_sdk: AiSdk, package: str) -> None:
    chooses = random.Random(package)
    pairs = []
    for _ in range(60):
        entries = some_log(chooses)
        as_of = chooses.randint(1, len(entries) - 2)
        pairs += [spoken().batch(entries), trimmed(entries, as_of, chooses.randint(1, as_of))]
    made = await ai_sdk.run(package, "reduce", streams=[raw.decode() for raw in pairs])
    assert not [one["failed"] for one in made if one["failed"]]
    for whole, other in zip(made[::2], made[1::2], strict=True):
        assert other["message"] == whole["message"]
    assert any(len(one["message"]["parts"]) > 4 for one in made)


async def test_the_sdk_s_reducer_takes_back_what_a_restart_takes_back(ai_sdk: AiSdk) -> None:
    chooses = random.Random(7)
    streams = []
    for _ in range(40):
        first, second = some_log(chooses)[2:-1], some_log(chooses)[2:-1]
        said = [[found for one in log if (found := delta_of(one))] for log in (first, second)]
        log = restarted_log(*said)
        streams += [spoken(resets=True).batch(log), spoken(resets=True).batch(log_of([said[1]]))]
    made = await ai_sdk.run("ai7", "reduce", streams=[raw.decode() for raw in streams])
    assert not [one["failed"] for one in made if one["failed"]]
    for restarted, only in zip(made[::2], made[1::2], strict=True):
        assert without_model(restarted["message"]) == without_model(only["message"])


def without_model(message: Message) -> list[Any]:
    """The parts without whose they are."""
    return [
        {**part, "data": {**part["data"], "provider": ""}} if "data" in part else part for part in message["parts"]
    ]


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_message_that_is_told_again_is_the_message(ai_sdk: AiSdk, package: str) -> None:
    parts = [
        {"type": "step-start"},
        {"type": "reasoning", "text": "hm", "state": "done", "providerMetadata": {"anthropic": {"signature": "x"}}},
        {"type": "text", "text": 'so "far"\n', "state": "done"},
        {"type": "data-provider", "data": {"provider": "p", "type": "t", "data": [1]}},
        {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,AAAA"},
        {"type": "source-url", "sourceId": "1", "url": "https://example.com/"},
        {"type": "tool-t", "toolCallId": "c1", "state": "output-available", "input": {"a": 1}, "output": [2]},
        {"type": "tool-u", "toolCallId": "c2", "state": "output-error", "input": {}, "errorText": "broken"},
        {
            "type": "dynamic-tool",
            "toolName": "v",
            "toolCallId": "c3",
            "state": "output-available",
            "input": {"b": "é"},
            "output": "text",
        },
        {"type": "step-start"},
        {"type": "text", "text": "and on", "state": "done"},
    ]
    raw = replay({"id": "m1", "metadata": {"model": "p/q"}, "parts": parts}).decode()
    (made,) = await ai_sdk.run(package, "reduce", streams=[raw])
    assert made["failed"] is None
    assert (made["message"]["id"], made["message"]["metadata"]) == ("m1", {"model": "p/q"})
    assert [known(part) for part in made["message"]["parts"]] == parts


def known(part: dict[str, Any]) -> dict[str, Any]:
    """A part without what the SDK's versions note beside it."""
    told = {name: value for name, value in part.items() if name not in ("rawInput", "id")}
    # ai 5 and 6 keep the input of a call that failed under this name.
    return told if "input" in part or "rawInput" not in part else {**told, "input": part["rawInput"]}


def test_cursors_are_the_log_s() -> None:
    said = spoken().entry(b"7-3", "message", b'{"text":"x"}')
    assert said.endswith(b'id: 7-3\ndata: {"type":"text-delta","id":"%b-0","delta":"x"}\n\n' % STREAM.encode())
    assert spoken().at(Cursor(7, 3)) is None


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_signature_goes_through_the_client_and_back_to_its_provider(ai_sdk: AiSdk, package: str) -> None:
    thinking = {"index": 0, "thinking": "hm", "signature": "SIGNED"}
    log = log_of(
        [
            [
                {"reasoning": "hm"},
                {"provider": {"type": "thinking", "data": thinking}},
                {"text": "I look."},
                {"tool_call": {"index": 0, "id": "c1", "name": "look_up", "arguments": '{"q": 1}'}},
            ]
        ]
    )
    raw = AiSdkDialect(About(STREAM, "anthropic/claude", 1000), STREAM).batch(log).decode()
    (made,) = await ai_sdk.run(package, "reduce", streams=[raw])
    answer = made["message"]
    answer["parts"][-1] |= {"state": "output-available", "output": "found"}
    asked = ChatRequest.model_validate({"id": "c", "messages": [user("?"), answer]}).asked("fail")
    request = GenerationRequest(model="claude", messages=asked.turns(), provider="anthropic")
    *_, said, result = adapter("anthropic").call(request, "").body["messages"]
    assert said["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "SIGNED"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c1", "name": "look_up", "input": {"q": 1}},
    ]
    assert result["content"][0]["tool_use_id"] == "c1"
