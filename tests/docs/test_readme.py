"""The README says what is so."""

import re
from pathlib import Path

from cli.main import build_app
from shared.config.providers import VARIABLES
from shared.config.settings import PREFIX, Settings, load_presets, load_prices
from shared.protocol.events import TERMINAL

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_stands_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(rf"^\| `{PREFIX}(\w+)` \| (.*?) \|", README, re.MULTILINE))
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert rows[name.upper()] == (shown or "empty")


def test_every_provider_stands_in_its_table() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", README, re.MULTILINE))
    for name, preset in load_presets().items():
        url = preset.base_url or preset.usual_url
        assert f"`{preset.key or name.upper() + '_BASE_URL'}`" in rows[name]
        assert f"`{preset.wire_format}`" in rows[name]
        assert url is None or f"`{url}`" in rows[name]
        assert preset.continues == "no" or f"`{preset.continues}`" in rows[name]


def test_every_variable_of_a_provider_is_named() -> None:
    assert [name for name in VARIABLES if f"`<NAME>_{name.upper()}`" not in README] == []


def test_every_price_stands_in_its_table() -> None:
    for (provider, model), price in load_prices().items():
        assert f"| `{provider}/{model}` | {price.input:f} | {price.output:f} |" in README


def test_every_terminal_event_is_handled_by_the_browser_snippet() -> None:
    snippet = re.search(r"```js\n(.*?)```", README, re.DOTALL)
    assert snippet
    assert len(snippet[1].splitlines()) < 10
    assert all(f'"{event}"' in snippet[1] for event in (*TERMINAL, "restart", "snapshot"))


def test_every_command_is_told_of() -> None:
    app = build_app()
    commands = {command.name for command in app.registered_commands}
    commands |= {
        f"{group.name} {command.name}"
        for group in app.registered_groups
        if group.typer_instance is not None
        for command in group.typer_instance.registered_commands
    }
    assert {"up", "doctor", "key new"} <= commands
    shown = {name for name in commands if re.search(rf"(`|\$ )headrace {name}\b", README)}
    assert shown == commands - {"model"}, "headrace up starts the model by itself"


def test_the_rules_of_the_threat_model_stand_where_it_says() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:shared|api|worker|cli|tests)/[\w/.]+)`", page))
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).is_file()] == []
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "api").rglob("*.py"))
    code += "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "shared").rglob("*.py"))
    code += (ROOT / "worker" / "providers" / "failures.py").read_text(encoding="utf-8")
    rules = re.findall(r"`(?:\w+\.)?(\w+)` in `\w+/", page)
    assert len(rules) > 5
    for name in rules:
        assert re.search(rf"(def |^){name}\b", code, re.MULTILINE), name
    told = set(re.findall(r"`HEADRACE_(\w+)`", page)) - {"KEY"}
    assert told <= {name.upper() for name in Settings.model_fields}


def test_every_page_of_the_docs_is_a_link() -> None:
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert pages == set(re.findall(r"\]\((docs/[^)#]+)", README))
