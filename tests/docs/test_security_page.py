"""docs/security.md names rules that stand where it says."""

import re

from tests.support.documents import ROOT, document

PAGE = document("docs/security.md")


def test_the_rules_of_the_threat_model_stand_where_it_says() -> None:
    named = set(re.findall(r"`((?:shared|api|worker|cli|tests)/[\w/.]+)`", PAGE))
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).is_file()] == []
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "api").rglob("*.py"))
    code += "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "shared").rglob("*.py"))
    code += document("worker/providers/failures.py")
    rules = re.findall(r"`(?:\w+\.)?(\w+)` in `\w+/", PAGE)
    assert len(rules) > 5
    for name in rules:
        assert re.search(rf"(def |^){name}\b", code, re.MULTILINE), name
