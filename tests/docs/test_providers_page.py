"""docs/providers.md has what the code's tables have, and README's own request is one that its provider takes."""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from api.schemas.requests import CreateStream
from shared.config.capabilities import OPTIONS, WORDS, refusal
from shared.config.providers import Preset, Provider, Quirks, load_providers
from shared.config.settings import load_presets

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/providers.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [line.split(" | ") for line in lines[1:]]


def told(word: str) -> str:
    return f"`{word}`" if word else "refused"


def test_every_field_and_its_word_in_each_wire_format_stands_in_the_table() -> None:
    expected = [[f"`{feature}`", *map(told, words.values())] for feature, words in WORDS.items()]
    assert [row[:4] for row in rows("What a request may ask for")] == expected


def test_every_usual_option_stands_in_the_table() -> None:
    expected = [
        [f"`{name}`", ", ".join(f"`{one}`" for one in options.split())] for name, options in OPTIONS.items()
    ]
    assert rows("Options") == expected


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def differences(preset: Preset) -> str:
    usual = Quirks()
    found = [
        f"`{name}` = {shown(value)}"
        for name in Quirks.model_fields
        if (value := getattr(preset, name)) != getattr(usual, name)
    ]
    return "; ".join(found) or "nothing"


def test_every_preset_stands_in_the_table_with_its_date_source_and_differences() -> None:
    expected = [
        [f"`{name}`", preset.checked or "never", f"<{preset.source}>" if preset.source else "", differences(preset)]
        for name, preset in load_presets().items()
    ]
    assert rows("What each provider takes") == expected


def test_every_preset_says_when_it_was_compared_with_what() -> None:
    for name, preset in load_presets().items():
        if name == "holysheep":
            continue  # a gateway without documentation
        assert date.fromisoformat(preset.checked) <= date(2100, 1, 1)
        assert preset.source.startswith("https://")


def test_every_quirk_is_explained() -> None:
    toml = (ROOT / "shared/config/providers.toml").read_text(encoding="utf-8")
    for name in Quirks.model_fields:
        assert re.search(rf"^# {name} ", toml, re.MULTILINE), name


def examples() -> list[dict[str, Any]]:
    """Each JSON object in README that asks for a generation."""
    blocks = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    return [found for block in blocks if "model" in (found := json.loads(block))]


def test_readmes_request_is_one_that_its_provider_takes() -> None:
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
