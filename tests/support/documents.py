"""The documents, for the tests that hold what they promise."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def document(name: str) -> str:
    """The text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """What stands below a heading of the second level, up to the next one ('' where there is none)."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of the first table of this text, without its head."""
    table: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("|"):
            table.append(line.removeprefix("| ").removesuffix(" |").split(" | "))
        elif table:
            break
    return table[2:]


def blocks(text: str, language: str) -> list[str]:
    """Every listing in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """The text without its listings."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
