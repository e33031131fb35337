"""How the page shows Markdown, in a real Chromium: the specifications' examples, and what models write."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route

from tests.support.specifications import commonmark_examples, github_examples

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "api" / "static"
ORIGIN = "http://page.test"
COMMONMARK_PASSED = 648
"""Of 652. The other four say that a bare address is no link; by GitHub's rules, which hold here, it is one."""
GITHUB_PASSED = 657
"""Of 672. Nine of the others are strong text in strong text, which is one by GitHub's older rule and two by
CommonMark's of today; four say that a bare address is no link; ftp:// is none here; and no HTML is left out,
for all of it is text."""


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty page that sees the page's modules."""

    async def serve(route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        if path == "/":
            await route.fulfill(body="<!doctype html><body></body>", content_type="text/html")
        else:
            folder = STATIC if path.startswith("/static/") else ROOT / "tests" / "js"
            await route.fulfill(path=folder / path.rpartition("/")[2], content_type="text/javascript")

    context = await browser.new_context()
    page = await context.new_page()
    await page.route(f"{ORIGIN}/**", serve)
    await page.goto(f"{ORIGIN}/")
    yield page
    await context.close()


async def passed(page: Page, examples: list[tuple[str, str]]) -> list[bool]:
    made: list[str] = await page.evaluate(
        """async (texts) => {
            const { specHtml } = await import("/js/spec_html.js");
            return texts.map(specHtml);
        }""",
        [text for text, _ in examples],
    )
    return [html == wanted for html, (_, wanted) in zip(made, examples, strict=True)]


async def test_the_examples_of_commonmark_pass(page: Page) -> None:
    found = await passed(page, commonmark_examples())
    print(f"CommonMark 0.31.2: {sum(found)} of {len(found)} examples pass")
    assert sum(found) >= COMMONMARK_PASSED, [number for number, ok in enumerate(found, 1) if not ok]


async def test_the_examples_of_github_pass(page: Page) -> None:
    found = await passed(page, github_examples())
    print(f"GitHub Flavored Markdown 0.29: {sum(found)} of {len(found)} examples pass")
    assert sum(found) >= GITHUB_PASSED, [number for number, ok in enumerate(found, 1) if not ok]


async def shown(page: Page, text: str) -> str:
    """The text as the page shows it."""
    html: str = await page.evaluate(
        """async (text) => {
            const { Prose } = await import("/static/prose.js");
            const box = document.createElement("div");
            document.body.replaceChildren(box);
            new Prose(box).write(text);
            return box.innerHTML.replaceAll(' dir="auto"', "");
        }""",
        text,
    )
    return html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("***both***", "<p><em><strong>both</strong></em></p>"),
        ("~~struck~~ and a~b", "<p><del>struck</del> and a~b</p>"),
        ("Title\n===\nSub\n---", "<h3>Title</h3><h4>Sub</h4>"),
        ("a<br>b", "<p>a<br>b</p>"),
        (
            "<details>\n<summary>x</summary>",
            '<p class="html">&lt;details&gt;\n&lt;summary&gt;x&lt;/summary&gt;</p>',
        ),
        (
            "x[^1]\n\n[^1]: **n**",
            '<p>x<sup class="note-mark">1</sup></p>'
            '<div class="footnote"><sup>1</sup><div><p><strong>n</strong></p></div></div>',
        ),
        ("![a](https://x.example/y.png)", None),
        ("[bad](javascript:alert(1))", '<p><span class="">bad (javascript:alert(1))</span></p>'),
        ("costs $5 and $6, or $x$", "<p>costs $5 and $6, or <math><mi>x</mi></math></p>"),
        (r"\[ \unknown{x} \]", r'<div class="display"><code class="tex">\unknown{x}</code></div>'),
    ],
)
async def test_markdown_of_models_is_shown_as_they_mean_it(page: Page, text: str, html: str | None) -> None:
    made = await shown(page, text)
    if html is None:
        assert "<img" not in made
        assert 'class="image"' in made
    else:
        assert made.replace(' class=""', "") == html.replace(' class=""', "")


async def test_task_lists_and_tables_are_shown(page: Page) -> None:
    await shown(page, "- [x] done\n- [ ] to do\n- plain\n\n|a|b|c|\n|:-|:-:|--:|\n|1|`2\\|3`|4|")
    boxes: list[Any] = await page.eval_on_selector_all(
        "li input", "all => all.map((box) => [box.checked, box.disabled])"
    )
    assert boxes == [[True, True], [False, True]]
    assert await page.locator("li").count() == 3
    cells = await page.eval_on_selector_all("td", "all => all.map((cell) => [cell.className, cell.textContent])")
    assert cells == [["left", "1"], ["center", "2|3"], ["right", "4"]]


async def test_text_from_the_right_has_its_own_direction(page: Page) -> None:
    await shown(page, "English\n\nمرحبا\n\n- مرحبا\n\n```\nمرحبا\n```")
    directions = "all => all.map((node) => getComputedStyle(node).direction)"
    assert await page.eval_on_selector_all("p, li, pre", directions) == ["ltr", "rtl", "rtl", "ltr"]


async def test_lists_quotes_and_tables_stand_on_their_text_s_side(page: Page) -> None:
    await page.add_style_tag(path=STATIC / "style.css")
    await page.evaluate("document.body.style.cssText = 'display: block; width: 600px'")
    table = "|مرحبا|b|\n|--|--|\n|1|2|"
    await shown(page, f"- one\n- مرحبا\n\n1. مرحبا\n\n> مرحبا\n\n{table}\n\n> quote\n\n- [ ] مرحبا")
    await page.evaluate("document.body.firstChild.className = 'prose'")
    indents = """all => all.map((item) => {
        const { left, right } = item.getBoundingClientRect();
        return [left >= 16, right <= 600 - 16];
    })"""
    # The mark of an item stands beside its box, on the side where its text begins: there must be room for it.
    assert await page.eval_on_selector_all("ul:first-child > li, ol > li", indents) == [
        [True, False],
        [False, True],
        [False, True],
    ]
    bars = "all => all.map((quote) => Number.parseFloat(getComputedStyle(quote).borderRightWidth) > 0)"
    assert await page.eval_on_selector_all("blockquote", bars) == [True, False]
    cells = await page.eval_on_selector_all("th", "all => all.map((cell) => cell.getBoundingClientRect().left)")
    assert cells[0] > cells[1], "the first column of a table from the right is on the right"
    edges = "all => all.map((node) => node.getBoundingClientRect().right)"
    assert await page.eval_on_selector_all("table", edges) == [600], "and it stands there itself"
    [box] = await page.eval_on_selector_all(".task input", edges)
    text = await page.evaluate("""() => {
        const range = document.createRange();
        range.selectNodeContents(document.querySelector(".task"));
        range.setStartAfter(document.querySelector(".task input"));
        return range.getBoundingClientRect().right;
    }""")
    assert 596 <= box <= 600
    assert text < box - 16 - 4, "no gap between a task's box and its text"


async def test_formulas_are_set(page: Page) -> None:
    html = await shown(page, "$$\n\\frac{a_1}{\\sqrt{b}} \\le \\sum_{i=0}^{n} x^i\n- c\n$$\n\nand \\(\\alpha\\)")
    assert "<mfrac><msub><mi>a</mi><mn>1</mn></msub><msqrt><mi>b</mi></msqrt></mfrac>" in html
    assert "<munderover>" in html
    assert '<math display="block">' in html
    assert "<ul>" not in html, "a line of a formula is no list"
    assert "<mi>α</mi>" in html
    box = await page.locator("mfrac").bounding_box()
    assert box is not None
    assert box["height"] > 20, "a fraction stands over its denominator"


async def test_a_formula_with_an_unknown_word_stays_as_it_was_written(page: Page) -> None:
    words = (r"\left\constructor x\right)", r"\mathbb{\toString}", r"\left( x", r"\frac{1}", r"{a & b}")
    html = await shown(page, " ".join(f"${word}$" for word in words))
    assert html.count('<code class="tex">') == len(words)
    assert "native code" not in html


async def test_code_is_coloured_and_stays_the_text(page: Page) -> None:
    code = 'def f():\n    """a\n    b"""\n    return "<b>" + str(1.5)  # why'
    await shown(page, f"```python\n{code}\n```")
    assert await page.text_content("pre code") == code
    kinds = await page.eval_on_selector_all(
        "code span", "all => all.map((one) => [one.className, one.textContent])"
    )
    assert ["is-keyword", "def"] in kinds
    assert ["is-name", "f"] in kinds
    assert ["is-string", '    b"""'] in kinds
    assert ["is-number", "1.5"] in kinds
    assert ["is-comment", "# why"] in kinds
    await shown(page, "```unknown\nif 1\n```")
    assert await page.locator("code span").count() == 0


GROWING = r"""Set
===
Text ***both*** ~~struck~~ $x^2$ [later][x] and [^1]

1. one
   - [x] two

     ```js
     const a = `1
     2`; // three
     ```
> quoted
lazy

| a | b |
|---|--:|
| 1 | 2 |

    indented

$$
\frac{1}{2}
$$

[^1]: note
    goes on

[x]: https://example.com/ "t"

```py
x = '''a
b'''
```
last <br> `open
"""


async def test_an_answer_that_grows_is_the_same_as_a_whole_one(page: Page) -> None:
    same = await page.evaluate(
        """async (text) => {
            const { Prose } = await import("/static/prose.js");
            const render = (step) => {
                const box = document.createElement("div");
                const prose = new Prose(box);
                for (let to = step; to < text.length + step; to += step) prose.write(text.slice(0, to));
                return box.innerHTML;
            };
            const whole = render(text.length);
            const same = [1, 2, 3, 7, 50].map((step) => render(step) === whole);
            return [whole.includes('href="https://example.com/"'), ...same];
        }""",
        GROWING,
    )
    assert same == [True] * 6


TRAPS = [
    "*" * 20_000,
    "[" * 20_000,
    "[a](" * 5_000,
    "".join("`" * (n % 50) + "a" for n in range(700)),
    "**a *b " * 2_800,
    "[a](b)" * 3_000,
    "[" * 5_000 + "[a](b)" * 2_000,
    "> " * 9_000 + "a",
    "- " * 9_000 + "a",
    "<!--" * 5_000,
    "$a " * 6_000,
    "![a" * 5_000 + "]" * 5_000,
    "$" + "{" * 3_000 + "$",
    "|" * 9_000 + "\n" + "|-" * 9_000,
]


async def test_the_page_is_stopped_by_no_text(page: Page) -> None:
    """The slowest takes less than a second here; what is quadratic without a bound takes minutes."""
    for text in TRAPS:
        took = await page.evaluate(
            """async (text) => {
                const { Prose } = await import("/static/prose.js");
                const from = performance.now();
                new Prose(document.createElement("div")).write(text);
                return performance.now() - from;
            }""",
            text,
        )
        assert took < 20_000, text[:20]
