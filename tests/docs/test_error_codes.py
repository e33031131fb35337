"""Every error code that the code can raise stands in the table, and every code of the table is raised."""

import ast
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fastapi import FastAPI

from api.http.error_codes import ERRORS, table
from api.http.openapi import add_docs
from tests.support.source import parsed

ROOT = Path(__file__).parents[2]
PLACES = {
    "Problem": 1,
    "unusable": 0,
    "_unauthorized": 0,
    "Failure": 0,
    "ProviderError": 0,
    "UnknownModel": 0,
    "_error": 0,
}
"""Which argument of a call is a code."""
HANDED_ON = {
    "code",  # a parameter; its callers are looked at
    "self.code",
    "error.code",
    "failure.code",
    "problem.code",
    "data['code']",  # of an event, which a worker wrote
}


@dataclass
class Found:
    """Codes as they stand in the code; what could not be followed to a literal; how the literals are raised."""

    codes: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    statuses: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    retryable: dict[str, set[bool]] = field(default_factory=lambda: defaultdict(set))


def literals(value: ast.expr, module: ast.Module, constants: dict[str, str]) -> set[str] | None:
    """The strings that this expression may be. None where that can't be told."""
    match value:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.IfExp(body=one, orelse=other):
            return (literals(one, module, constants) or set()) | (literals(other, module, constants) or set())
        case ast.Call(func=ast.Attribute(value=ast.Dict(values=values), attr="get"), args=[_, default]):
            return {one.value for one in (*values, default) if isinstance(one, ast.Constant)}  # type: ignore[misc]
        case ast.Name(id=name) if name in constants:
            return {constants[name]}
    found = {text for table in tables_asked_for(value, module) for text in table}
    if not found and isinstance(value, ast.Name):
        for node in ast.walk(module):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == value.id:
                found |= literals(node.value, module, constants) or set()
    return found or None


def tables_asked_for(key: ast.expr, module: ast.Module) -> list[set[str]]:
    """The keys of the dictionaries that are asked for this very expression: ``{…}[key]``, ``TABLE[key]``."""
    named = {
        ast.unparse(node.target): node.value
        for node in ast.walk(module)
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)
    }
    tables = []
    for node in ast.walk(module):
        if isinstance(node, ast.Subscript) and ast.unparse(node.slice) == ast.unparse(key):
            asked = named.get(ast.unparse(node.value), node.value)
            if isinstance(asked, ast.Dict):
                tables.append({one.value for one in asked.keys if isinstance(one, ast.Constant)})
    return tables  # type: ignore[return-value]


def codes_of(node: ast.AST) -> ast.expr | None:
    """The expression of a code in this call or dictionary."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        place = PLACES.get(name)
        if place is not None and len(node.args) > place:
            return node.args[place]
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "code":
                return value
    return None


def look() -> Found:
    found = Found()
    files = sorted(file for part in ("api", "worker", "shared") for file in (ROOT / part).rglob("*.py"))
    modules = [parsed(file) for file in files]
    constants = {
        ast.unparse(node.target): node.value.value
        for module in modules
        for node in module.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Constant)
        if isinstance(node.value.value, str)
    }
    for module in modules:
        for node in ast.walk(module):
            code = codes_of(node)
            if code is None:
                continue
            names = literals(code, module, constants)
            if names is None:
                found.unknown.add(ast.unparse(code))
                continue
            found.codes |= names
            if isinstance(node, ast.Call) and len(names) == 1:
                note(found, *names, node)
    return found


def note(found: Found, code: str, call: ast.Call) -> None:
    kind = ast.unparse(call.func)
    if kind == "Problem" and isinstance(call.args[0], ast.Constant):
        found.statuses[code].add(str(call.args[0].value))
    if kind == "unusable":
        found.statuses[code].add("422")
    if kind in ("Failure", "ProviderError"):
        told = {word.arg: word.value for word in call.keywords}.get("retryable")
        assert told is None or isinstance(told, ast.Constant)
        found.retryable[code].add(kind == "Failure" if told is None else bool(told.value))


def test_every_code_that_is_raised_stands_in_the_table_and_no_other() -> None:
    found = look()
    assert found.unknown <= HANDED_ON
    assert len(found.codes) > 40
    assert found.codes == {row.code for row in ERRORS}
    assert len({row.code for row in ERRORS}) == len(ERRORS)


def test_the_table_tells_the_status_and_whether_to_try_again_as_the_code_has_them() -> None:
    found = look()
    for row in ERRORS:
        assert found.statuses[row.code] <= set(re.findall(r"\d+", row.where)), row.code
        told = {"yes": {True}, "no": {False}, "as it says": {True, False}}[row.retryable]
        assert row.code not in found.retryable or found.retryable[row.code] == told, row.code


def test_the_document_has_the_table_and_the_readme_leads_to_it() -> None:
    assert table() in (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## Errors\n")[2].partition("\n## ")[0]
    assert "(docs/errors.md)" in section
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", section)) - {"events_url"}
    assert {"key_missing", "provider_auth", "unknown_model", "content_filtered", "rate_limited"} <= named
    assert named <= {row.code for row in ERRORS}


async def test_the_docs_page_has_every_code() -> None:
    app = FastAPI(docs_url=None, description="x")
    add_docs(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        page = (await client.get("/docs")).text
    assert [row.code for row in ERRORS if f"<code>{row.code}</code>" not in page] == []
