"""What a POST to /api/chat does, and in which order."""

from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request

from api.http.auth import OWNER
from api.http.problems import Problem, redis_away
from api.routes.ai_sdk import MAX_KEPT, chat
from api.schemas.ui_messages import ChatRequest
from tests.support.ai_sdk import user


class World:
    """A chat's entry and a create, each noted as it is asked for."""

    def __init__(self, refusal: Problem) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.made: dict[str, Any] = {}
        self._refusal = refusal
        self.chats = self.creation = self

    async def give(self, *asked: str) -> str:
        self.done.append(("give", *asked[:2]))
        return "before"

    async def take_back(self, *asked: str) -> None:
        self.done.append(("take_back", *asked[:2], asked[3]))

    async def create(self, asked: Any, owner: str, key: None, **more: Any) -> None:
        self.done.append(("create",))
        self.made = {"on_failure": asked.on_failure, **more}
        raise self._refusal


async def post(world: World, messages: list[dict[str, Any]], version: str | None = None) -> None:
    app = SimpleNamespace(state=SimpleNamespace(context=world))
    request = Request({"type": "http", "app": app, OWNER: "alice", "headers": []})
    with pytest.raises(Problem):
        await chat(request, ChatRequest.model_validate({"id": "c", "messages": messages}), version)


async def test_a_chat_knows_its_stream_before_that_is_made_and_loses_it_where_it_is_refused() -> None:
    world = World(Problem(429, "too_many_streams", "Wait."))
    await post(world, [user("x")])
    assert world.done == [("give", "alice", "c"), ("create",), ("take_back", "alice", "c", "before")]
    assert len(world.made["stream_id"]) == 24


async def test_a_create_that_may_have_been_made_leaves_the_chat_its_stream() -> None:
    world = World(redis_away())
    await post(world, [user("x")])
    assert world.done == [("give", "alice", "c"), ("create",)]


@pytest.mark.parametrize(
    ("version", "on_failure"),
    [
        (None, "continue_or_fail"),
        ("7.0.69", "continue_or_fail"),
        ("6.9.99", "continue_or_fail"),
        ("seven", "continue_or_fail"),
        ("7.0.70", "continue"),
        ("7.1.0-beta.1", "continue"),
        ("10.0.0", "continue"),
    ],
)
async def test_an_answer_may_start_over_only_where_the_client_can_show_it(
    version: str | None, on_failure: str
) -> None:
    world = World(redis_away())
    await post(world, [user("x")], version)
    assert world.made["on_failure"] == on_failure
    assert world.made["shows_all"] is True


async def test_what_is_kept_of_a_message_is_bounded() -> None:
    done = {"type": "tool-t", "toolCallId": "c", "state": "output-available", "input": {}, "output": "x"}
    message = {"id": "a", "role": "assistant", "metadata": None, "parts": [done]}
    world = World(redis_away())
    await post(world, [user("x"), message])
    assert world.made["keeps"] == {"asked": {"ui_message": message}}
    large = {**message, "parts": [done, {"type": "data-map", "data": "x" * MAX_KEPT}]}
    await post(world, [user("x"), large])
    assert world.made["keeps"] == {"asked": {"ui_message": {"id": "a"}}}
    await post(world, [user("x")])
    assert world.made["keeps"] == {}
