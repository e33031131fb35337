"""docs/settings.md has every setting, with its default."""

import re

from shared.config.settings import PREFIX, Settings
from tests.support.documents import DOCS, document, rows

PAGE = document("docs/settings.md")


def test_every_setting_stands_in_the_table_with_its_default() -> None:
    shown = {name.strip("`"): default for name, default, _ in rows(PAGE)}
    assert set(shown) == {PREFIX + name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert shown[PREFIX + name.upper()] == (default or "empty")


def test_every_setting_that_a_page_names_is_one() -> None:
    known = {name.upper() for name in Settings.model_fields}
    of_the_terminal = {"URL", "KEY"}
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md", DOCS.parent / ".env.example"]:
        named = set(re.findall(rf"\b{PREFIX}([A-Z_]+[A-Z])\b", page.read_text(encoding="utf-8")))
        assert named <= known | of_the_terminal, page.name
