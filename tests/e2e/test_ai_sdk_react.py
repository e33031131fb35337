"""The example app with `useChat` of `@ai-sdk/react` in a real Chromium: what a person sees is what was said."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page
from redis.asyncio import Redis

from shared.store.keys import Keys
from tests.support.ai_sdk import new_chat
from tests.support.example import react_examples, serving
from tests.support.page import note_complaints
from tests.support.processes import start_api
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

SCRIPT: dict[str, Any] = {"tokens": 60, "reasoning_tokens": 3, "interval_ms": 5, "seed": 4}
HELD: dict[str, Any] = {**SCRIPT, "hang_after": 20}
"""In its middle until the test lets it go on: however late a browser is, the answer has not ended before."""
WAIT_MS = 90_000
STATUS = "document.querySelector('.page')?.dataset.status"
SAID = (
    "[...document.querySelectorAll('article.assistant:last-of-type .text')].map(text => text.textContent).join('')"
)
LOST = ("ERR_", "status of 500")
"""What Chromium says of connections and servers that are away."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("react"), workers=2, LOCAL_CONTINUES="prefill") as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["ai 5", "ai 7"])
async def app_url(
    request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    with serving(react_examples()[request.param], stack.apis[0].url, tmp_path_factory.mktemp("vite")) as url:
        yield url


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, app_url: str) -> AsyncIterator[Page]:
    """The app, just opened. Every test also fails on what the browser complains of, but for lost connections."""
    complaints: list[str] = []
    context = await browser.new_context(viewport={"width": 900, "height": 720})
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    note_complaints(page, complaints)
    await page.goto(app_url)
    yield page
    await context.close()
    assert [text for text in complaints if not any(lost in text for lost in LOST)] == []


async def ask(page: Page, script: dict[str, Any]) -> None:
    await page.wait_for_function(f"() => {STATUS} === 'ready'")  # it asks for an answer on its way when it opens
    await page.fill("input", json.dumps(script))
    await page.press("input", "Enter")


async def until_said(page: Page, length: int = 20) -> str:
    await page.wait_for_function(f"length => {SAID}.length >= length", arg=length)
    return str(await page.evaluate(SAID))


async def until_ready(page: Page) -> str:
    """Wait until the answer is whole. Out: what the page shows of it."""
    await page.wait_for_selector("article.assistant:last-of-type footer")
    await page.wait_for_function(f"() => {STATUS} === 'ready'")
    return str(await page.evaluate(SAID))


async def test_a_reload_in_mid_answer_ends_with_the_exact_text(page: Page, stack: Stack) -> None:
    script = {**HELD, "name": new_chat()}
    await ask(page, script)
    before = await until_said(page)
    await page.reload()
    assert (await until_said(page)).startswith(before)
    stack.provider.release(script["name"])
    assert await until_ready(page) == script_text(script)
    assert await page.locator("article").count() == 2
    assert len(stack.calls(script["name"])) == 1
    # The whole answer is kept.
    await page.reload()
    assert await until_ready(page) == script_text(script)
    assert await page.locator("article").count() == 2


async def test_a_reload_at_once_finds_the_answer_that_was_just_asked_for(page: Page, stack: Stack) -> None:
    script = {**HELD, "name": new_chat()}
    async with page.expect_request("**/api/chat"):
        await ask(page, script)
    await asyncio.sleep(0.1)
    await page.reload()
    stack.provider.release(script["name"])
    assert await until_ready(page) == script_text(script)


async def test_an_answer_that_ended_while_the_page_was_away_is_there_when_it_comes_back(
    page: Page, stack: Stack
) -> None:
    script = {**SCRIPT, "name": new_chat()}
    async with page.expect_request("**/api/chat") as asked:
        await ask(page, script)
    request = await asked.value
    await asyncio.sleep(0.1)
    url = page.url
    await page.goto("about:blank")
    await stack.until_closed(script["name"])
    async with Redis.from_url(stack.server.url) as redis:
        stream_id = (await redis.get(Keys("headrace").chat("", json.loads(request.post_data or "")["id"]))).decode()
        await stack.until_status(stream_id, "done")
        meta = Keys("headrace").stream(stream_id).meta
        await redis.hset(meta, "finished_ms", int(await redis.hget(meta, "finished_ms")) - 600_000)
    await page.goto(url)
    assert await until_ready(page) == script_text(script)
    await page.reload()
    assert await until_ready(page) == script_text(script)
    assert await page.locator("article").count() == 2


async def test_stop_ends_the_generation(page: Page, stack: Stack) -> None:
    script = {**HELD, "name": new_chat()}
    await ask(page, script)
    await until_said(page)
    await page.click("text=Stop")
    await page.wait_for_selector("text=Send")
    assert (await stack.until_closed(script["name"])).closed_by == "client"
    shown = await page.evaluate(SAID)
    assert shown
    assert script_text(script).startswith(shown)
    await page.reload()
    await page.wait_for_function(f"text => {SAID} === text", arg=shown)
    await page.wait_for_function(f"() => {STATUS} === 'ready'")


async def test_a_tool_runs_in_the_browser_and_the_model_answers_to_it(page: Page, stack: Stack) -> None:
    script = {**SCRIPT, "name": new_chat(), "tool_call": True, "tool_call_times": 1}
    script["after_tool"] = {"hang_after": HELD["hang_after"]}
    await ask(page, script)
    await page.wait_for_selector('.tool[data-state="output-available"]')
    await until_said(page, len(script_text(script)) + 20)
    # The answer to the tool's output is resumed too, and what stood in front of it stays.
    await page.reload()
    await until_said(page, len(script_text(script)) + 20)
    stack.provider.release(script["name"])
    assert await until_ready(page) == 2 * script_text(script)
    assert await page.locator("article").count() == 2
    assert "mill" in await page.inner_text(".tool")
    _, second = stack.calls(script["name"])
    assert second.asked["tools"][0]["function"]["name"] == "look_up"
    assert json.loads(second.asked["messages"][-1]["content"])["notes"]
    assert len(stack.calls(script["name"])) == 2


async def test_a_lost_server_is_come_back_to(page: Page, stack: Stack) -> None:
    script = {**HELD, "name": new_chat()}
    await ask(page, script)
    await until_said(page)
    await asyncio.to_thread(stack.apis[-1].kill)
    try:
        await page.wait_for_selector("text=Coming back")
    finally:  # other tests need it
        port = int(stack.apis[0].url.rpartition(":")[2])
        again = await asyncio.to_thread(start_api, stack.env(), stack.directory, f"api-{new_chat()}", port)
        stack.apis.append(again)
    stack.provider.release(script["name"])
    assert await until_ready(page) == script_text(script)
    assert len(stack.calls(script["name"])) == 1


async def test_it_looks_well_on_a_phone_too(page: Page, tmp_path: Path) -> None:
    await ask(page, {**SCRIPT, "name": new_chat(), "tool_call": True, "tool_call_times": 1})
    await until_ready(page)
    await page.screenshot(path=str(tmp_path / "wide.png"))
    await page.set_viewport_size({"width": 360, "height": 640})
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    await page.screenshot(path=str(tmp_path / "phone.png"))
