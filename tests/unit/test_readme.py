"""The README says what is so."""

import re
from pathlib import Path

from shared.events import TERMINAL
from shared.providers import PRESETS
from shared.settings import PREFIX, Settings

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_every_setting_stands_in_the_table_with_its_default() -> None:
    rows = dict(re.findall(rf"^\| `{PREFIX}(\w+)` \| (.*?) \|", README, re.MULTILINE))
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert rows[name.upper()] == (shown or "empty")


def test_every_provider_stands_in_its_table() -> None:
    for name, preset in PRESETS.items():
        assert f"| `{name}` |" in README
        assert preset.base_url is None or preset.base_url in README


def test_every_terminal_event_is_handled_by_the_browser_snippet() -> None:
    snippet = re.search(r"```js\n(.*?)```", README, re.DOTALL)
    assert snippet
    assert len(snippet[1].splitlines()) < 10
    assert all(f'"{event}"' in snippet[1] for event in (*TERMINAL, "restart", "snapshot"))
