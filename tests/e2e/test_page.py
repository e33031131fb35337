"""The page at `/` in a real Chromium: what a person sees must be what the record says.

A test that asks for `headrace_url` talks to the real model there; the others to a scripted provider, or to answers
in the server's place (by `page.route`): a restart, a snapshot, Markdown made of traps.
"""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route

from tests.support.page import LAST, ask, note_complaints, wait_for_models, wait_for_status
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.asyncio(loop_scope="session")

STORY = "Write a long story about a river and a mill, in many chapters."
LONG: dict[str, Any] = {"tokens": 200, "interval_ms": 5, "hang_after": 60}
"""In its middle until the test lets it go on, or stops it: however late a browser is, it has not ended before."""
SHORT = json.dumps({"tokens": 8})
MAX_TOKENS = 40  # long enough to be cut in the middle; left alone, a small model may never come to an end
WAIT_MS = 90_000  # one slow thread of a small model, on a machine that is busy with other tests
OFFLINE = "ERR_INTERNET_DISCONNECTED"


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained of."""
    return []


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(tmp_path_factory.mktemp("page")) as stack:
        await stack.until_ready()
        yield stack


@pytest.fixture
def url(request: pytest.FixtureRequest, stack: Stack) -> str:
    """Where the page of this test is."""
    wants_model = "headrace_url" in request.fixturenames
    return str(request.getfixturevalue("headrace_url")) if wants_model else stack.apis[0].url


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser, url: str, complaints: list[str]) -> AsyncIterator[Page]:
    """The page, just opened. Every test also fails on a complaint, but for those of a pulled network."""
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(WAIT_MS)
    note_complaints(page, complaints)
    await page.route("**/v1/streams", bound_answer)
    await page.goto(url)
    yield page
    await context.close()
    assert [text for text in complaints if OFFLINE not in text] == []


async def bound_answer(route: Route) -> None:
    body: dict[str, Any] = route.request.post_data_json or {}
    await route.continue_(post_data=json.dumps({**body, "max_tokens": MAX_TOKENS}))


async def wait_for_text(page: Page, length: int) -> str:
    """Wait until the answer is under way and that long. Out: its text at that moment."""
    script = f"() => {LAST}?.dataset.status === 'streaming' && {LAST}.rawText.length >= {length}"
    await page.wait_for_function(script)
    return str(await page.evaluate(f"{LAST}.rawText"))


async def raw_text(page: Page) -> str:
    return str(await page.evaluate(f"{LAST}.rawText"))


async def record_of(page: Page, url: str) -> dict[str, Any]:
    stream_id = await page.get_attribute(".turn:last-child .answer", "data-stream-id")
    response = await page.request.get(f"{url.rstrip('/')}/v1/streams/{stream_id}")
    assert response.ok, await response.text()
    record: dict[str, Any] = await response.json()
    return record


async def test_a_reload_in_mid_answer_ends_with_the_text_of_the_record(page: Page, headrace_url: str) -> None:
    await ask(page, STORY)
    before = await wait_for_text(page, 60)
    await page.reload()
    await wait_for_status(page, "done")
    record = await record_of(page, headrace_url)
    assert record["status"] == "done"
    assert await raw_text(page) == record["text"]
    assert record["text"].startswith(before)
    assert len(record["text"]) > len(before), "the answer was complete before the reload: nothing was tested"
    assert (await page.inner_text(".prose")).strip()

    await page.reload()
    await wait_for_status(page, "done")
    assert await raw_text(page) == record["text"]


async def test_an_answer_is_not_wider_than_a_phone(page: Page) -> None:
    await page.set_viewport_size({"width": 360, "height": 640})
    await ask(page, json.dumps({"text": "word " * 60 + "x" * 306, "hang_after": 110}))
    await wait_for_text(page, 600)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    right = "Math.max(...[...document.querySelectorAll('main *')].map(e => e.getBoundingClientRect().right))"
    assert await page.evaluate(right) <= 361
    await page.click("#stop")


async def test_the_stop_button_cancels_the_stream(page: Page, url: str) -> None:
    await ask(page, json.dumps(LONG))
    await wait_for_text(page, 60)
    await page.click("#stop")
    await wait_for_status(page, "cancelled")
    record = await record_of(page, url)
    assert record["status"] == "cancelled"
    assert await raw_text(page) == record["text"]
    assert await page.is_visible("#send")


async def test_a_pulled_network_loses_nothing(page: Page, url: str, stack: Stack) -> None:
    await ask(page, json.dumps({**LONG, "name": "pulled"}))
    before = await wait_for_text(page, 60)
    await page.context.set_offline(True)
    await wait_for_status(page, "reconnecting")
    stack.provider.release("pulled")
    await page.context.set_offline(False)
    await wait_for_status(page, "done")
    record = await record_of(page, url)
    assert await raw_text(page) == record["text"]
    assert record["text"].startswith(before)


async def test_a_question_asked_offline_is_kept_and_sent_later(page: Page, url: str) -> None:
    await page.context.set_offline(True)
    await ask(page, SHORT)
    await wait_for_status(page, "unsent")
    assert "offline" in await page.inner_text(".problem")
    await page.context.set_offline(False)
    await wait_for_status(page, "done")
    assert await raw_text(page) == (await record_of(page, url))["text"]


async def test_a_stop_right_behind_the_question_stops(page: Page) -> None:
    await ask(page, json.dumps(LONG))
    await page.click("#stop")
    await wait_for_status(page, "cancelled")


async def test_sending_twice_at_once_makes_one_stream(page: Page) -> None:
    posts: list[str | None] = []
    page.on("request", lambda r: posts.append(r.headers.get("idempotency-key")) if r.method == "POST" else None)
    await page.fill("#prompt", json.dumps(LONG))
    await page.dblclick("#send")
    await wait_for_text(page, 1)
    assert len(posts) == 1
    assert posts[0]
    assert await page.locator(".turn").count() == 1
    await page.click("#stop")
    await wait_for_status(page, "cancelled")


async def test_a_stream_that_was_erased_is_shown_as_expired(page: Page, url: str, complaints: list[str]) -> None:
    await ask(page, json.dumps(LONG))
    await wait_for_text(page, 20)
    await page.click("#stop")
    await wait_for_status(page, "cancelled")
    stream_id = (await record_of(page, url))["id"]
    await page.request.delete(f"{url.rstrip('/')}/v1/streams/{stream_id}")
    await page.reload()
    await wait_for_status(page, "expired")
    assert await page.is_visible(".again")
    # The browser itself reports the 404 that this test is about, and nothing else.
    assert [text for text in complaints if "404" not in text] == []
    complaints.clear()


async def test_the_page_is_under_a_policy_and_fits_a_small_phone(page: Page, url: str) -> None:
    response = await page.goto(url)
    assert response is not None
    assert "default-src 'self'" in response.headers["content-security-policy"]
    await page.set_viewport_size({"width": 360, "height": 640})
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    box = await page.locator("#composer").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 640


# --- with a server of this file's own -----------------------------------------------------------------------


def sse(*events: tuple[str, str, dict[str, Any]]) -> str:
    """Events `(id, type, data)` as an SSE body that ends there, and asks for a quick return."""
    lines = ["retry: 100\n\n"]
    for cursor, kind, data in events:
        name = "" if kind == "message" else f"event: {kind}\n"
        lines.append(f"id: {cursor}\n{name}data: {json.dumps(data)}\n\n")
    return "".join(lines)


DONE = {"finish_reason": "stop", "usage": None, "timings": {"queued_ms": 1, "first_token_ms": 2, "total_ms": 3}}


async def serve(page: Page, answers: list[tuple[int, str]], record: dict[str, Any]) -> list[str]:
    """Answer in the server's place: each viewer gets the next `(status, body)`. Out: the cursors, as they come."""
    cursors: list[str] = []

    async def on_create(route: Route) -> None:
        created = {"id": "s1", "status": "queued", "model": "m/m", "events_url": "/v1/streams/s1/events"}
        await route.fulfill(status=202, json=created)

    async def on_events(route: Route) -> None:
        cursors.append(route.request.headers.get("last-event-id", ""))
        status, body = answers[len(cursors) - 1]
        await route.fulfill(status=status, content_type="text/event-stream", body=body)

    async def on_record(route: Route) -> None:
        await route.fulfill(json={"id": "s1", "model": "m/m", **record})

    await page.route("**/v1/streams", on_create)
    await page.route("**/v1/streams/s1", on_record)
    await page.route("**/v1/streams/s1/events*", on_events)
    return cursors


async def test_a_restart_drops_the_partial_text(page: Page) -> None:
    answers = [
        (200, sse(("1-0", "started", {"attempt": 1}), ("1-1", "message", {"text": "wrong, "}))),
        (200, sse(("1-2", "message", {"text": "and more"}), ("2-0", "restart", {"attempt": 2}))),
        (200, sse(("2-1", "message", {"text": "right"}), ("2-2", "done", DONE))),
    ]
    await serve(page, answers, {"status": "done", "text": "right"})
    await ask(page, "Hello?")
    await wait_for_status(page, "done")
    assert await raw_text(page) == "right"
    assert (await page.inner_text(".prose")).strip() == "right"


async def test_a_snapshot_replaces_what_was_there(page: Page) -> None:
    answers = [
        (200, sse(("1-0", "started", {"attempt": 1}), ("1-1", "message", {"text": "One tw"}))),
        (200, sse(("1-9", "snapshot", {"text": "One two three"}), ("1-10", "message", {"text": " four"}))),
        (200, sse(("1-11", "done", DONE))),
    ]
    await serve(page, answers, {"status": "done", "text": "One two three four"})
    await ask(page, "Count!")
    await wait_for_status(page, "done")
    assert await raw_text(page) == "One two three four"


async def test_the_page_comes_back_with_its_cursor_after_a_refusal(page: Page, complaints: list[str]) -> None:
    answers = [
        (200, sse(("1-0", "started", {"attempt": 1}), ("1-1", "message", {"text": "a"}))),
        (503, ""),
        (200, sse(("1-2", "message", {"text": "b"}), ("1-3", "done", DONE))),
    ]
    cursors = await serve(page, answers, {"status": "running", "text": "a"})
    await ask(page, "Hello?")
    await wait_for_status(page, "done")
    assert cursors == ["", "1-1", "1-1"]
    assert await raw_text(page) == "ab"
    assert [text for text in complaints if "503" not in text] == []
    complaints.clear()


async def test_a_failure_shows_its_message_and_a_way_on(page: Page) -> None:
    failed: dict[str, Any] = {
        "code": "provider_cut",
        "message": "The provider closed the connection.",
        "retryable": True,
    }
    body = sse(("1-0", "started", {"attempt": 1}), ("1-1", "failed", failed))
    await serve(page, [(200, body)], {"status": "failed", "text": "", "error": failed})
    await ask(page, "Hello?")
    await wait_for_status(page, "failed")
    assert failed["message"] in await page.inner_text(".problem")
    assert await page.is_visible(".again")


async def offer(page: Page, *ids: str, usual: str) -> None:
    """Show the page with these models."""

    async def on_models(route: Route) -> None:
        models = [{"id": name, "provider": name.partition("/")[0]} for name in ids]
        await route.fulfill(json={"default": usual, "models": models})

    await page.route("**/v1/models", on_models)
    await page.reload()
    await wait_for_models(page)


async def asked_model(page: Page, question: str) -> Any:
    """Ask. Out: the model that the create call named."""
    async with page.expect_request("**/v1/streams") as asked:
        await ask(page, question)
    body = (await asked.value).post_data_json
    assert isinstance(body, dict)
    return body.get("model")


async def test_a_provider_that_lists_no_models_takes_any_name_and_a_name_that_two_have_says_whose(
    page: Page,
) -> None:
    await serve(page, [(200, sse(("1-0", "done", DONE)))] * 2, {"status": "done", "text": ""})
    offered = ("local/small", "mine/small", "mine/big", "openai/*")
    await offer(page, *offered, usual="local/small")
    labels = await page.eval_on_selector_all("#model option", "all => all.map((one) => one.label)")
    assert labels == ["local/small", "mine/small", "big", "openai: another model…"]
    assert await page.is_hidden("#model-other")
    await page.select_option("#model", "openai/*")
    await ask(page, "Hello?")
    # Nothing was sent: the name is missing.
    assert await page.input_value("#prompt") == "Hello?"
    await page.fill("#model-other", " gpt-4.1 ")
    assert await asked_model(page, "Hello?") == "openai/gpt-4.1"
    await wait_for_status(page, "done")
    await offer(page, *offered, usual="local/small")
    assert await page.input_value("#model-other") == "gpt-4.1"
    await page.select_option("#model", "mine/big")
    assert await page.is_hidden("#model-other")
    assert await asked_model(page, "And now?") == "mine/big"


async def test_the_page_asks_for_the_models_name_where_only_a_key_is_set(page: Page) -> None:
    await offer(page, "openai/*", usual="local/small")
    assert await page.is_visible("#model")
    assert await page.is_visible("#model-other")


TRAPS = """<img src=x onerror="document.title='owned'"><script>document.title = 'owned'</script>

[bad](javascript:alert(1)) [worse]( data:text/html,x ) <javascript:alert(1)> [good](https://example.com/)

<a href="javascript:alert(1)">x</a> ![x](javascript:alert(1)) `<b>` snake_case_name **open `open
"""


async def test_an_answer_is_never_html(page: Page) -> None:
    answers = [(200, sse(("1-0", "message", {"text": TRAPS}), ("1-1", "done", DONE)))]
    await serve(page, answers, {"status": "done", "text": TRAPS})
    await ask(page, "Hello?")
    await wait_for_status(page, "done")
    names = await page.eval_on_selector_all(".prose *", "all => all.map((node) => node.localName)")
    assert set(names) <= {"p", "a", "span", "code", "strong"}
    links = await page.eval_on_selector_all(".prose a", "all => all.map((node) => node.href)")
    assert links == ["https://example.com/"]
    assert "snake_case_name" in await page.inner_text(".prose")
    assert "onerror" in await page.inner_text(".prose")
    assert await page.title() != "owned"


async def test_the_readme_s_snippet_shows_the_record_s_text(page: Page, headrace_url: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    snippet = re.search(r"```js\n(.*?)```", readme, re.DOTALL)
    assert snippet
    code = f"{snippet[1]}; window.source = source; window.eventsUrl = events_url;"
    body = f'<pre id="out"></pre><script type="module">{code}</script>'
    await page.route("**/snippet", lambda route: route.fulfill(body=body, content_type="text/html"))
    await page.goto(headrace_url + "/snippet")
    await page.wait_for_function("() => window.source?.readyState === 2")
    url = str(await page.evaluate("window.eventsUrl")).removesuffix("/events")
    record = await (await page.request.get(headrace_url + url)).json()
    assert record["status"] == "done"
    assert await page.evaluate("document.getElementById('out').textContent") == record["text"]


async def test_the_module_of_the_clients_page_shows_the_record_s_text(page: Page, headrace_url: str) -> None:
    clients = (Path(__file__).parents[2] / "docs/clients.md").read_text(encoding="utf-8")
    snippet = re.search(r"```html\n(.*?)```", clients, re.DOTALL)
    assert snippet
    reads: list[str] = []
    page.on("request", lambda request: reads.append(request.url) if "/events" in request.url else None)
    code = snippet[1].replace("</script>", "window.stream = stream;\n</script>")
    await page.route("**/snippet", lambda route: route.fulfill(body=code, content_type="text/html"))
    await page.goto(headrace_url + "/snippet")
    await page.wait_for_function("() => window.stream?.status === 'done'")
    record = await (await page.request.get(reads[0].removesuffix("/events"))).json()
    assert await page.evaluate("document.getElementById('out').textContent") == record["text"] != ""
