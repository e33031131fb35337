"""The page in a real Chromium: how it is started, and the words in which tests look at it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-quic",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
LAST = "document.querySelector('.turn:last-child .answer')"


@asynccontextmanager
async def open_browser(chromium: Path) -> AsyncIterator[Browser]:
    """Chromium, without a window, until the block ends."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=str(chromium), args=FLAGS)
        yield browser
        await browser.close()


async def ask(page: Page, question: str) -> None:
    """Write a question, and send it."""
    await page.fill("#prompt", question)
    await page.press("#prompt", "Enter")


async def wait_for_status(page: Page, *statuses: str) -> None:
    """Wait until the last answer has one of these."""
    script = f"wanted => wanted.includes({LAST}?.dataset.status)"
    await page.wait_for_function(script, arg=list(statuses))


async def wait_for_models(page: Page) -> None:
    """Wait until the page knows which models there are."""
    await page.wait_for_function("() => document.querySelector('#model').options.length > 0")


def note_complaints(page: Page, complaints: list[str]) -> None:
    """Add what the browser complains of: console errors (refusals by the CSP are such) and exceptions."""
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
