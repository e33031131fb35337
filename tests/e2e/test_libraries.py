"""SSE libraries that nobody here wrote read an answer to its end by the lines of docs/clients.md: over a server
that stops in the middle, and from a cursor at the end."""

import asyncio
import importlib.util
import inspect
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from tests.support.bytes_server import bytes_server
from tests.support.node import FOLDER, node_script
from tests.support.requirements import skip_or_fail
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack
from tests.support.viewing import view_to_end

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE: Final = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
WITHIN_S: Final = 60.0
SCRIPT: Final = {"tokens": 40, "interval_ms": 20, "seed": 8}
PYTHON: Final = {"httpx-sse": "httpx_sse", "aiohttp-sse-client": "aiohttp_sse_client", "sseclient-py": "sseclient"}
JAVASCRIPT: Final = {
    "fetch-event-source": "fetch-event-source",
    "event-source-polyfill": "event-source-polyfill and reconnecting-eventsource",
    "reconnecting-eventsource": "event-source-polyfill and reconnecting-eventsource",
}
STOPS: Final = ["fetch-event-source", *PYTHON]
"""Those that can be told of a 204."""

Read = Callable[[str, str], Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("libraries")) as made:
        yield made


def block(title: str, language: str) -> str:
    """The first block of a section of the page ('': of the page)."""
    section = PAGE if not title else PAGE.partition(f"\n## {title}\n")[2]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, title
    return found[1]


def reader(library: str) -> Read:
    """What reads an answer, as the page has it. In: the URL and the cursor. Out: the text."""
    if library in JAVASCRIPT:
        return lambda url, cursor: asyncio.to_thread(by_node, library, url, cursor)
    if importlib.util.find_spec(PYTHON[library]) is None:
        skip_or_fail(f"needs {library} from PyPI")
    names: dict[str, Any] = {}
    exec(block("", "python") + block(library, "python"), names)
    answer = names["answer"]
    if inspect.iscoroutinefunction(answer):
        return lambda url, cursor: answer(url, cursor)
    return lambda url, cursor: asyncio.to_thread(answer, url, cursor)


def by_node(library: str, url: str, cursor: str) -> str:
    node, _ = node_script("@microsoft/fetch-event-source/package.json")
    common = re.search(r"```js\n(const TERMINAL.*?)```", PAGE, re.DOTALL)
    assert common
    # Where Node finds the packages that it imports.
    snippet = FOLDER / "node_modules" / f".{library}.mjs"
    snippet.write_text(common[1] + block(JAVASCRIPT[library], "js"), encoding="utf-8")
    argv = [node, str(FOLDER / "library.mjs"), str(snippet), url, cursor]
    if library == "event-source-polyfill":
        argv.append("polyfill")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("library", [*JAVASCRIPT, *PYTHON])
async def test_an_answer_is_read_from_any_cursor(stack: Stack, library: str) -> None:
    read = reader(library)
    made = await stack.create(SCRIPT)
    url = stack.apis[0].url + made["events_url"]
    async with asyncio.timeout(WITHIN_S):
        assert await read(url, "") == script_text(SCRIPT)
        seen = await view_to_end(stack.client, made["events_url"])
        rest = await read(url, seen.ids[len(seen.ids) // 2])
    assert rest
    assert script_text(SCRIPT).endswith(rest)
    assert len(rest) < len(script_text(SCRIPT))


@pytest.mark.parametrize("library", STOPS)
async def test_a_cursor_at_the_end_ends_it(stack: Stack, library: str) -> None:
    read = reader(library)
    made = await stack.create({"tokens": 3, "seed": 2})
    seen = await view_to_end(stack.client, made["events_url"])
    async with asyncio.timeout(WITHIN_S):
        assert await read(stack.apis[0].url + made["events_url"], seen.last_id) == ""


def event(n: int, kind: str, **data: str) -> bytes:
    name = b"" if kind == "message" else b"event: %b\n" % kind.encode()
    return b"id: 5-%d\n%bdata: %b\n\n" % (n, name, json.dumps(data).encode())


@pytest.mark.parametrize("library", [*JAVASCRIPT, *PYTHON])
async def test_a_response_that_ends_in_the_middle_is_gone_on_with(library: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    begun = b"retry: 1000\n" + event(0, "started") + event(1, "message", text="One ")
    ended = b"retry: 1000\n" + event(2, "message", text="two.") + event(3, "done")

    def pieces(n: int) -> list[bytes]:
        if n > 2:
            return [b"HTTP/1.1 204 No Content\r\n\r\n"]
        body = begun if n == 1 else ended
        return [head, b"%x\r\n%b\r\n" % (len(body), body), b"0\r\n\r\n"]

    read = reader(library)
    async with bytes_server(pieces) as server, asyncio.timeout(WITHIN_S):
        assert await read(server.url(), "") == "One two."
        heads = [head for connection in server.connections for head in connection]
    assert len(heads) == 2
    assert "5-1" in heads[1]


@pytest.mark.parametrize("name", ["lastEventId", "lastEventID", "last_event_id"])
async def test_a_cursor_in_the_url_has_several_names(stack: Stack, name: str) -> None:
    made = await stack.create({"tokens": 3, "seed": 2})
    seen = await view_to_end(stack.client, made["events_url"])
    answer = await stack.client.get(made["events_url"], params={name: seen.last_id})
    assert answer.status_code == 204
    answer = await stack.client.get(made["events_url"], params={name: seen.ids[0], "last_event_id": seen.last_id})
    assert answer.status_code == (204 if name == "last_event_id" else 200)
    asked = {"prompt": "x", name: f"{made['id']}/{seen.last_id}"}
    assert (await stack.client.get("/chat/stream", params=asked)).status_code == 204
    for path in ("/chat/stream", "/stream/aware"):
        named = {name: f"{made['id']}/{seen.last_id}"}
        assert (await stack.client.post(path, params=named, json={"prompt": "x"})).status_code == 204


@pytest.mark.parametrize("name", ["last-event-id", "lasteventid", "cursor", "batchsize"])
async def test_a_name_in_the_url_that_is_not_known_is_refused(stack: Stack, name: str) -> None:
    made = await stack.create({"tokens": 3, "seed": 2})
    for path, more in ((made["events_url"], {}), ("/chat/stream", {"prompt": "x"})):
        answer = await stack.client.get(path, params={name: "1-0", **more})
        assert answer.status_code == 422
        assert [fault["field"] for fault in answer.json()["errors"]] == [name]
