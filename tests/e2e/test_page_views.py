"""The page in a real Chromium, before real processes and a scripted provider.

Several conversations and tabs, phones, input methods, a browser that keeps nothing, what a question is sent with.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, Route

from tests.support.page import LAST, ask, note_complaints, wait_for_models, wait_for_status
from tests.support.script import script_text
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"width": 390, "height": 844}
SHORT = json.dumps({"tokens": 8, "seed": 3})
SLOW = json.dumps({"tokens": 400, "interval_ms": 50, "seed": 4})
LATE_S = 0.6
TURNS = """() => [...document.querySelectorAll('.turn')].map((turn) => [
    turn.querySelector('.bubble').textContent, turn.querySelector('.answer').dataset.status])"""
WAIT_MS = 90_000


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("page")) as stack:
        await stack.until_ready()
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context()
    context.set_default_timeout(WAIT_MS)
    yield context
    await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext, stack: Stack) -> AsyncIterator[Page]:
    """The page, just opened. Every test also fails on what the browser complains of."""
    complaints: list[str] = []
    page = await context.new_page()
    note_complaints(page, complaints)
    await open_page(page, stack)
    yield page
    await page.unroute_all(behavior="wait")  # an answer that is held back is not given to a page that is gone
    assert complaints == []


async def open_page(page: Page, stack: Stack) -> None:
    await page.goto(stack.apis[0].url)
    await wait_for_models(page)


async def answered(page: Page, question: str) -> None:
    count = await page.locator(".turn").count()
    await ask(page, question)
    await page.wait_for_function("count => document.querySelectorAll('.turn').length > count", arg=count)
    await wait_for_status(page, "done")


async def delay(page: Page, pattern: str) -> asyncio.Event:
    """Hold back these calls' answers. Out: set once one was given to the page."""
    told = asyncio.Event()

    async def later(route: Route) -> None:
        response = await route.fetch()
        await asyncio.sleep(LATE_S)
        await route.fulfill(response=response)
        told.set()

    await page.route(pattern, later)
    return told


async def turns(page: Page) -> list[list[str]]:
    found: list[list[str]] = await page.evaluate(TURNS)
    return found


# --- conversations and tabs -----------------------------------------------------------------------------------


async def test_a_late_answer_to_a_create_stays_in_its_conversation(page: Page) -> None:
    told = await delay(page, "**/v1/streams")
    await ask(page, SHORT)
    await page.wait_for_selector(".turn")
    await page.click("#new")
    await told.wait()
    await page.wait_for_timeout(400)
    assert await turns(page) == []
    assert await page.inner_text("#title") == "New chat"
    await page.click("#chats a")
    await wait_for_status(page, "done")
    assert await page.evaluate(f"{LAST}.rawText") == script_text(json.loads(SHORT))
    assert len(await turns(page)) == 1


async def test_a_refused_create_says_nothing_in_another_conversation(page: Page) -> None:
    answer = asyncio.Event()

    async def refuse(route: Route) -> None:
        await answer.wait()
        await route.fulfill(status=200, body="no JSON")

    await page.route("**/v1/streams", refuse)
    await ask(page, SHORT)
    await page.wait_for_selector(".turn")
    await page.click("#new")
    answer.set()
    await page.wait_for_timeout(400)
    assert await turns(page) == []
    await page.unroute("**/v1/streams")
    await page.click("#chats a")  # it is sent again, under the same key
    await wait_for_status(page, "done")


async def test_a_late_record_changes_nothing_in_another_conversation(page: Page) -> None:
    await answered(page, SHORT)
    await page.click("#new")
    await answered(page, json.dumps({"tokens": 5, "seed": 9}))
    told = await delay(page, "**/v1/streams/*")
    before = await turns(page)
    await page.click("#chats li:nth-child(2) a")
    await page.wait_for_function("() => document.querySelector('#chats li:nth-child(2) a[aria-current]')")
    await page.click("#chats li:nth-child(1) a")
    await told.wait()
    await page.wait_for_timeout(400)
    assert await turns(page) == before
    assert await page.evaluate(f"{LAST}.rawText") == script_text({"tokens": 5, "seed": 9})


async def test_two_tabs_that_ask_at_once_keep_both_questions(page: Page, context: BrowserContext) -> None:
    await answered(page, SHORT)
    other = await context.new_page()
    await other.goto(page.url)
    await wait_for_status(other, "done")
    questions = [json.dumps({"tokens": 6, "seed": seed}) for seed in (21, 22)]
    for tab, question in zip((page, other), questions, strict=True):
        await tab.fill("#prompt", question)
    submit = "document.querySelector('#composer').requestSubmit()"
    await asyncio.gather(page.evaluate(submit), other.evaluate(submit))
    for tab in (page, other):
        await tab.wait_for_function(
            "() => document.querySelectorAll('.answer[data-status=done]').length === 3", timeout=WAIT_MS
        )
        await tab.reload()
        await tab.wait_for_function("() => document.querySelectorAll('.answer[data-status=done]').length === 3")
        asked = [question for question, _ in await turns(tab)]
        assert asked[0] == SHORT
        assert sorted(asked[1:]) == sorted(questions)
    await other.close()


async def test_a_conversation_that_another_tab_deletes_is_closed_here(page: Page, context: BrowserContext) -> None:
    await answered(page, SHORT)
    other = await context.new_page()
    await other.goto(page.url)
    await other.hover("#chats li")
    for _ in range(2):
        await other.click("#chats [data-action=delete]")
    await page.wait_for_function("() => !document.querySelector('.turn')")
    await page.reload()
    assert await turns(page) == []
    await other.close()


async def test_the_draft_survives_a_reload_and_stays_with_its_conversation(page: Page) -> None:
    await page.fill("#prompt", "half a thought")
    await page.reload()
    assert await page.input_value("#prompt") == "half a thought"
    await answered(page, SHORT)
    assert await page.input_value("#prompt") == ""
    await page.fill("#prompt", "and more")
    await page.click("#new")
    assert await page.input_value("#prompt") == ""
    await page.click("#chats a")
    assert await page.input_value("#prompt") == "and more"


# --- a phone, and input methods -------------------------------------------------------------------------------


async def test_a_phone_shows_all_of_the_page_and_the_dialogs(browser: Browser, stack: Stack) -> None:
    context = await browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True)
    page = await context.new_page()
    await open_page(page, stack)
    await answered(page, json.dumps({"text": "| a | b |\n|---|---|\n| " + "word " * 60 + "| 1 |\n\n" + "x" * 300}))
    for shown in ("", "#key", "#instructions"):
        if shown:
            await page.evaluate(f"document.querySelector('{shown}').showModal()")
            await page.set_viewport_size({"width": 390, "height": 320})  # a keyboard takes the rest
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        for part in ("#composer", "#send", shown):
            box = await page.locator(part).bounding_box() if part else None
            if box:
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 390
        if shown:
            box = await page.locator(shown).bounding_box()
            assert box is not None
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= 320
            await page.evaluate(f"document.querySelector('{shown} [type=submit]').scrollIntoView()")
            button = await page.locator(f"{shown} [type=submit]").bounding_box()
            assert button is not None
            assert button["y"] + button["height"] <= 320
    await page.evaluate(f"{LAST}.querySelector('.model').textContent = 'long-'.repeat(20)")
    await page.evaluate(f"{LAST}.querySelector('.status').textContent = 'Waiting for its turn'")
    header = await page.locator(".turn:last-child .answer > header").bounding_box()
    assert header is not None
    assert header["height"] < 30, "more than a line"
    sizes = "all => all.map((field) => [field.id, Number.parseFloat(getComputedStyle(field).fontSize)])"
    fields = "textarea, select, input:not([type=checkbox], [type=range], [type=file])"
    small = [name for name, size in await page.eval_on_selector_all(fields, sizes) if size < 16]
    assert small == [], "iOS enlarges the page for these"
    await context.close()


KEY = """([selector, init]) => document.querySelector(selector).dispatchEvent(
    new KeyboardEvent('keydown', { bubbles: true, cancelable: true, ...init }))"""


async def test_the_keys_of_an_input_method_send_and_stop_nothing(page: Page) -> None:
    composing: list[dict[str, Any]] = [{"isComposing": True}, {"keyCode": 229}]
    await page.fill("#prompt", SLOW)
    for init in composing:
        assert await page.evaluate(KEY, ["#prompt", {"key": "Enter", **init}]), "its default was prevented"
    assert await turns(page) == []
    assert await page.input_value("#prompt") == SLOW
    await page.press("#prompt", "Enter")
    await wait_for_status(page, "streaming")
    for init in composing:
        await page.evaluate(KEY, ["#prompt", {"key": "Escape", **init}])
    await page.wait_for_timeout(300)
    assert (await turns(page))[0][1] == "streaming"
    await page.press("#prompt", "Escape")
    await wait_for_status(page, "cancelled")


# --- what the browser keeps -------------------------------------------------------------------------------------


DENY = """() => {
    const get = () => { throw new DOMException("Access is denied for this document.", "SecurityError"); };
    for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(window, name, { get });
}"""


async def test_a_browser_that_keeps_nothing_is_told_and_works(browser: Browser, stack: Stack) -> None:
    """As in a Chromium whose settings let no site store anything: then even to read ``localStorage`` raises."""
    context = await browser.new_context()
    await context.add_init_script(f"({DENY})()")
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    await open_page(page, stack)
    assert "keep nothing" in await page.inner_text("#notice")
    await answered(page, SHORT)
    await answered(page, SHORT)
    await page.click("#new")
    await page.click("#chats a")
    await page.wait_for_function("() => document.querySelectorAll('.turn').length === 2")
    assert errors == []
    await context.close()


FILL = """() => {
    for (let size = 1 << 20; size >= 1; size >>= 1) {
        for (let at = 0; ; at += 1) {
            try { localStorage.setItem(`other:${size}:${at}`, "x".repeat(size)); } catch { break; }
        }
    }
}"""


EMPTY = """() => {
    for (const name of Object.keys(localStorage)) if (name.startsWith("other:")) localStorage.removeItem(name);
}"""


async def test_a_full_storage_loses_no_answer_and_says_what_is_not_kept(page: Page) -> None:
    assert await page.is_hidden("#notice")
    await page.evaluate(FILL)
    await answered(page, SHORT)
    assert "storage is full" in await page.inner_text("#notice")
    await answered(page, SHORT)
    assert len(await turns(page)) == 2
    await page.evaluate(EMPTY)
    await answered(page, SHORT)  # now all three are kept
    assert await page.is_hidden("#notice")
    await page.reload()
    await wait_for_status(page, "done")
    assert len(await turns(page)) == 3


# --- what goes along with a question ----------------------------------------------------------------------------


async def body_of(page: Page, question: str) -> dict[str, Any]:
    """Ask, and wait for the answer. Out: the body of the create call."""
    async with page.expect_request("**/v1/streams") as asked:
        await answered(page, question)
    body = (await asked.value).post_data_json
    assert isinstance(body, dict)
    return body


async def test_the_page_says_what_is_cut_from_the_context(page: Page) -> None:
    for seed in range(3):
        await answered(page, json.dumps({"text": f"{seed}" + "x" * 2_500}))
    assert await page.is_hidden(".turn:last-child .cut")
    body = await body_of(page, SHORT)
    texts = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
    assert [text[0] for text in texts] == ["1", "2"]
    assert "an earlier question" in await page.inner_text(".turn:last-child .cut")
    await page.reload()
    await wait_for_status(page, "done")
    assert await page.is_visible(".turn:last-child .cut")


async def test_a_system_prompt_and_a_temperature_are_sent_and_kept(page: Page) -> None:
    assert "temperature" not in await body_of(page, SHORT)
    await page.click("#instruct")
    await page.fill("#system", "Be short.")
    await page.check("#warm")
    await page.fill("#temperature", "0.3")
    submitted = "document.querySelector('#instructions [type=submit]').click()"
    kept = await page.evaluate(f"() => {{ {submitted}; return JSON.stringify(localStorage) }}")
    assert "Be short." in kept, "a reload may come in the next moment"
    await page.reload()
    await page.wait_for_selector(".turn")
    body = await body_of(page, SHORT)
    assert body["messages"][0] == {"role": "system", "content": "Be short."}
    assert body["temperature"] == 0.3
    await page.click("#new")
    body = await body_of(page, SHORT)
    assert [message["role"] for message in body["messages"]] == ["user"]


PICTURE = """() => {
    const canvas = document.createElement("canvas");
    canvas.width = 1600; canvas.height = 900;
    const context = canvas.getContext("2d");
    const noise = context.createImageData(1600, 900);
    for (let at = 0; at < noise.data.length; at += 1) noise.data[at] = at % 4 === 3 ? 255 : Math.random() * 255;
    context.putImageData(noise, 0, 0);
    return canvas.toDataURL("image/png").split(",")[1];
}"""


async def test_an_image_goes_along_small_enough_and_is_shown(page: Page) -> None:
    picture = base64.b64decode(await page.evaluate(PICTURE))
    assert len(picture) > 1_000_000
    await page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": picture})
    await page.wait_for_selector("#images canvas")
    await page.reload()  # a draft's image is kept, too
    await page.wait_for_selector("#images canvas")
    body = await body_of(page, SHORT)
    text, image = body["messages"][0]["content"]
    assert text == {"type": "text", "text": SHORT}
    assert (image["type"], image["media_type"]) == ("image", "image/jpeg")
    assert len(image["data"]) < 80_000
    assert await page.is_hidden("#images")
    assert await page.locator(".question canvas").count() == 1
    await page.wait_for_function("() => document.querySelector('.question canvas').width > 300")
    again = await body_of(page, SHORT)
    assert again["messages"][0]["content"][1] == image, "the next question's context has it"


async def test_a_question_waits_for_its_image_and_no_other_gets_it(page: Page) -> None:
    picture = base64.b64decode(await page.evaluate(PICTURE))
    file: Any = {"name": "a.png", "mimeType": "image/png", "buffer": picture}
    slowly = """() => {
        const real = window.createImageBitmap;
        window.createImageBitmap = (...what) => new Promise((go) => setTimeout(go, 800)).then(() => real(...what));
    }"""
    await page.evaluate(slowly)
    await page.fill("#prompt", SHORT)
    await page.set_input_files("#file", file)
    await page.press("#prompt", "Enter")
    assert await page.is_disabled("#send")
    assert await turns(page) == []
    await page.wait_for_selector("#images canvas")
    body = await body_of(page, SHORT)
    assert [part["type"] for part in body["messages"][0]["content"]] == ["text", "image"]
    await page.set_input_files("#file", file)
    await page.click("#new")
    await page.wait_for_timeout(1_200)
    assert await page.is_hidden("#images")
    await page.fill("#prompt", "next")
    assert await page.is_enabled("#send")


# --- what can be read -----------------------------------------------------------------------------------------

CONTRASTS = """() => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const over = (colors) => {
        pen.clearRect(0, 0, 1, 1);
        for (const color of colors) { pen.fillStyle = color; pen.fillRect(0, 0, 1, 1); }
        return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
    };
    const light = (rgb) => {
        const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = rgb.map((value) => linear(value / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (a, b) => {
        const [x, y] = [light(a), light(b)].sort((m, n) => n - m);
        return (x + 0.05) / (y + 0.05);
    };
    const found = [];
    for (const node of document.querySelectorAll("body *")) {
        const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        if (!hasText && !node.matches("textarea")) continue;
        if (!node.checkVisibility({ visibilityProperty: true })) continue;
        if (node.closest(":disabled, .unseen, .skip")) continue;
        const behind = [];
        for (let at = node; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
        const parts = [undefined, ...(node.placeholder ? ["::placeholder"] : [])];
        for (const style of parts.map((part) => getComputedStyle(node, part))) {
            const size = Number.parseFloat(style.fontSize);
            const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
            const got = ratio(over([...behind, style.color]), over(behind));
            found.push([node.tagName + "." + node.className + "#" + node.id, got, isLarge ? 3 : 4.5]);
        }
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_has_contrast(browser: Browser, stack: Stack, scheme: Any) -> None:
    context = await browser.new_context(color_scheme=scheme)
    page = await context.new_page()
    await open_page(page, stack)
    empty = await page.evaluate(CONTRASTS)
    code = (
        '```python\n# why\ndef f(): return "a" + 1\n```\n> quote ~~no~~ [a](https://x.example)\n\n<b>\n\n[^1]: note'
    )
    await answered(page, json.dumps({"text": code, "reasoning_tokens": 3, "tool_call": True}))
    await ask(page, json.dumps({"status": 400, "body": "no"}))
    await page.wait_for_function("() => document.querySelectorAll('.turn').length === 2")
    await wait_for_status(page, "failed")
    await page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = [*empty, *await page.evaluate(CONTRASTS)]
    await page.click("#instruct")
    found += await page.evaluate(CONTRASTS)
    assert len(found) > 60
    assert [(name, round(got, 2)) for name, got, least in found if got < least] == []
    await context.close()
