"""What a wrong request is told: the field that is wrong, once, in words that say nothing of the code."""

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.http.problems import handlers, unusable
from api.metrics import ApiMetrics
from api.schemas.messages import MAX_PARTS
from api.schemas.requests import CreateStream
from tests.support.conversation import TOOL


def user(*parts: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


JSON = {"Content-Type": "application/json"}


async def refused(**sent: Any) -> dict[str, Any]:
    """The problem document of such a request."""
    app = FastAPI()
    app.state.metrics = ApiMetrics()
    app.exception_handlers.update(handlers())

    @app.post("/streams")
    async def create(asked: CreateStream) -> None:
        return None

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.post("/streams", **sent)
    assert answer.status_code == 422
    document: dict[str, Any] = answer.json()
    assert document["detail"].startswith("The request can't be used: ")
    return document


TEXT = {"type": "text", "text": "x"}
CASES: list[tuple[Any, str, str]] = [
    (user({"type": "image", "url": "ftp://x"}), "messages.0.content.0.url", "String should match pattern"),
    (user(TEXT, {"type": "image"}), "messages.0.content.1", "an image has either a url or data"),
    (user({"type": "text"}), "messages.0.content.0.text", "Field required"),
    (user({"type": "text", "text": ""}), "messages.0.content.0.text", "at least 1 character"),
    (user({**TEXT, "color": 1}), "messages.0.content.0.color", "not permitted"),
    (user({**TEXT, "image": 1}), "messages.0.content.0.image", "not permitted"),
    (user({"type": "image", "image": 1, "url": "ftp:"}), "messages.0.content.0.url", "pattern"),
    (user({"type": "audio"}), "messages.0.content.0.type", "one of 'text', 'image', and not 'audio'"),
    (user({"data": "x"}), "messages.0.content.0.type", "Field required"),
    (user(), "messages.0.content", "at least 1 item"),
    (user(*[TEXT] * (MAX_PARTS + 1)), "messages.0.content", f"at most {MAX_PARTS}"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages.0.content", "at least 1 character"),
    ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content", "text, or a list of parts"),
    ({"messages": [{"role": "user"}]}, "messages.0.content", "Field required"),
    ({"messages": [{"role": "user", "content": "x", "user": 1}]}, "messages.0.user", "not permitted"),
    ({"messages": [{"role": "user", "content": "", "user": 1}]}, "messages.0.content", "at least 1 character"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role", "and not 'robot'"),
    ({"messages": [{"content": "x"}]}, "messages.0.role", "Field required"),
    ({"messages": [{"role": "assistant"}]}, "messages.0", "content, tool_calls or both"),
    ({"messages": [{"role": "system", "content": [{"type": "text"}]}]}, "messages.0.content.0.text", "required"),
    ({"prompt": "x", "tools": [{"type": 7}]}, "tools.0.type", "valid string"),
    (
        {"prompt": "x", "tools": [{"type": "function", "function": {"name": "a b", "parameters": {}}}]},
        "tools.0",
        "pattern",
    ),
    ({"prompt": "x", "tools": [{"name": "a b", "parameters": {}}]}, "tools.0.name", "pattern"),
    ({"prompt": "x", "response_format": {"type": "xml"}}, "response_format.type", "'json_object'"),
    ({"prompt": "x", "reasoning": {"effort": "low", "tokens": 1}}, "reasoning.tokens", "not permitted"),
    ({"prompt": "x", "tool_choice": 7}, "tool_choice", "'required'"),
    ({"prompt": "x", "reasoning_effort": "hardest"}, "reasoning", "'xhigh'"),
    ({"prompt": "x", "max_completion_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    ({"prompt": "x", "max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens", "not permitted"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content.0", "a url or data"),
    ({"prompt": "x", "tools": [{**TOOL, "function": 1}]}, "tools.0.function", "not permitted"),
    ({"prompt": "x", "tools": [{**TOOL, "type": "function", "function": 1}]}, "tools.0.function", "not permitted"),
    ({"prompt": 7}, "prompt", "valid string"),
    ({"prompt": "x", "on_failure": "pray"}, "on_failure", "'restart' or 'fail'"),
    ({"prompt": "x", "colour": "blue"}, "colour", "not permitted"),
    ({}, "body", "send either prompt or messages"),
    ([], "body", "send a JSON object"),
]


@pytest.mark.parametrize(("body", "field", "words"), CASES)
async def test_a_fault_names_its_field_and_is_told_once(body: Any, field: str, words: str) -> None:
    document = await refused(json=body)
    by_field = {error["field"]: error["message"] for error in document["errors"]}
    assert words in by_field.pop(field)
    assert len(document["errors"]) == 1 + len(by_field)
    # Whatever else is told is another fault: a field that should not be there at all.
    assert set(by_field.values()) <= {"Extra inputs are not permitted"}
    for inner in ("Value error", "constrained", "list[", "tagged", "function-", "discriminator", "TextPart"):
        assert inner not in document["detail"]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "send a JSON object, with Content-Type: application/json."),
        ({"content-type": "application/x-www-form-urlencoded"}, "(this came as application/x-www-form-urlencoded)"),
        ({"content-type": "text/plain; charset=utf-8"}, "Content-Type: application/json (this came as text/plain)"),
    ],
)
async def test_a_body_that_does_not_say_it_is_json_is_told_what_to_say(headers: dict[str, str], words: str) -> None:
    document = await refused(content=b'{"prompt": "x"}', headers=headers)
    assert [error["field"] for error in document["errors"]] == ["body"]
    assert words in document["detail"]


async def test_a_missing_body_is_told_to_send_one() -> None:
    document = await refused(headers={"content-type": "application/json"})
    assert document["errors"] == [{"field": "body", "message": "send a JSON object"}]


async def test_what_a_caller_sent_is_told_again_as_far_as_it_can_be_read() -> None:
    """Half a surrogate pair was an internal error, and a long name came back twice as long."""
    document = await refused(content=b'{"' + b"k" * 100_000 + b'": 1}', headers=JSON)
    assert len(document["detail"]) < 3000
    told = unusable("invalid_request", [{"field": "metadata.\ud800", "message": "wrong"}])
    assert told.extra["errors"] == [{"field": "metadata.?", "message": "wrong"}]
    assert json.loads(told.response().body)["detail"] == "The request can't be used: metadata.?: wrong."


async def test_a_fault_of_what_two_fields_say_together_has_a_place() -> None:
    deep = json.loads("[" * 70 + "]" * 70)
    answer = {"role": "assistant", "content": "a", "provider_parts": [{"type": "t"}], "reasoning_details": deep}
    document = await refused(json={"messages": [answer, {"role": "user", "content": "x"}]})
    assert document["errors"][0]["field"].startswith("messages.0.provider_parts")
