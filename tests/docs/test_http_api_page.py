"""docs/http-api.md has every call and every event, and its request is one that its provider takes."""

import json
import re
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api.routes import article, creating, health, streams, watching
from api.schemas.requests import CreateStream
from shared.config.capabilities import refusal
from shared.config.providers import Provider, load_providers
from shared.config.settings import load_presets
from shared.protocol import events
from tests.support.documents import blocks, document, rows, section

PAGE = document("docs/http-api.md")
NAMES = {
    value
    for name, value in vars(events).items()
    if name.isupper() and isinstance(value, str) and value != events.MESSAGE
}


def test_every_event_stands_in_the_table_and_no_other() -> None:
    table = rows(section(PAGE, "Events"))
    shown = [name for row in table for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(shown) == sorted(NAMES)
    assert any(row[0].startswith("*unnamed*") for row in table)


def test_every_path_is_named() -> None:
    named = " ".join(row[0] for row in rows(PAGE)) + document("docs/article.md") + document("docs/deployment.md")
    for module in (article, creating, health, streams, watching):
        for route in module.router.routes:
            assert isinstance(route, APIRoute)
            assert route.path.replace("{stream_id}", "{id}") in named, route.path


def examples() -> list[dict[str, Any]]:
    """Each JSON object of the page that asks for a generation."""
    return [found for block in blocks(PAGE, "json") if "model" in (found := json.loads(block))]


def test_the_page_s_request_is_one_that_its_provider_takes() -> None:
    assert examples()
    env = {"ANTHROPIC_API_KEY": "x", "OPENAI_API_KEY": "x"}
    providers: dict[str, Provider] = load_providers(env, load_presets())
    for example in examples():
        asked = CreateStream.model_validate(example)
        name, _, model = asked.model.partition("/")
        request = {"messages": asked.turns(), **asked.asked()}
        assert refusal(providers[name], model, request, asked.max_tokens) is None


@pytest.mark.parametrize("wrong", [{"max_tokens": 1024}, {"temperature": 0.5}, {"tool_choice": "required"}])
def test_the_same_request_with_what_its_provider_refuses_is_refused(wrong: dict[str, Any]) -> None:
    asked = CreateStream.model_validate({**examples()[0], **wrong})
    anthropic = Provider("anthropic", "anthropic", "http://x", "")
    assert refusal(anthropic, "claude-sonnet-4-5", {"messages": asked.turns(), **asked.asked()}, asked.max_tokens)
