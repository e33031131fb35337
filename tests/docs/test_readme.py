"""README says what is so, and says it shortly."""

import re

from cli.main import build_app
from shared.config.settings import load_presets
from shared.protocol.events import TERMINAL
from tests.support.documents import DOCS, blocks, document, rows, section

README = document("README.md")
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(README.splitlines()) <= 150


def test_every_terminal_event_is_handled_by_the_browser_snippet() -> None:
    snippet = blocks(README, "js")[0]
    assert len(snippet.splitlines()) < 10
    assert all(f'"{event}"' in snippet for event in (*TERMINAL, "restart", "snapshot"))


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
    shown = {name for name in commands if re.search(rf"(`|\$ )headrace {name}\b", README + PAGES)}
    assert shown == commands - {"model"}, "headrace up starts the model by itself"


def test_every_page_of_the_docs_is_a_link() -> None:
    pages = {f"docs/{page.name}" for page in DOCS.glob("*.md")} - {"docs/index.md"}
    assert pages == set(re.findall(r"\]\((docs/[\w-]+\.md)", README))


def test_its_figures_are_those_of_the_benchmark_s_table() -> None:
    table = document("docs/performance.md").partition("bench:table")[2]
    measured = {row[0].partition("<br>")[0]: row[3] for row in rows(table)}
    shown = rows(section(README, "What it costs"))
    assert len(shown) == 5
    for figure, value in shown:
        assert measured[figure].startswith(f"{value} ("), figure


def test_it_tells_the_promise_in_five_rows() -> None:
    assert len(rows(section(README, "What is promised"))) == 5


def test_the_benchmark_s_table_stands_once() -> None:
    assert (README + PAGES).count("<!-- bench:table -->") == 1


def test_it_counts_the_providers() -> None:
    assert f"[{len(load_presets())} of them]" in README
