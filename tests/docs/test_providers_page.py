"""docs/providers.md has what the code's tables have."""

import re
from datetime import date
from typing import Any

from shared.config.capabilities import OPTIONS, WORDS
from shared.config.providers import VARIABLES, Preset, Quirks
from shared.config.settings import load_presets, load_prices
from tests.support.documents import document, rows, section

PAGE = document("docs/providers.md")


def table(heading: str) -> list[list[str]]:
    return rows(section(PAGE, heading))


def told(word: str) -> str:
    return f"`{word}`" if word else "refused"


def test_every_provider_stands_in_its_table() -> None:
    shown = {row[0].strip("`"): row for row in rows(PAGE)}
    assert list(shown) == list(load_presets())
    for name, preset in load_presets().items():
        _, needed, url, wire_format, continues = shown[name]
        assert f"`{preset.key or name.upper() + '_BASE_URL'}`" in needed
        assert wire_format == f"`{preset.wire_format}`"
        known = preset.base_url or preset.usual_url
        assert known is None or f"`{known}`" in url
        assert continues == ("no" if preset.continues == "no" else f"`{preset.continues}`")


def test_every_variable_of_a_provider_is_named() -> None:
    named = {name for row in table("What can be set") for name in re.findall(r"`<NAME>_([A-Z_]+)`", row[0])}
    assert named == {name.upper() for name in VARIABLES} | {"BASE_URL", "API_KEY", "MODELS", "OPTIONS"}


def test_every_price_stands_in_its_table_and_no_other() -> None:
    expected = [
        [f"`{provider}/{model}`", f"{price.input:f}", f"{price.output:f}"]
        for (provider, model), price in load_prices().items()
    ]
    assert sorted(row[:3] for row in table("Prices")) == sorted(expected)


def test_every_field_and_its_word_in_each_wire_format_stands_in_the_table() -> None:
    expected = [[f"`{feature}`", *map(told, words.values())] for feature, words in WORDS.items()]
    assert [row[:4] for row in table("What a request may ask for")] == expected


def test_every_usual_option_stands_in_the_table() -> None:
    expected = [
        [f"`{name}`", ", ".join(f"`{one}`" for one in options.split())] for name, options in OPTIONS.items()
    ]
    assert table("Options") == expected


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
    assert table("What each provider takes") == expected


def test_every_preset_says_when_it_was_compared_with_what() -> None:
    for name, preset in load_presets().items():
        if name == "holysheep":
            continue  # a gateway without documentation
        assert date.fromisoformat(preset.checked) <= date(2100, 1, 1)
        assert preset.source.startswith("https://")


def test_every_quirk_is_explained() -> None:
    toml = document("shared/config/providers.toml")
    for name in Quirks.model_fields:
        assert re.search(rf"^# {name} ", toml, re.MULTILINE), name
