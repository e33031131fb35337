"""The page behind a key, in a real Chromium: it asks, keeps what it was told to keep, and reads by token."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

from shared.config.api_keys import new_api_key
from tests.support.page import LAST, ask, wait_for_models, wait_for_status
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET, ENTRY = new_api_key("reader")
SCRIPT = {"tokens": 60, "interval_ms": 5, "seed": 11, "hang_after": 30, "name": "behind a key"}
WAIT_MS = 90_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Its tokens live for a second: whatever the page still needs it must renew."""
    async with running_stack(
        tmp_path_factory.mktemp("keys"), HEADRACE_API_KEYS=ENTRY, HEADRACE_TOKEN_LIFE_S="1"
    ) as stack:
        stack.client.headers["Authorization"] = f"Bearer {SECRET}"
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    async with await browser.new_context() as context:
        context.set_default_timeout(WAIT_MS)
        yield context


async def open_page(context: BrowserContext, stack: Stack) -> Page:
    page = await context.new_page()
    await page.goto(stack.apis[0].url)
    return page


async def enter(page: Page, secret: str, *, remember: bool = False) -> None:
    await page.wait_for_selector("#key[open]")
    await page.fill("#key-secret", secret)
    if remember:
        await page.check("#key-remember")
    await page.click("#key [type=submit]")


async def kept(page: Page, storage: str) -> str | None:
    value: str | None = await page.evaluate(f"{storage}.getItem('headrace:key')")
    return value


async def test_the_page_asks_for_the_key_until_it_is_right(context: BrowserContext, stack: Stack) -> None:
    page = await open_page(context, stack)
    await page.wait_for_selector("#key[open]")
    assert not await page.is_visible("#key-refused")
    await page.keyboard.press("Escape")
    await page.keyboard.press("Escape")
    await enter(page, "hr_wrong")
    await page.wait_for_selector("#key-refused:not([hidden])")
    await enter(page, SECRET)
    await wait_for_models(page)
    assert not await page.is_visible("#key")
    assert (await kept(page, "sessionStorage"), await kept(page, "localStorage")) == (SECRET, None)
    other = await open_page(context, stack)
    await other.wait_for_selector("#key[open]")


async def test_a_remembered_key_is_there_in_a_new_tab_until_it_is_forgotten(
    context: BrowserContext, stack: Stack
) -> None:
    page = await open_page(context, stack)
    await enter(page, SECRET, remember=True)
    await wait_for_models(page)
    other = await open_page(context, stack)
    await wait_for_models(other)
    assert not await other.is_visible("#key")
    await other.click("#forget")
    await other.wait_for_selector("#key[open]")
    assert await kept(other, "localStorage") is None


async def test_an_answer_behind_a_key_survives_a_reload_with_expired_tokens(
    context: BrowserContext, stack: Stack
) -> None:
    page = await open_page(context, stack)
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    await enter(page, SECRET)
    await wait_for_models(page)
    await ask(page, json.dumps(SCRIPT))
    await page.wait_for_function(f"() => {LAST}?.rawText?.length > 40")
    await page.wait_for_timeout(1_200)
    await page.reload()
    await wait_for_status(page, "streaming")
    stack.provider.release("behind a key")
    await wait_for_status(page, "done")
    assert await page.evaluate(f"{LAST}.rawText") == script_text(SCRIPT)
    assert len([url for url in urls if "/events" in url]) >= 2
    assert not [url for url in urls if SECRET in url or "token=" in url], "the page reads by its key, in a header"
