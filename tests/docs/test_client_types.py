"""The JavaScript client's types, package and documentation name what its code has."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from api.schemas.messages import CacheControl, Tool
from api.schemas.requests import CreateStream, JsonSchema, Reasoning, ResponseFormat, ToolChoice
from shared.version import VERSION

ROOT = Path(__file__).parents[2]
CODE = (ROOT / "api/static/headrace.js").read_text(encoding="utf-8")
TYPES = (ROOT / "api/static/headrace.d.ts").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/clients.md").read_text(encoding="utf-8")
PACKAGE = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))


def block(text: str, opening: str) -> str:
    """What stands between this line and the brace in the first column that closes it."""
    found = re.search(rf"^{opening}\b[^\n]*\{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
    assert found, opening
    return found[1]


def members_of_code(name: str) -> set[str]:
    """Public fields, getters and methods: what stands two spaces deep and is not private."""
    body = block(CODE, f"export class {name}")
    found = set(re.findall(r"^  (?:get |async )?\*?(\w+)(?: = |;|\()", body, re.MULTILINE))
    if "[Symbol.asyncIterator]" in body:
        found.add("Symbol.asyncIterator")
    return found - {"constructor"}


def members_of_types(name: str) -> set[str]:
    body = block(TYPES, f"export class {name}")
    found = set(re.findall(r"^  (?:private |readonly )?\[?([\w.]+)\]?\??[:(]", body, re.MULTILINE))
    return found - {"constructor"}


def fields_of_types(name: str) -> set[str]:
    return set(re.findall(r"^  (\w+)\??: ", block(TYPES, f"export interface {name}"), re.MULTILINE))


def options_of_code() -> tuple[set[str], set[str]]:
    """The client's own options: of both calls, and of `resume` alone."""
    own = re.search(r"const OWN = new Set\(\[(.*?)\]\)", CODE, re.DOTALL)
    resumed = re.search(r"const OWN_RESUMED = new Set\(\[\.\.\.OWN, (.*?)\]\)", CODE)
    assert own
    assert resumed
    return set(re.findall(r'"(\w+)"', own[1])), set(re.findall(r'"(\w+)"', resumed[1]))


def test_the_types_name_every_export() -> None:
    names = set(re.findall(r"^export class (\w+)", CODE, re.MULTILINE))
    assert names == set(re.findall(r"^export class (\w+)", TYPES, re.MULTILINE)) != set()


def test_the_types_name_every_public_member_and_no_other() -> None:
    for name in ("Headrace", "HeadraceStream", "SseParser"):
        assert members_of_code(name) == members_of_types(name) != set(), name


def test_the_types_name_every_option() -> None:
    own, resumed = options_of_code()
    created = {"onCreated", "idempotencyKey"}
    assert fields_of_types("ReadOptions") == own - created
    assert fields_of_types("StreamOptions") >= created
    assert fields_of_types("ResumeOptions") == resumed


def types_of(schema: dict[str, Any]) -> set[str]:
    """A field of the API as TypeScript has it."""
    for either in ("anyOf", "oneOf"):
        if either in schema:
            return set().union(*map(types_of, schema[either])) - {"null"}
    if "const" in schema:
        return {f'"{schema["const"]}"'}
    if "enum" in schema:
        return {f'"{value}"' for value in schema["enum"]}
    if "$ref" in schema:
        return {schema["$ref"].rpartition("/")[2]}
    if schema["type"] == "array":
        types = sorted(types_of(schema["items"]))
        return {f"{types[0]}[]"} if len(types) == 1 else {f"({' | '.join(types)})[]"}
    names = {"integer": "number", "object": "Record<string, unknown>"}
    return {names.get(schema["type"], schema["type"])}


def typed_fields(name: str) -> dict[str, set[str]]:
    found = re.findall(r"^  (\w+)\??: (.*);$", block(TYPES, f"export interface {name}"), re.MULTILINE)
    # What stands in brackets is one type.
    return {field: set(re.findall(r"\([^)]*\)\[\]|[^|\s](?:[^|]*[^|\s])?", types)) for field, types in found}


def test_the_types_have_every_field_of_the_create_call_and_all_its_values() -> None:
    fields: dict[str, Any] = dict(CreateStream.model_json_schema()["properties"])
    del fields["prompt"]  # a parameter of its own
    fields["messages"] = {"type": "array", "items": {"$ref": "Message"}}  # one interface for all roles
    typed = typed_fields("StreamOptions")
    assert {name: types_of(schema) for name, schema in fields.items()} == {
        name: types for name, types in typed.items() if name not in ("onCreated", "idempotencyKey")
    }
    for model in (Tool, ToolChoice, ResponseFormat, JsonSchema, Reasoning, CacheControl):
        schema: dict[str, Any] = model.model_json_schema()["properties"]
        assert {name: types_of(one) for name, one in schema.items()} == typed_fields(model.__name__)


def test_the_types_name_what_progress_and_results_hold() -> None:
    progress = re.search(r"\n  progress\(\) \{.*?return \{(.*?)\};", CODE, re.DOTALL)
    result = re.search(r"const result = \{(.*?)\};", CODE)
    assert progress
    assert result
    assert fields_of_types("Progress") == set(re.findall(r"^      (\w+)[:,]", progress[1], re.MULTILINE))
    assert fields_of_types("Result") == set(re.findall(r"\w+", result[1]))


def test_every_code_of_the_client_stands_with_its_types() -> None:
    codes = set(re.findall(r'new HeadraceError\("(\w+)"', CODE)) | set(re.findall(r'\["(\w+)", `', CODE))
    assert {"unreachable", "connection_lost", "no_base_url"} <= codes
    told = re.search(r"Stable, for programs:(.*?)\*/", TYPES, re.DOTALL)
    assert told
    inner = {"reconnecting"}  # ends a connection for the next one, and reaches nobody
    assert codes - inner == set(re.findall(r"`(\w+)`", told[1]))


def test_callbacks_that_an_abort_leaves_uncalled_are_named() -> None:
    """What it does is a case of tests/client/made_up.js."""
    rows = {row.split("|")[1].strip(): row for row in PAGE.splitlines() if row.startswith("| `")}
    assert "none after your own abort" in rows["`onDone(result)` `onError(error)`"]
    assert "no callback" in rows["`signal`"]
    assert "AbortError" in rows["`signal`"]
    said = TYPES.partition("  signal?: AbortSignal")[0].rpartition("/**")[2]
    assert "neither `onDone` nor `onError`" in said


def test_every_option_stands_in_its_page() -> None:
    own, _ = options_of_code()
    named = set(re.findall(r"`(\w+)", PAGE))
    assert own - {"maxEventChars"} <= named
    assert {"baseUrl", "key", "fetch"} <= named


def test_the_package_holds_the_module_and_its_types() -> None:
    files = {PACKAGE["exports"]["."][kind].removeprefix("./") for kind in ("types", "default")}
    assert set(PACKAGE["files"]) == files
    assert all((ROOT / file).is_file() for file in files)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (PACKAGE["name"], PACKAGE["version"]) == (project["name"], VERSION)
    assert not {"dependencies", "scripts"} & set(PACKAGE)
