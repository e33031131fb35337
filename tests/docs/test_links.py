"""Links, anchors and paths of the documents lead somewhere."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.documents import DOCS, ROOT, prose

PAGES = [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md"))]
PLACES = "shared|api|worker|cli|tests|bench|deploy|docs"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.is_file(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_the_repository_that_is_named_is_there(page: Path) -> None:
    for path in re.findall(rf"`((?:{PLACES})/[\w./-]*)`", page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), path


def test_every_page_stands_in_the_site_s_navigation() -> None:
    named = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == [page.name for page in sorted(DOCS.glob("*.md"))]


def test_no_line_that_is_a_list_follows_a_paragraph_at_once() -> None:
    """GitHub reads such a list; the site would run it into the paragraph."""
    for page in PAGES:
        lines = ["", *prose(page.read_text(encoding="utf-8")).splitlines()]
        for before, line in pairwise(lines):
            if re.match(r"(- |\d+\. |\| )", line):
                assert not before or re.match(r"(- |\d+\. |\||  |<!--)", before), (page.name, line)
