"""The apps of examples/ for tests, built by vite in ``tests/js/build`` (:mod:`tests.support.downloads`)."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli.up.sockets import free_port
from tests.support.documents import blocks, document
from tests.support.node import FOLDER
from tests.support.processes import Child, http_ok
from tests.support.requirements import FETCH, skip_or_fail

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Example:
    """An app of examples/. ``pins``: other versions of its packages; ``sources``: other text of its files."""

    name: str
    pins: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return EXAMPLES / self.name

    def files(self) -> dict[str, str]:
        """What is built, by path."""
        found = (path for path in self.source.rglob("*") if path.is_file() and "node_modules" not in path.parts)
        texts = {str(path.relative_to(self.source)): path.read_text(encoding="utf-8") for path in sorted(found)}
        package = json.loads(texts["package.json"])
        package["dependencies"] |= self.pins
        return {**texts, **self.sources, "package.json": json.dumps(package)}

    def folder(self) -> Path:
        """Where it is built. What is built otherwise has another one."""
        told = hashlib.sha256(json.dumps(self.files()).encode()).hexdigest()
        return FOLDER / "build" / f"{self.name}-{told[:12]}"

    @property
    def built(self) -> bool:
        return (self.folder() / "dist" / "index.html").is_file()


def react_examples() -> dict[str, Example]:
    """The app with `useChat`, as tests try it. ``page``: as docs/ai-sdk.md shows it, with the pins of its own."""
    return {
        "ai 5": Example("ai-sdk-react", {"ai": "5.0.277", "@ai-sdk/react": "2.0.280"}),
        "ai 7": Example("ai-sdk-react", {"ai": "7.0.173", "@ai-sdk/react": "4.0.177"}),
        "page": Example("ai-sdk-react", sources={"src/App.jsx": blocks(document("docs/ai-sdk.md"), "jsx")[0]}),
    }


@contextmanager
def serving(example: Example, api_url: str, directory: Path) -> Iterator[str]:
    """vite serves the built app, and hands its calls on to this API, until the block ends. Out: where it is.
    Where it is not built, the test is skipped by name (failed under CI=true)."""
    node, app = shutil.which("node"), example.folder()
    if node is None or not example.built:
        skip_or_fail(f"needs node on PATH, and {example.name} as it is now, built: {FETCH}")
    port = free_port()
    vite = str(app / "node_modules" / "vite" / "bin" / "vite.js")
    argv = (node, vite, "preview", str(app), "--host", "127.0.0.1", "--port", str(port), "--strictPort")
    env = {**os.environ, "HEADRACE_URL": api_url}
    with Child("vite", argv, env, directory) as child:
        child.url = f"http://127.0.0.1:{port}"
        child.wait_ready(lambda: http_ok(child.url))
        yield child.url
