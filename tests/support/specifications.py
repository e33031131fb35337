"""The examples of the two specifications of Markdown: CommonMark's from npm, GitHub's from PyPI.

GitHub publishes its own nowhere but in its repository; the source distribution of marko, a parser, holds a copy.
"""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.support.node import FOLDER, node_script
from tests.support.requirements import skip_or_fail

MARKO = "2.2.4"
DOWNLOAD_TIMEOUT_S = 120
_EXAMPLE = re.compile(r"^`{32} example[^\n]*\n(.*?)^\.\n(.*?)^`{32}$", re.DOTALL | re.MULTILINE)


def commonmark_examples() -> list[tuple[str, str]]:
    """CommonMark 0.31.2: Markdown and its HTML. The test is skipped (failed under CI=true) without npm."""
    _, index = node_script("commonmark-spec/index.js")
    return _examples(Path(index).with_name("spec.txt").read_text(encoding="utf-8"))


def github_examples() -> list[tuple[str, str]]:
    """GitHub Flavored Markdown 0.29: Markdown and its HTML. Skipped (failed under CI=true) without pip."""
    folder = FOLDER / "node_modules" / ".github-spec"
    archive = folder / f"marko-{MARKO}.tar.gz"
    if not archive.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "marko"]
        command += [f"marko=={MARKO}", "--dest", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            skip_or_fail(f"needs marko {MARKO} from PyPI, and pip took longer than {DOWNLOAD_TIMEOUT_S} s")
        if done.returncode:
            skip_or_fail(f"needs marko {MARKO} from PyPI, and pip failed: {done.stderr[-500:]}")
    with tarfile.open(archive) as files:
        member = files.extractfile(f"marko-{MARKO}/tests/spec/gfm.txt")
        assert member is not None
        return _examples(member.read().decode())


def _examples(text: str) -> list[tuple[str, str]]:
    return [(found[1].replace("→", "\t"), found[2].replace("→", "\t")) for found in _EXAMPLE.finditer(text)]
