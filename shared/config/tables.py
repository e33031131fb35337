"""TOML tables: one is shipped with the package, and one of the user's may lie over it.

A table has the form ``[name]`` or ``[name.name]`` with fields. Where both have the same name, the user's fields
replace the shipped ones, field by field. An error names the file, the table and the field. It never shows a value,
because somebody may have put a key there.
"""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

SHIPPED: Final = "shared.config"
"""The package that holds the shipped tables as data."""

Row = TypeVar("Row", bound=BaseModel)
Rows = dict[tuple[str, ...], dict[str, Any]]


class BadTable(ValueError):
    """A TOML file can't be used; the text names the file, the table and the field."""


def load_table(name: str, user_file: str, form: type[Row], depth: int) -> dict[tuple[str, ...], Row]:
    """All rows of a table. In: the shipped file's name, the user's file ('' for none), the model of a row, and the
    number of names that lead to a row. Out: names → row. Raises :class:`BadTable`."""
    shipped = (files(SHIPPED) / name).read_text(encoding="utf-8")
    raw = _rows(shipped, name, depth)
    origin = dict.fromkeys(raw, name)
    if user_file:
        for names, fields in _rows(_read(user_file), user_file, depth).items():
            raw[names] = {**raw.get(names, {}), **fields}
            origin[names] = user_file
    return {names: _row(fields, form, origin[names], names) for names, fields in raw.items()}


def _read(user_file: str) -> str:
    try:
        return Path(user_file).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise BadTable(f"{user_file} can't be read: {why}") from None


def _rows(text: str, file: str, depth: int) -> Rows:
    try:
        return _flatten(tomllib.loads(text, parse_float=Decimal), file, depth, ())
    except tomllib.TOMLDecodeError as error:
        raise BadTable(f"{file} is no TOML: {error}") from None


def _flatten(tables: Mapping[str, Any], file: str, depth: int, above: tuple[str, ...]) -> Rows:
    found: Rows = {}
    for name, value in tables.items():
        names = (*above, name)
        if not isinstance(value, dict):
            raise BadTable(f"{file}: {_shown(names)} must be a table")
        found |= {names: value} if len(names) == depth else _flatten(value, file, depth, names)
    return found


def _row(fields: Mapping[str, Any], form: type[Row], file: str, names: tuple[str, ...]) -> Row:
    try:
        return form.model_validate(fields)
    except ValidationError as error:
        faults = [
            f"{file}: {_shown(names)} {'.'.join(str(part) for part in e['loc'])}".rstrip()
            + ": "
            + ("no such field" if e["type"] == "extra_forbidden" else e["msg"].removeprefix("Value error, "))
            for e in error.errors()
        ]
        raise BadTable("; ".join(faults)) from None


def _shown(names: tuple[str, ...]) -> str:
    return "[" + ".".join(name if name.replace("-", "_").isidentifier() else f'"{name}"' for name in names) + "]"
