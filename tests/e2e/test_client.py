"""The JavaScript client, in Node and in Chromium, by the same cases.

``tests/client/made_up.js`` needs no server; ``tests/client/live.js`` runs against real processes, of which this
file keeps a stack, kills and starts what a case wants, and says what the provider saw.
"""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route

from cli.up.sockets import free_port
from shared.config.api_keys import new_api_key
from tests.support.processes import ROOT, start_api
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLIENT = ROOT / "tests" / "client"
SECRET, ENTRY = new_api_key("reader")
NODE_S = 240.0


class Bench:
    """A stack, and the commands by which a case plays with it."""

    def __init__(self, stack: Stack, keyed_url: str) -> None:
        self.stack = stack
        self.where = {"baseUrl": stack.apis[0].url, "keyedUrl": keyed_url, "key": SECRET}

    async def control(self, command: str, argument: Any = None) -> Any:
        """What a case asks for. Out: JSON."""
        match command:
            case "restart_api":
                return await self._restart_api()
            case "text":
                return script_text(argument)
            case "calls":
                return len(self.stack.calls(argument))
            case "closed_by":
                return self.stack.calls(argument)[-1].closed_by
            case "release":
                return self.stack.provider.release(argument)
            case "nobody":
                return f"http://127.0.0.1:{free_port()}"
        raise ValueError(f"no command {command!r}")

    async def _restart_api(self) -> None:
        killed = self.stack.apis[0]
        port = int(killed.url.rpartition(":")[2])
        await asyncio.to_thread(killed.kill)
        again = await asyncio.to_thread(
            start_api, self.stack.env(), self.stack.directory, f"{killed.name}-again", port
        )
        self.stack.apis[0] = again


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    async with running_stack(tmp_path_factory.mktemp("stack"), HEADRACE_LOG_CAP="50") as stack:
        keyed = stack.env() | {
            "HEADRACE_API_KEYS": ENTRY,
            "HEADRACE_TOKEN_LIFE_S": "3",
            "HEADRACE_CORS_ORIGINS": stack.apis[0].url,
        }
        stack.apis.append(await asyncio.to_thread(start_api, keyed, stack.directory, "api-keyed"))
        yield Bench(stack, stack.apis[-1].url)


@contextlib.asynccontextmanager
async def control_server(bench: Bench) -> AsyncIterator[str]:
    """The commands over HTTP, for Node: POST ``[command, argument]``. Gives the URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = re.search(r"(?mi)^content-length: *(\d+)", head)
            assert length
            status, body = 200, b""
            try:
                result = await bench.control(*json.loads(await reader.readexactly(int(length[1]))))
                body = json.dumps(result).encode()
            except Exception as error:
                status, body = 500, repr(error).encode()
            writer.write(b"HTTP/1.1 %d x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
            writer.write(body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def run_node(node: Path, file: str, **env: str) -> str:
    """Run one file of tests. Out: what it printed; the test fails where one of them does."""
    process = await asyncio.create_subprocess_exec(
        str(node),
        "--test",
        "--test-reporter=spec",
        str(CLIENT / file),
        env={**os.environ, **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(NODE_S):
            said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said
    return said


async def test_the_client_meets_made_up_servers_in_node(node: Path) -> None:
    said = await run_node(node, "made_up.test.js")
    assert re.search(r"skipped 0\b", said), said


async def test_the_client_meets_real_processes_in_node(node: Path, bench: Bench) -> None:
    async with control_server(bench) as url:
        said = await run_node(node, "live.test.js", CLIENT_TEST=json.dumps({**bench.where, "CONTROL_URL": url}))
    assert re.search(r"skipped 0\b", said), said


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(browser: Browser, bench: Bench) -> AsyncIterator[Page]:
    """A page of the API's origin, without a policy, that sees the files of ``tests/client``.

    It comes from the server itself: Chromium lets no made-up page ask another loopback address.
    """

    async def serve(route: Route) -> None:
        await route.fulfill(path=CLIENT / route.request.url.rpartition("/")[2], content_type="text/javascript")

    page = await browser.new_page()
    await page.route("**/client-tests/**", serve)
    await page.expose_function("control", bench.control)
    await page.goto(bench.where["baseUrl"] + "/healthz")
    yield page
    await page.close()


RUN = """async ([file, where]) => {
    const client = await import("/static/headrace.js");
    const { alone = [], cases } = await import(`/client-tests/${file}`);
    const live = { client, control: window.control, run: "chromium", ...where };
    const bad = [];
    const one = ([name, run]) => {
        const late = new Promise((_, fail) => setTimeout(() => fail(new Error("took too long")), 120_000));
        const running = Promise.race([run(file === "live.js" ? live : client), late]);
        return running.catch((error) => bad.push(`${name}: ${error.message}`));
    };
    for (const each of alone) await one(each);
    await Promise.all(cases.map(one));
    return [alone.length + cases.length, bad];
}"""


@pytest.mark.parametrize("file", ["made_up.js", "live.js"])
async def test_the_client_does_the_same_in_chromium(page: Page, bench: Bench, file: str) -> None:
    count, bad = await page.evaluate(RUN, [file, bench.where])
    assert bad == []
    assert count >= 10
