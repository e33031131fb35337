"""The code of docs/ai-sdk.md, as it stands there, in a real Chromium against real processes."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from api.dialects.endings import PARTING_TEXT
from tests.support.ai_sdk import new_chat
from tests.support.documents import blocks, document
from tests.support.example import react_examples, serving
from tests.support.page import open_browser
from tests.support.script import script_text
from tests.support.stack import running_stack

_, LOST = blocks(document("docs/ai-sdk.md"), "jsx")
SLOW: Final[dict[str, Any]] = {"tokens": 80, "interval_ms": 40, "seed": 4}
SAID = "document.querySelector('p.assistant:last-of-type')?.textContent"


def test_it_says_what_a_connection_says_that_ends_before_its_answer() -> None:
    said = LOST.partition('startsWith("')[2].partition('"')[0]
    assert said
    assert PARTING_TEXT.startswith(said)
    assert said in (Path(__file__).parents[2] / "examples/ai-sdk-react/src/App.jsx").read_text(encoding="utf-8")


@pytest.mark.timeout(300)
async def test_the_app_of_the_page_resumes_and_stops(tmp_path: Path, chromium: Path) -> None:
    async with running_stack(tmp_path, workers=2) as stack, open_browser(chromium) as browser:
        with serving(react_examples()["page"], stack.apis[0].url, tmp_path) as url:
            page = await browser.new_page()
            await page.goto(url)
            script = {**SLOW, "name": new_chat()}
            await page.fill("input", json.dumps(script))
            await page.click("text=Ask")
            await page.wait_for_function(f"() => ({SAID} ?? '').length > 20")
            await page.reload()
            await page.wait_for_function(f"text => {SAID} === text", arg=script_text(script))
            stopped = {**SLOW, "tokens": 300, "name": new_chat()}
            await page.fill("input", json.dumps(stopped))
            await page.click("text=Ask")
            await page.wait_for_selector("text=Stop")
            await page.wait_for_function(f"text => {SAID} && !text.startsWith({SAID})", arg=script_text(script))
            await page.click("text=Stop")
            await page.wait_for_selector("text=Ask")
            assert (await stack.until_closed(stopped["name"])).closed_by == "client"
