"""The examples of the two specifications of Markdown: CommonMark's from npm, GitHub's from PyPI.

GitHub publishes its own nowhere but in its repository; the source distribution of marko, a parser, holds a copy.
"""

import re
import tarfile
from pathlib import Path

from tests.support.node import FOLDER, node_script
from tests.support.requirements import FETCH, skip_or_fail

MARKO = "2.2.4"
_EXAMPLE = re.compile(r"^`{32} example[^\n]*\n(.*?)^\.\n(.*?)^`{32}$", re.DOTALL | re.MULTILINE)


def marko_archive() -> Path:
    """Where marko's source distribution is, if it was fetched."""
    return FOLDER / "node_modules" / ".github-spec" / f"marko-{MARKO}.tar.gz"


def commonmark_examples() -> list[tuple[str, str]]:
    """CommonMark 0.31.2: Markdown and its HTML. Skipped (failed under CI=true) where it was not fetched."""
    _, index = node_script("commonmark-spec/index.js")
    return _examples(Path(index).with_name("spec.txt").read_text(encoding="utf-8"))


def github_examples() -> list[tuple[str, str]]:
    """GitHub Flavored Markdown 0.29: Markdown and its HTML. Skipped (failed under CI=true) as above."""
    if not (archive := marko_archive()).is_file():
        skip_or_fail(f"needs marko {MARKO} from PyPI: {FETCH}")
    with tarfile.open(archive) as files:
        member = files.extractfile(f"marko-{MARKO}/tests/spec/gfm.txt")
        assert member is not None
        return _examples(member.read().decode())


def _examples(text: str) -> list[tuple[str, str]]:
    return [(found[1].replace("→", "\t"), found[2].replace("→", "\t")) for found in _EXAMPLE.finditer(text)]
