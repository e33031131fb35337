"""The import rules of the design: the layout shows the architecture, and stays true."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.source import parsed

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared", "api", "worker", "cli")


@cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(
        (str(path.relative_to(ROOT)), parsed(path))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    )


@cache
def imports(tree: ast.Module) -> tuple[str, ...]:
    return tuple(names_of_imports(tree))


def names_of_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def importers(*names: str) -> set[str]:
    """The files that import one of these packages (or something below it)."""
    return {
        file
        for file, tree in modules()
        for found in imports(tree)
        if any(found == name or found.startswith(name + ".") for name in names)
    }


def within(files: set[str], *places: str) -> bool:
    return all(file.startswith(places) for file in files)


def test_the_two_sides_do_not_know_each_other() -> None:
    assert within(importers("api"), "api/", "cli/")
    assert within(importers("worker"), "worker/", "cli/")
    assert within(importers("cli"), "cli/")


def test_fastapi_and_starlette_stay_in_the_api() -> None:
    assert within(importers("fastapi", "starlette", "sse_starlette", "uvicorn"), "api/")


def test_arq_is_where_jobs_are_sent_and_where_the_worker_is_built() -> None:
    rooms = {"shared/store/queue.py", "shared/redis/arq_server.py", "worker/main.py", "worker/job_consumer.py"}
    assert importers("arq") == rooms


def test_http_clients_stay_with_the_providers_and_the_terminal_s_one() -> None:
    """`headrace chat` is a caller like any other: it speaks to the API over HTTP, from one module."""
    of_providers = {"worker/providers/http/transport.py", "worker/providers/client.py"}
    assert importers("httpx") == {*of_providers, "cli/chat/api_client.py"}


def test_redis_commands_are_sent_by_shared_alone() -> None:
    """Elsewhere redis stands only for the type of a client that is handed in, and for its errors."""
    for file in importers("redis") - importers_below("shared/redis/"):
        found = {name for name in imports_of(file) if name.startswith("redis")}
        assert found <= {"redis.asyncio", "redis.exceptions"}, file
        assert names_from(file, "redis.asyncio") <= {"Redis"}, file


def test_modules_take_redis_from_its_room() -> None:
    """What a module of it holds beside the room's names is its own."""
    for file in importers("shared.redis") - importers_below("shared/redis/"):
        assert {name for name in imports_of(file) if name.startswith("shared.redis")} == {"shared.redis"}, file


def test_the_room_of_redis_knows_nothing_of_what_is_kept_there() -> None:
    for file in importers("shared") & importers_below("shared/redis/"):
        found = {name for name in imports_of(file) if name.startswith("shared.")}
        assert all(name.startswith("shared.redis") for name in found - {"shared.protocol.status"}), file


def names_from(file: str, module: str) -> set[str]:
    return {
        alias.name
        for node in ast.walk(dict(modules())[file])
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    }


def importers_below(place: str) -> set[str]:
    return {file for file, _ in modules() if file.startswith(place)}


def imports_of(file: str) -> set[str]:
    return set(imports(dict(modules())[file]))


def test_stream_commands_stand_in_one_module_and_the_scripts() -> None:
    for file, tree in modules():
        if file == "shared/store/log.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                # The rights to them are asked for by their names.
                assert node.value.upper() not in {"XADD", "XREAD"} or file == "shared/redis/rights.py", file
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"xadd", "xread", "xrange", "xrevrange", "xtrim", "xdel"}, file


def test_only_composition_roots_read_the_environment() -> None:
    roots = {"shared/config/settings.py", "api/app.py", "worker/main.py", "cli/main.py"}
    for file, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}:
                assert file == "shared/config/settings.py" or file.startswith("cli/"), file
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "environment":
                assert file in roots, file


PURE = (
    "shared/protocol/cursor.py",
    "shared/protocol/events.py",
    "shared/protocol/sse.py",
    "shared/protocol/status.py",
    "shared/store/keys.py",
    "shared/config/prices.py",
    "shared/config/capabilities.py",
    "shared/config/providers.py",
    "shared/config/network.py",
    "cli/chat/answer_state.py",
    "cli/chat/blocks.py",
    "api/viewing/shared_buffer.py",
    "api/dialects/ai_sdk.py",
    "api/dialects/native.py",
    "worker/providers/base.py",
    "worker/providers/decoder.py",
    "worker/providers/http/encodings.py",
    "worker/providers/formats/history.py",
    "worker/providers/errors.py",
    "worker/providers/formats/reader.py",
    "worker/providers/formats/openai.py",
    "worker/providers/formats/openai_stream.py",
    "worker/providers/formats/anthropic.py",
    "worker/providers/formats/anthropic_stream.py",
    "worker/providers/formats/google.py",
    "worker/providers/formats/google_stream.py",
    "api/schemas/messages.py",
    "api/schemas/ui_messages.py",
)


@pytest.mark.parametrize("file", PURE)
def test_pure_modules_do_no_io(file: str) -> None:
    doers = {"asyncio", "socket", "os", "pathlib", "redis", "httpx", "time", "subprocess", "threading", "random"}
    assert not {name.split(".")[0] for name in imports_of(file)} & doers


def test_nothing_happens_at_import() -> None:
    """At module level there are definitions, constants and docstrings: no loop, no `with`, no `try`."""
    for file, tree in modules():
        if file.endswith("__main__.py"):
            continue
        for node in tree.body:
            assert not isinstance(node, ast.For | ast.While | ast.With | ast.Try | ast.Delete), file
            assert not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)), file


LAYERS = (
    ("shared/protocol", "shared/redis", "shared/config", "shared/store", "shared/process"),
    ("api/http", "api/schemas", "api/dialects", "api/viewing", "api/streams", "api/routes", "api/app.py"),
    ("worker/providers/http", "worker/providers/formats", "worker/providers/client.py"),
    ("worker/log", "worker/background", "worker/attempt", "worker/main.py"),
    ("worker/providers", "worker/attempt", "worker/main.py"),
    ("cli/up", "cli/chat", "cli/doctor", "cli/main.py"),
)
"""Rooms of a package, in order: each imports only those before it."""


@pytest.mark.parametrize("layers", LAYERS)
def test_a_room_knows_only_those_before_it(layers: tuple[str, ...]) -> None:
    for at, room in enumerate(layers):
        assert importers_below(room), f"{room} is no room any more"
        for later in layers[at + 1 :]:
            module = later.removesuffix(".py").replace("/", ".")
            assert not importers(module) & importers_below(room), (room, later)


def test_log_and_providers_do_not_know_each_other() -> None:
    assert not importers("worker.log") & importers_below("worker/providers/")
    assert not importers("worker.providers") & importers_below("worker/log/")


MOST_FILES = 17
"""What one look at a folder takes in."""


def test_no_folder_has_too_many_modules() -> None:
    held: dict[str, int] = {}
    for file, _ in modules():
        folder = str(Path(file).parent)
        held[folder] = held.get(folder, 0) + 1
    assert not {folder: files for folder, files in held.items() if files > MOST_FILES}


def test_no_module_has_a_catch_all_name() -> None:
    drawers = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}
    assert not [file for file, _ in modules() if set(Path(file).with_suffix("").parts) & drawers]
