"""A server that a proxy shows under a path: the page, its calls, and every link lead there."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.support.page import ask, note_complaints, wait_for_status
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """It stands under /ai, and believes a proxy on this machine."""
    settings = {"HEADRACE_ROOT_PATH": "/ai", "HEADRACE_TRUSTED_PROXIES": "127.0.0.0/8"}
    async with running_stack(tmp_path_factory.mktemp("prefix"), **settings) as stack:
        await stack.until_ready()
        yield stack


async def test_the_page_works_under_a_path(stack: Stack, browser: Browser) -> None:
    async with await browser.new_context() as context:
        page = await context.new_page()
        asked: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: asked.append(urlsplit(request.url).path))
        note_complaints(page, complaints)
        await page.goto(f"{stack.apis[0].url}/ai")
        assert urlsplit(page.url).path == "/ai/"
        await ask(page, '{"tokens": 40, "hang_after": 20, "name": "under a path"}')
        await wait_for_status(page, "streaming")
        await page.reload()
        await wait_for_status(page, "streaming")
        stack.provider.release("under a path")
        await wait_for_status(page, "done")
        assert [path for path in asked if path != "/ai" and not path.startswith("/ai/")] == []
        assert {path.split("/")[2] for path in asked if path.startswith("/ai/")} == {"", "static", "v1"}
        await page.goto(f"{stack.apis[0].url}/ai/docs")
        assert await page.evaluate("document.styleSheets[0].cssRules.length") > 3
        assert complaints == []


@pytest.mark.parametrize("path", ["/ai/v1/streams", "/v1/streams"])
async def test_every_link_leads_under_the_path_whether_the_proxy_takes_it_off_or_not(
    stack: Stack, path: str
) -> None:
    created = await stack.client.post(path, json={"prompt": "hi"})
    assert created.status_code == 202
    url = f"/ai/v1/streams/{created.json()['id']}"
    assert created.headers["location"] == url
    assert (created.json()["url"], created.json()["events_url"]) == (url, f"{url}/events")
    record = (await stack.client.get(url)).json()
    assert (record["url"], record["events_url"]) == (url, f"{url}/events")
    assert (await stack.client.post(f"{url}/token")).json()["events_url"] == f"{url}/events"
    assert (await stack.client.post(f"{url}/cancel")).json()["url"] == url
    assert "event: " in (await stack.client.get(f"{url}/events")).text


async def test_the_slash_is_added_without_any_host(stack: Stack) -> None:
    answer = await stack.client.get("/ai", headers={"Host": "127.0.0.1"})
    assert (answer.status_code, answer.headers["location"]) == (308, "/ai/")
    assert (await stack.client.get("/aix/healthz")).status_code == 404


async def test_a_trusted_proxy_names_the_path_of_a_request(stack: Stack) -> None:
    for said, prefix in [("/team/ai/", "/team/ai"), ("//evil.example", "/ai"), ("/a b", "/ai"), ("", "/ai")]:
        headers = {"X-Forwarded-Prefix": said}
        created = (await stack.client.post("/v1/streams", json={"prompt": "hi"}, headers=headers)).json()
        assert created["url"] == f"{prefix}/v1/streams/{created['id']}"


async def test_an_untrusted_proxy_names_no_path(tmp_path: Path) -> None:
    async with running_stack(tmp_path, HEADRACE_TRUSTED_PROXIES="192.0.2.0/24") as other:
        headers = {"X-Forwarded-Prefix": "/ai"}
        created = (await other.client.post("/v1/streams", json={"prompt": "hi"}, headers=headers)).json()
        assert created["url"] == f"/v1/streams/{created['id']}"
