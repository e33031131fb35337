"""The registry of wire formats: each is one file, found by its name.

``worker/providers/formats/<wire_format>.py`` defines ``ADAPTER``. For a new format, its name must also be added to
:data:`shared.config.providers.WireFormat`, so that the table of providers may use it.
"""

import re
from importlib import import_module
from importlib.util import find_spec
from typing import cast

from worker.providers.base import Adapter

_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


class UnknownWireFormat(LookupError):
    """No file in ``worker/providers/formats`` has this wire format's name. The text says which file to add."""


def adapter(wire_format: str) -> Adapter:
    """The adapter of a wire format. Raises :class:`UnknownWireFormat`."""
    module_name = f"{__name__}.formats.{wire_format}"
    known = _NAME.fullmatch(wire_format) is not None and find_spec(module_name) is not None
    found = getattr(import_module(module_name), "ADAPTER", None) if known else None
    if found is None:
        raise UnknownWireFormat(
            f"No adapter speaks the wire format {wire_format!r}: "
            "add worker/providers/formats/<wire format>.py with an ADAPTER, or correct the provider's preset."
        )
    return cast(Adapter, found)
