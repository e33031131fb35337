"""`headrace chat`, its parts: what events show, when it comes back, where Markdown is cut."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from cli.chat.answer_state import AnswerState, BadEvent, Change, summary
from cli.chat.api_client import ApiClient
from cli.chat.backoff import Backoff
from cli.chat.blocks import finished_length, harmless
from cli.chat.command import DEFAULT_URL, ServerAddress
from cli.chat.views import AnswerReplaced, PlainView
from cli.errors import NoAnswer
from cli.main import build_app
from shared.config.settings import load
from shared.protocol.sse import ServerSentEvent, encode_event

STARTED = ("started", {"attempt": 1, "model": "local/m", "provider": "local"})
DONE = ("done", {"finish_reason": "stop", "usage": None, "cost": None, "attempt": 1, "timings": None})


def take(answer: AnswerState, *events: tuple[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """The changes of these events, as (kind, text); notes of an ``anew`` shortened to nothing."""
    changes = [c for kind, data in events for c in answer.take(ServerSentEvent(kind, json.dumps(data), "7-1"))]
    return [(c.kind, "" if c.kind == "anew" else c.text) for c in changes]


def said(text: str) -> tuple[str, dict[str, Any]]:
    return ("message", {"text": text})


def test_deltas_are_shown_in_order_by_kind() -> None:
    answer = AnswerState()
    assert take(answer, STARTED, ("message", {"reasoning": "hm"}), said("a"), ("later", {"x": 1}), DONE) == [
        ("reasoning", "hm"),
        ("text", "a"),
    ]
    assert (answer.model, answer.attempt, answer.ending, answer.cursor) == ("local/m", 1, "done", "7-1")


def test_a_restart_makes_void_what_was_shown_and_a_second_start_before_any_word_does_not() -> None:
    answer = AnswerState()
    assert take(answer, STARTED, STARTED) == []
    assert take(answer, said("old"), ("restart", {"attempt": 2}), said("new")) == [
        ("text", "old"),
        ("anew", ""),
        ("text", "new"),
    ]
    assert answer.transcript.text == "new"
    assert take(answer, ("started", {"attempt": 3})) == [("anew", "")]


def test_a_snapshot_that_adds_is_a_piece_and_one_that_differs_starts_over() -> None:
    answer = AnswerState()
    assert take(answer, said("ab"), ("snapshot", {"text": "abc"})) == [("text", "ab"), ("text", "c")]
    assert take(answer, ("snapshot", {"text": "abc"})) == []
    assert take(answer, ("snapshot", {"text": "xy", "reasoning": "r"})) == [
        ("anew", ""),
        ("reasoning", "r"),
        ("text", "xy"),
    ]
    assert answer.transcript.text == "xy"


def test_a_continued_answer_keeps_its_text() -> None:
    answer = AnswerState()
    changes = take(answer, said("ab"), ("continued", {"attempt": 2, "after": "7-1"}), said("c"))
    assert [kind for kind, _ in changes] == ["text", "note", "text"]
    assert (answer.transcript.text, answer.attempt) == ("abc", 2)


@pytest.mark.parametrize("data", ["", "[]", "{", '{"tool_call": 3}'])
def test_data_that_is_no_event_is_said_so(data: str) -> None:
    with pytest.raises(BadEvent):
        AnswerState().take(ServerSentEvent("message", data, "7-1"))


def test_the_summary_tells_what_is_known_and_nothing_else() -> None:
    answer = AnswerState()
    take(answer, STARTED, ("done", {**DONE[1], "timings": {}, "cost": None}))
    assert summary(answer) == "local/m · attempt 1"
    timings = {"queued_ms": 10, "first_token_ms": 500, "total_ms": 2500}
    take(answer, ("done", {**DONE[1], "usage": {"output_tokens": 80}, "timings": timings, "cost": 0.0012}))
    assert summary(answer) == "local/m · 80 tokens · 40 tokens/s · first after 0.50 s · attempt 1 · $0.0012"
    take(answer, ("failed", {"code": "refused", "message": "No.", "retryable": False}))
    assert summary(answer) == "local/m · failed: No. · attempt 1"


def test_patience_grows_honours_what_is_asked_and_ends() -> None:
    patience = Backoff(most=5, chance=lambda: 1.0)
    assert [patience.next_s() for _ in range(6)] == [0.5, 1, 2, 4, None, None]
    patience.succeeded()
    assert patience.next_s(asked_s=3) == 3
    assert patience.next_s(asked_s=3600) is None
    assert Backoff(chance=lambda: 0.0).next_s() == 0.25
    longest = Backoff(most=50, chance=lambda: 1.0)
    assert max(longest.next_s() or 0 for _ in range(49)) == 8


class Scene:
    """A server that answers by a list, and a clock that only notes what was waited."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers: Iterator[httpx.Response | Exception] = iter(answers)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []
        self.notes: list[str] = []

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        found = next(self._answers)
        if isinstance(found, Exception):
            raise found
        return found

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def run(self, use: Callable[[ApiClient], Any]) -> Any:
        transport = httpx.MockTransport(self._answer)
        async with httpx.AsyncClient(transport=transport, base_url="http://h") as http:
            return await use(
                ApiClient(http, self.notes.append, lambda most: Backoff(most or 4, lambda: 1.0), self._sleep)
            )

    async def read(self) -> tuple[str, AnswerState]:
        answer = AnswerState()

        async def use(client: ApiClient) -> str:
            return "".join([c.text async for c in client.changes("S", answer) if c.kind == "text"])

        return await self.run(use), answer


def sse(*events: tuple[str, str, dict[str, Any]], retry: str = "") -> httpx.Response:
    body = retry.encode() + b"".join(
        encode_event(kind, json.dumps(data).encode(), cursor.encode()) for cursor, kind, data in events
    )
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)


def problem(status: int, code: str = "x", **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers, json={"code": code, "detail": f"It is {code}."})


REFUSED = httpx.ConnectError("refused")


async def test_reading_comes_back_behind_the_last_event_and_waits_as_told() -> None:
    scene = Scene(
        sse(("5-0", *STARTED), ("5-1", *said("a")), retry="retry: 2500\n"),
        REFUSED,
        problem(503, **{"retry-after": "4"}),
        sse(("5-2", *said("b")), ("5-3", *DONE)),
    )
    text, answer = await scene.read()
    assert (text, answer.ending) == ("ab", "done")
    assert [r.headers.get("last-event-id") for r in scene.requests] == [None, "5-1", "5-1", "5-1"]
    assert scene.waits == [2.5, 1.0, 4.0]


async def test_reading_gives_up_after_so_many_tries_without_an_event() -> None:
    scene = Scene(sse(("5-1", *said("a"))), sse(("5-2", *said("b"))), sse(), sse(), sse())
    with pytest.raises(NoAnswer, match="gave up after 4 tries"):
        await scene.read()
    assert scene.waits == [0.5, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_permanent_refusal_is_not_tried_again(status: int) -> None:
    scene = Scene(problem(status, "so"))
    with pytest.raises(NoAnswer, match="It is so"):
        await scene.read()
    assert len(scene.requests) == 1


async def test_another_server_is_told_from_headrace() -> None:
    for page in (httpx.Response(200, html="<p>hi"), httpx.Response(404, html="<p>no"), sse(("", "message", {}))):
        with pytest.raises(NoAnswer):
            await Scene(page, problem(404)).read()


async def test_creating_is_repeated_under_one_key_until_there_is_an_answer() -> None:
    made = httpx.Response(202, json={"id": "S"})
    scene = Scene(REFUSED, httpx.ReadTimeout("slow"), problem(429, **{"retry-after": "3"}), made)
    assert await scene.run(lambda client: client.create({"prompt": "x"})) == "S"
    assert len({request.headers["idempotency-key"] for request in scene.requests}) == 1
    assert scene.waits == [0.5, 1.0, 3.0]


async def test_creating_gives_up_in_bounded_time() -> None:
    scene = Scene(*[REFUSED] * 9)
    with pytest.raises(NoAnswer, match=r"http://h.*nothing answers there"):
        await scene.run(lambda client: client.create({}))
    assert len(scene.requests) == 5
    with pytest.raises(NoAnswer, match="It is full"):
        await Scene(problem(429, "full", **{"retry-after": "3600"})).run(lambda client: client.create({}))


def plain(*, on_terminal: bool = False) -> tuple[PlainView, list[str]]:
    out: list[str] = []
    return PlainView(out.append, Console(quiet=True), on_terminal=on_terminal), out


def test_a_pipe_gets_no_word_twice_when_a_new_attempt_says_the_same() -> None:
    view, out = plain()
    for change in (Change("text", "the sky"), Change("anew", ""), Change("text", "the"), Change("text", " sky is")):
        view.show(change)
    assert "".join(out) == "the sky is"


def test_a_pipe_is_told_when_a_new_attempt_says_something_else() -> None:
    view, _ = plain()
    view.show(Change("text", "the sky"))
    view.show(Change("anew", ""))
    with pytest.raises(AnswerReplaced):
        view.show(Change("text", "a sky"))


def test_a_pipe_is_told_when_a_new_attempt_says_less() -> None:
    view, _ = plain()
    answer = AnswerState()
    take(answer, DONE)
    view.show(Change("text", "the sky"))
    view.show(Change("anew", ""))
    view.show(Change("text", "the"))
    with pytest.raises(AnswerReplaced):
        view.end(answer)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("one\n", 0),
        ("one\n\n", 0),
        ("one\n\ntw", 0),
        ("one\n\ntwo\n", 5),
        ("one\n\n  two\n", 0),
        ("```\na\n\nb\n", 0),
        ("```\na\n\nb\n```\n\nc\n", 14),
        ("````\n```\n\nb\n", 0),
        ("~~~\n```\n\nb\n~~~\n\nc\n", 16),
        ("`a` ```b```\n\nc\n", 13),
        ("a\n\nb\n\nc\n", 6),
    ],
)
def test_markdown_is_cut_behind_what_can_no_longer_change(text: str, cut: int) -> None:
    assert finished_length(text) == cut


def test_control_characters_are_made_visible() -> None:
    assert harmless("a\x1b[2Jb\x9bc\r\nd\te\x7f") == "a�[2Jb�c\nd\te�"
    assert harmless("naïve 🌊 👩‍🚀") == "naïve 🌊 👩‍🚀"


def test_a_caller_s_variables_are_no_settings_and_no_mistake() -> None:
    assert load({"HEADRACE_KEY": "hr_x", "HEADRACE_URL": "http://h"}).settings == load({}).settings


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["tail", "../healthz"], 2, "24 letters"),
        (["tail", "A" * 24, "--from", "yesterday"], 2, "1795341803123-7"),
        (["chat", "x", "--url", "localhost:8000"], 1, "It looks like http://127.0.0.1:8000"),
        (["chat", "x", "--key", "a b"], 1, "The key holds characters"),
        (["chat"], 1, "There is no question"),
    ],
)
def test_wrong_arguments_are_refused_without_a_server(
    arguments: list[str], code: int, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(build_app(), arguments)
    assert result.exit_code == code
    assert sentence in result.output


def test_the_command_that_finds_a_stream_again_can_be_pasted() -> None:
    assert ServerAddress(DEFAULT_URL, "k").tail("abc") == "headrace tail abc"
    assert ServerAddress("http://h/?a", "k").tail("-bc") == "headrace tail --url 'http://h/?a' -- -bc"
