"""Where growing Markdown can be cut, so that the part before the cut never changes its look. Pure, no I/O."""

import re
from typing import Final

_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def finished_length(text: str) -> int:
    """The length of the complete blocks at the front.

    A cut is after blank lines, outside code fences, and before a complete line that is not indented (an indented
    line may belong to the list item above).
    """
    cut, at, fence, blank = 0, 0, "", False
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        if blank and not fence and line.strip() and not line[0].isspace():
            cut = at
        found = _FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence) and not found[2].strip():
                fence = ""
        elif found and not (found[1][0] == "`" and "`" in found[2]):
            fence = found[1]
        blank = not line.strip()
        at += len(line)
    return cut


def harmless(text: str) -> str:
    """The text, safe for a terminal: characters that control the terminal or the writing direction become
    visible."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))
