"""Gemini's streamGenerateContent: what only this format has.

What it has in common with the other two stands in ``test_wire_format_contract.py``.
"""

import json
from typing import Any

import pytest

from shared.config.network import Network
from shared.config.providers import Provider
from shared.protocol.sse import ServerSentEvent
from tests.support.provider_calls import KEY, calm_client, events_of
from tests.support.replay import replaying
from worker.providers import adapter
from worker.providers.base import Finish, GenerationRequest, ProviderError, ProviderEvent, Said, Usage
from worker.providers.probe import ask_models

google = adapter("google")
HELLO = [{"role": "user", "content": "hi"}]


def read(*events: Any, name: str = "message") -> list[ProviderEvent]:
    reader = google.reader(GenerationRequest("m", []))
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return [meaning for text in texts for meaning in reader.read(ServerSentEvent(name, text, ""))]


def parts(*parts: dict[str, Any], **candidate: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, **candidate}]}


@pytest.mark.parametrize(
    ("model", "segment"),
    [
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("../../v1/files", "..%2F..%2Fv1%2Ffiles"),
        ("x:countTokens?key=1#", "x%3AcountTokens%3Fkey%3D1%23"),
        ("a%2Fb", "a%252Fb"),
        ("..", ".."),
        ("流れ @evil\r\nX: y", "%E6%B5%81%E3%82%8C%20%40evil%0D%0AX%3A%20y"),
    ],
)
async def test_a_model_is_one_segment_of_the_path_also_on_the_wire(model: str, segment: str) -> None:
    seen: list[str] = []
    body = json.dumps(parts({"text": "a"}, finishReason="STOP")).encode()
    async with replaying(b"data: " + body + b"\n\n", seen=seen) as base_url, calm_client() as client:
        events = events_of(client, Provider("google", "google", base_url, KEY), GenerationRequest(model, HELLO))
        assert [event async for event in events] == [Said({"text": "a"}), Finish("stop")]
    assert seen[0].split("\r\n")[0] == f"POST /v1/models/{segment}:streamGenerateContent?alt=sse HTTP/1.1"


def test_a_prefix_is_the_models_own_last_turn() -> None:
    body = google.call(GenerationRequest("m", HELLO, prefix="Once"), "").body
    assert body["contents"][-1] == {"role": "model", "parts": [{"text": "Once"}]}


def test_an_unspecified_finish_reason_is_ignored() -> None:
    assert read(parts({"text": "a"}, finishReason="FINISH_REASON_UNSPECIFIED")) == [Said({"text": "a"})]


def test_a_stop_behind_an_earlier_call_is_tool_calls_and_calls_are_numbered_over_the_answer() -> None:
    one = {**parts({"functionCall": {"name": "f", "args": {"a": 1}}}), "responseId": "r"}
    two = parts({"functionCall": {"name": "g"}})
    assert read(one, two, parts({"text": ""}, finishReason="STOP")) == [
        Said({"tool_call": {"index": 0, "id": "call_r_0", "name": "f", "arguments": '{"a":1}'}}),
        Said({"tool_call": {"index": 1, "id": "call_r_1", "name": "g", "arguments": "{}"}}),
        Finish("tool_calls"),
    ]


def test_a_prompt_that_is_blocked_is_filtered_with_why() -> None:
    feedback = {"blockReason": "SAFETY", "safetyRatings": [{"category": "X"}]}
    assert read({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}}) == [
        Said({"provider": {"type": "promptFeedback", "data": feedback}}),
        Finish("content_filter"),
        Usage(4, None),
    ]


def test_ratings_are_noise_unless_they_ended_the_answer() -> None:
    ratings = [{"category": "X", "probability": "LOW"}]
    assert read(parts({"text": "a"}, safetyRatings=ratings)) == [Said({"text": "a"})]
    assert read(parts(finishReason="SAFETY", safetyRatings=ratings)) == [
        Said({"provider": {"type": "safetyRatings", "data": ratings}}),
        Finish("content_filter"),
    ]


WRONG_KEY = {
    "error": {
        "code": 400,
        "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT",
        "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
    }
}


async def test_a_wrong_key_is_an_auth_error_though_its_status_is_400() -> None:
    raw = json.dumps(WRONG_KEY).encode()
    async with replaying(raw, status=400, kind="application/json") as base_url, calm_client() as client:
        with pytest.raises(ProviderError) as caught:
            await anext(
                events_of(client, Provider("google", "google", base_url, KEY), GenerationRequest("m", HELLO))
            )
    assert (caught.value.code, caught.value.refusal) == ("provider_auth", True)
    assert "GOOGLE_API_KEY" in str(caught.value)


async def test_the_doctors_question_sees_a_wrong_key_as_one() -> None:
    raw = json.dumps(WRONG_KEY).encode()
    for body, status in ((raw, 401), (b"{}", 400)):
        async with replaying(body, status=400, kind="application/json") as base_url:
            assert await ask_models(Provider("google", "google", base_url, KEY), Network(), 5) == status


@pytest.mark.parametrize(
    "said", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "ERROR"]
)
def test_a_failing_end_is_an_error_behind_the_text(said: str) -> None:
    reader = google.reader(GenerationRequest("m", []))
    event = ServerSentEvent(
        "message", json.dumps(parts({"text": "a"}, finishReason=said, finishMessage="Bad.")), ""
    )
    seen: list[ProviderEvent] = []
    with pytest.raises(ProviderError, match=said) as caught:
        seen.extend(reader.read(event))
    assert (caught.value.code, caught.value.retryable) == ("provider_error_event", True)
    assert "Bad." in str(caught.value)


@pytest.mark.parametrize("one", [{"text": "a"}, "a", {"text": ["a"]}, {"text": {"text": "a"}}])
def test_an_odd_text_is_put_right(one: Any) -> None:
    for content in ({"parts": [one]}, [one], {"parts": one}):
        assert read({"candidates": [{"content": content}]}) == [Said({"text": "a"})]


@pytest.mark.parametrize(
    ("args", "arguments"),
    [({"a": 1}, '{"a":1}'), ('{"a":1}', '{"a":1}'), (None, "{}"), ({}, "{}"), ({"a": "\ud83d"}, '{"a":"\ufffd"}')],
)
def test_a_calls_arguments_are_whole_whichever_way_they_came(args: Any, arguments: str) -> None:
    (said,) = read(parts({"functionCall": {"id": "c", "name": "f", "args": args}}))
    assert said == Said({"tool_call": {"index": 0, "id": "c", "name": "f", "arguments": arguments}})


def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    def made(**fields: Any) -> Any:
        (said,) = read({**parts({"functionCall": {"name": "f", "args": {}}}), **fields})
        assert isinstance(said, Said)
        return said.delta["tool_call"]["id"]

    assert made(responseId="r1") == "call_r1_0"
    assert made().startswith("call_")
    two = read(parts({"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}))
    assert len({one.delta["tool_call"]["id"] for one in two if isinstance(one, Said)}) == 2


def test_a_signature_is_kept_with_its_call() -> None:
    call = {"functionCall": {"id": "c", "name": "f", "args": {}}, "thoughtSignature": "U0lH"}
    text = {"text": "", "thought_signature": "VDI="}
    assert read(parts(call, text))[1:] == [
        Said({"provider": {"type": "thoughtSignature", "data": {"signature": "U0lH", "tool_call": 0}}}),
        Said({"provider": {"type": "thoughtSignature", "data": {"signature": "VDI="}}}),
    ]


def test_names_in_snake_case_mean_the_same() -> None:
    response = {
        "candidates": [
            {
                "content": {"parts": [{"function_call": {"id": "c", "name": "f", "args": {}}}]},
                "finish_reason": "STOP",
            }
        ],
        "usage_metadata": {"prompt_token_count": 3, "candidates_token_count": 4},
    }
    assert read(response) == [
        Said({"tool_call": {"index": 0, "id": "c", "name": "f", "arguments": "{}"}}),
        Finish("tool_calls"),
        Usage(3, 4),
    ]


def test_a_whole_answer_is_a_list_of_responses_or_one() -> None:
    one, two = parts({"text": "a"}), parts({"text": "b"}, finishReason="STOP")
    said = [Said({"text": "a"}), Said({"text": "b"}), Finish("stop")]
    assert list(google.reader(GenerationRequest("m", [])).whole([one, two])) == said
    assert list(google.reader(GenerationRequest("m", [])).whole(two)) == said[1:]
