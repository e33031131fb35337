"""A recorded answer of each wire format means the same at every split point.

The bytes in ``tests/data`` follow the public API references event by event: multi-byte text and escapes, thinking,
tools with and without arguments, pings, comments, events of types that are new.
"""

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from shared.config.providers import Provider
from shared.protocol.sse import SseParser
from shared.protocol.transcript import Transcript
from tests.support.provider_calls import KEY, ask, calm_client, events_of
from tests.support.replay import replaying
from worker.providers import adapter
from worker.providers.base import End, Finish, GenerationRequest, ProviderEvent, Said, Usage

DATA = Path(__file__).parents[1] / "data"


def said(kind: str, value: Any) -> Said:
    return Said({kind: value})


def kept(kind: str, data: Any) -> Said:
    return Said({"provider": {"type": kind, "data": data}})


def call(index: int, **pieces: str) -> Said:
    return Said({"tool_call": {"index": index, **pieces}})


MEANINGS: dict[str, list[ProviderEvent]] = {
    "openai": [
        said("reasoning", "Höhe?"),
        said("text", "流れ 🌊"),
        said("text", "\n👩"),
        call(0, id="call_a", name="look_up"),
        call(0, arguments='{"q":'),
        call(0, arguments="1}"),
        Finish("tool_calls"),
        Usage(9, 12, 4, 3),
        End(),
    ],
    "anthropic": [
        Usage(580, 2, 100),
        said("reasoning", "Wie hoch? 高さ"),
        kept(
            "thinking",
            {"index": 0, "thinking": "Wie hoch? 高さ", "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"},
        ),
        kept(
            "server_tool_use",
            {"index": 1, "id": "srvtoolu_014hJ", "name": "web_search", "input": {"query": "tide"}},
        ),
        said("text", "流れ 🌊"),
        kept(
            "citations_delta",
            {
                "index": 2,
                "citation": {
                    "type": "web_search_result_location",
                    "url": "https://example.com",
                    "title": "Flut",
                },
            },
        ),
        said("text", "\n👩 Über"),
        kept("context_trimmed", {"turns": 2}),
        call(0, id="toolu_01T1x1fJ34qAmk2tNTrN7Up6", name="get_weather"),
        call(0, arguments='{"location": "Sankt'),
        call(0, arguments=' Pölten"}'),
        call(1, id="toolu_02", name="get_time"),
        call(1, arguments="{}"),
        kept("server_tool_use", {"web_search_requests": 1}),
        Finish("tool_calls"),
        Usage(580, 89, 100),
        End(),
    ],
    "google": [
        said("reasoning", "Wie hoch? 高さ"),
        Usage(12, 28, None, 28),
        said("text", "流れ 🌊"),
        Usage(12, 32, None, 28),
        kept("executableCode", {"language": "PYTHON", "code": "print(1)"}),
        said("text", "\n👩 Über"),
        kept("inlineData", {"mimeType": "image/png", "data": "aGk="}),
        Usage(12, 37, None, 28),
        call(0, id="call_rCX0aLq_0", name="get_weather", arguments='{"location":"Sankt Pölten"}'),
        kept("thoughtSignature", {"signature": "CpYBAVSoXO4", "tool_call": 0}),
        call(1, id="own_id", name="get_time", arguments="{}"),
        kept("groundingMetadata", {"webSearchQueries": ["Flut"]}),
        kept("finishMessage", "Model generated function call(s)."),
        Finish("tool_calls"),
        Usage(12, 58, 5, 28),
    ],
}
formats = pytest.mark.parametrize("name", MEANINGS)


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def recorded(name: str) -> bytes:
    return (DATA / f"{name}.sse").read_bytes()


def replay(name: str, chunks: list[bytes]) -> list[ProviderEvent]:
    parser = SseParser()
    reader = adapter(name).reader(GenerationRequest("m", []))
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    last = parser.finish()
    return [meaning for event in [*events, *([last] if last else [])] for meaning in reader.read(event)]


@formats
def test_a_recorded_answer_means_the_same_at_every_split_point(name: str) -> None:
    raw = recorded(name)
    for cut in range(len(raw) + 1):
        assert replay(name, [raw[:cut], raw[cut:]]) == MEANINGS[name], cut


@formats
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_recorded_answer_means_the_same_byte_by_byte(name: str, line_end: bytes) -> None:
    raw = recorded(name).replace(b"\r\n", b"\n").replace(b"\n", line_end)
    assert replay(name, [raw[at : at + 1] for at in range(len(raw))]) == MEANINGS[name]


def test_plain_text_read_at_once_means_what_it_means_event_by_event() -> None:
    parser, reader = SseParser(), adapter("openai").reader(GenerationRequest("m", []))
    at_once = []
    plain = [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "流れ"}),
        chunk({"content": "a\nb"}) * 3,
    ]
    others = [chunk({"content": "c", "citation": 1}), chunk({"content": None}), chunk({"content": "d"}, "stop")]
    for read in [b": hello\n\n", *plain, *others, plain[1] + others[0], *plain]:
        bare = parser.bare(read)
        texts = reader.texts(bare) if bare else None
        meanings = [meaning for event in parser.feed(read) for meaning in reader.read(event)]
        if texts is not None:
            assert meanings == [Said(text) for text in texts]
            at_once.append(read)
    assert at_once == plain * 2


@pytest.mark.parametrize("data", [b'{"choices":[{"delta":{"content":"\xff"}}]}', b"[DONE]", b""])
def test_events_that_are_no_plain_text_are_not_read_at_once(data: bytes) -> None:
    reader = adapter("openai").reader(GenerationRequest("m", []))
    assert reader.texts([b'{"choices":[{"delta":{"content":"a"}}]}', data]) is None


@formats
async def test_a_recorded_answer_means_the_same_over_a_socket(name: str) -> None:
    async with replaying(recorded(name), chunk_bytes=7) as base_url, calm_client() as client:
        provider = Provider(name, name, base_url, KEY)
        async with aclosing(events_of(client, provider, ask("hello"))) as events:
            heard = [event async for event in events]
    for kind in (Said, Usage, Finish):
        told = [event for event in heard if isinstance(event, kind)]
        meant = [event for event in MEANINGS[name] if isinstance(event, kind)]
        assert (told[-1:] == meant[-1:]) if kind is Usage else (told == meant)


@formats
def test_a_recorded_answer_adds_up_to_one_transcript(name: str) -> None:
    transcript = Transcript()
    for meaning in MEANINGS[name]:
        if isinstance(meaning, Said):
            transcript.add(meaning.delta)
    told = transcript.as_data()
    assert told["text"].startswith("流れ 🌊\n👩")
    assert all(one["id"] and one["name"] and one["arguments"] for one in told["tool_calls"])
    kinds = [one["type"] for one in told.get("provider_parts", [])]
    assert len(kinds) == sum("provider" in m.delta for m in MEANINGS[name] if isinstance(m, Said))
