"""What makes a site of these pages (mkdocs calls it, see mkdocs.yml).

The pages link to files of the repository that lie outside this folder: modules, images, other documents. Each such
file becomes a file of the site: an image as it is, a text as a page that shows it. A link to a file that is not
there stays as it is, and mkdocs reports it.
"""

import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT: Final = Path(__file__).parents[1]
LINK: Final = re.compile(r"\]\(\.\./([^)#\s]+)(?:#[^)\s]*)?\)")
IMAGES: Final = {".svg", ".png"}
FOLDER: Final = "source"


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add each file that a page links to."""
    linked = {path for page in files.documentation_pages() for path in LINK.findall(page.content_string)}
    for path in sorted(linked):
        if not (ROOT / path).is_file():
            continue
        name = _name(path)
        if name.endswith(".md"):
            made = File.generated(config, name, content=_shown(path), inclusion=InclusionLevel.NOT_IN_NAV)
        else:
            made = File.generated(config, name, abs_src_path=str(ROOT / path))
        files.append(made)


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let the links lead there. An anchor in such a file is none of its page's."""
    return LINK.sub(lambda found: f"]({_name(found[1])})" if (ROOT / found[1]).is_file() else found[0], markdown)


def _name(path: str) -> str:
    """Where a file of the repository is among the site's sources."""
    return f"{FOLDER}/{path}" if Path(path).suffix in IMAGES else f"{FOLDER}/{path}.md"


def _shown(path: str) -> str:
    language = {".py": "python", ".js": "js", ".lua": "lua", ".md": "markdown"}.get(Path(path).suffix, "text")
    text = (ROOT / path).read_text(encoding="utf-8").rstrip("\n")
    head = "---\nsearch: {exclude: true}\nhide: [navigation, toc]\n---\n"
    return f"{head}\n# {path}\n\n`````{language}\n{text}\n`````\n"
