"""Source files as trees, for the tests that read the project itself."""

import ast
import gc
from pathlib import Path


def parsed(path: Path) -> ast.Module:
    """The tree of a Python file.

    Without garbage collection: what a collector ends in mid-parse may format a traceback, which parses, too, and
    CPython 3.11 then raises ``SystemError: AST constructor recursion depth mismatch``.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        if collects:
            gc.enable()
