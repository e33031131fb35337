"""Dialects: how a log is spoken to a viewer. Pure: entries in, bytes out.

A dialect is one module here, found by its name (``ai-sdk`` is ``ai_sdk.py``), with a function ``speak`` that makes
one for a stream. The routes that it needs are a module of ``api.routes``. What dialects have in common stands in
``base`` and ``parts``.
"""

import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Final, cast

from api.dialects.base import About, Dialect

NATIVE: Final = "native"
_NAME: Final = re.compile(r"[a-z]+(-[a-z]+)*", re.ASCII)

Speak = Callable[[About], Dialect]
"""Makes a dialect, in its state before the answer's first event."""


def dialect(name: str) -> Speak | None:
    """The dialect of this name; None where there is none."""
    module_name = f"{__name__}.{name.replace('-', '_')}"
    if not _NAME.fullmatch(name) or find_spec(module_name) is None:
        return None
    return cast("Speak | None", getattr(import_module(module_name), "speak", None))


def unasked(speak: Speak) -> Speak:
    """The same for viewers who may read the answer, and not what was asked: those with a read token."""

    def speak_unasked(about: About) -> Dialect:
        spoken = speak(about._replace(asked=""))
        if spoken.stateful:
            spoken.name += "-unasked"  # viewers of one name share their bytes
        return spoken

    return speak_unasked
