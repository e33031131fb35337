"""An answer as a state machine: what its bytes mean, what ends it, and how long it is waited for."""

import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared.config.providers import Provider
from shared.protocol.events import Delta
from shared.protocol.sse import ServerSentEvent
from shared.protocol.transcript import Transcript
from worker.providers import adapter
from worker.providers.base import End, Finish, GenerationRequest, ProviderEvent, Reader, Said, Usage
from worker.providers.decoder import (
    END_WAIT_S,
    MAX_NAME,
    MAX_TOOL_CALLS,
    SEAM_BYTES,
    TAKE_BYTES,
    AnswerLimits,
    StreamDecoder,
)

PROVIDER = Provider("local", "openai", "http://x", "sk-secret")
LIMITS = AnswerLimits(60.0, 30.0, 300.0, 1 << 20)
DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(reason: str | None = None, **delta: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})


@dataclass
class Heard:
    answer: StreamDecoder
    deltas: list[Delta] = field(default_factory=list)
    usage: Usage | None = None
    finish: str | None = None
    limit: str = ""
    error: str = ""
    refusal: bool = False

    def read(self) -> "Heard":
        batch = self.answer.read()
        self.deltas += batch.deltas
        self.usage = batch.usage or self.usage
        self.finish, self.limit = batch.finish, batch.limit
        if batch.error is not None:
            self.error, self.refusal = batch.error.code, batch.error.refusal
        assert batch.ended == self.answer.ended == (self.finish is not None or bool(self.error))
        return self

    @property
    def text(self) -> str:
        return "".join(delta.get("text", "") for delta in self.deltas)

    @property
    def parts(self) -> list[dict[str, Any]]:
        return [delta["provider"] for delta in self.deltas if "provider" in delta]


def begun(reader: Reader | None = None, limits: AnswerLimits = LIMITS, **more: Any) -> Heard:
    reader = reader or adapter("openai").reader(GenerationRequest("m", []))
    return Heard(StreamDecoder(PROVIDER, reader, limits, 0.0, **more))


def heard(*reads: bytes, eof: bool = True, cut: bool = False, **more: Any) -> Heard:
    told = begun(**more)
    for read in reads:
        told.answer.feed(read, 1.0)
        while told.answer.behind:
            told.answer.feed(b"", 1.0)
        told.read()
    if eof:
        told.answer.feed_eof(1.0, cut=cut)
    return told.read()


WHOLE = (
    b": hello\n\n"
    + chunk(content="流れ")
    + chunk(content="\n👩 ü")
    + chunk("stop")
    + event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    + DONE
)


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain", ""])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_an_answer_is_the_same_at_every_split_point(kind: str, encoding: str) -> None:
    raw = WHOLE if not encoding else gzip.compress(WHOLE[:50]) + gzip.compress(WHOLE[50:])
    for at in range(len(raw) + 1):
        told = heard(raw[:at], raw[at:], kind=kind, encoding=encoding)
        assert (told.text, told.finish, told.error) == ("流れ\n👩 ü", "stop", ""), at
        assert told.usage == Usage(1, 2)
    told = heard(*(raw[at : at + 1] for at in range(len(raw))), kind=kind, encoding=encoding)
    assert (told.text, told.finish) == ("流れ\n👩 ü", "stop")


def test_unread_pieces_are_read_together_and_the_end_stays() -> None:
    told = begun()
    told.answer.feed(chunk(content="a"), 1.0)
    told.answer.feed(chunk(content="b"), 2.0)
    assert told.answer.has_news
    assert told.read().text == "ab"
    assert not told.answer.has_news
    told.answer.feed(chunk("stop") + DONE, 3.0)
    told.answer.feed(chunk(content="late"), 3.0)
    told.answer.feed_eof(3.0, cut=True)
    told.answer.expire(1e9)
    assert told.read().read().finish == "stop"
    assert told.text == "ab"


# -- what ends an answer ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "cut", "finish", "error"),
    [
        (chunk(content="a") + chunk("length"), False, "length", ""),
        (chunk(content="a") + chunk("length"), True, "length", ""),
        (chunk(content="a"), False, None, "upstream_cut"),
        (b"", False, None, "upstream_cut"),
        (chunk(content="a") + DONE, False, "other", ""),
        (chunk("stop", content="a") + chunk("stop", content="b") + DONE, False, "stop", ""),
        (chunk("stop", content="a") + chunk(content="b"), False, None, "upstream_cut"),
        (chunk("stop", content="a") + chunk(content="b") + DONE, False, "other", ""),
        (chunk("stop", content="a") + chunk("length", content=""), False, "length", ""),
        (chunk(content="a") + chunk("length") + chunk("stop"), False, "length", ""),
        # Behind a reason that can be trusted an error costs nothing; behind one that is stamped it does.
        (chunk(content="a") + chunk("stop") + event({"error": "late"}), False, "stop", ""),
        (chunk("stop", content="a") + event({"error": "x"}) + DONE, False, None, "provider_error_event"),
        (chunk("stop", reasoning="a") + event({"error": "x"}), False, None, "provider_error_event"),
    ],
)
def test_the_end_is_the_providers_own(raw: bytes, cut: bool, finish: str | None, error: str) -> None:
    told = heard(raw, cut=cut)
    assert (told.finish, told.error) == (finish, error)


@pytest.mark.parametrize(
    ("raw", "silence_s", "finish"),
    [
        (chunk(content="a") + chunk("stop"), END_WAIT_S, "stop"),
        (chunk("stop", content="a"), LIMITS.idle_s, "stop"),
        (chunk("stop", content="a") + chunk(content="b") + chunk("stop"), LIMITS.idle_s, "stop"),
        (chunk(content="a") + chunk("stop") + event({"choices": [], "usage": {}}), END_WAIT_S, "stop"),
        (chunk("stop", reasoning="hm"), LIMITS.idle_s, None),
        (chunk(content="a"), LIMITS.idle_s, None),
    ],
)
def test_a_silence_behind_a_reason_is_an_end_as_far_as_the_reason_can_be_trusted(
    raw: bytes, silence_s: float, finish: str | None
) -> None:
    told = heard(raw, eof=False)
    assert told.answer.deadline == pytest.approx(1.0 + silence_s)
    told.answer.expire(1.0 + silence_s - 0.01)
    assert not told.read().answer.ended
    told.answer.expire(1.0 + silence_s)
    assert (told.read().finish, told.error) == (finish, "" if finish else "upstream_silent")


class Scripted(Reader):
    """Each event's data is what a test wrote down for it."""

    def __init__(self, **meanings: list[ProviderEvent]) -> None:
        self._meanings = meanings
        self.is_open = False

    @property
    def open(self) -> bool:
        return self.is_open

    def read(self, event: ServerSentEvent) -> Iterable[ProviderEvent]:
        return self._meanings[event.data]


def test_a_silence_with_an_open_part_is_no_success() -> None:
    reader = Scripted(a=[Said({"text": "a"})], s=[Finish("stop")])
    told = heard(b"data: a\n\ndata: s\n\n", eof=False, reader=reader)
    reader.is_open = True
    told.answer.expire(1.0 + END_WAIT_S)
    assert (told.read().finish, told.error) == (None, "upstream_silent")


def test_sources_behind_a_reason_are_carried_and_leave_it_in_force() -> None:
    part = {"provider": {"type": "annotations", "data": []}}
    reader = Scripted(a=[Said({"text": "a"})], s=[Finish("stop")], p=[Said(part)])
    told = heard(b"data: a\n\ndata: s\n\ndata: p\n\n", reader=reader)
    assert (told.deltas, told.finish) == ([{"text": "a"}, part], "stop")


def test_an_answer_of_nothing_is_none_unless_the_provider_says_so() -> None:
    for raw in (chunk("stop") + DONE, chunk("stop"), DONE):
        told = heard(raw)
        assert (told.error, told.refusal) == ("empty_answer", True)
        assert heard(raw, request=GenerationRequest("m", [], prefix="a")).error == ""
    empty = event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 0}})
    assert heard(chunk("stop") + empty + DONE).finish == "stop"
    assert heard(chunk("length") + DONE).finish == "length"
    assert heard(chunk("content_filter") + DONE).finish == "content_filter"


# -- how long it is waited for ----------------------------------------------------------------------


def test_signs_of_life_put_the_deadline_off_and_content_starts_over() -> None:
    answer = begun().answer
    assert answer.deadline == LIMITS.first_token_s
    answer.feed(b": hello\n", 50.0)
    assert answer.deadline == 50.0 + LIMITS.first_token_s
    answer.feed(b": hello\n", 290.0)
    assert answer.deadline == LIMITS.liveness_s
    answer.feed(chunk(content="a"), 299.0)
    assert answer.deadline == 299.0 + LIMITS.idle_s
    answer.feed(chunk(), 320.0)
    assert answer.deadline == 320.0 + LIMITS.idle_s
    for now in range(330, 599, 10):
        answer.feed(chunk(), now)
    assert answer.deadline == 299.0 + LIMITS.liveness_s
    answer.expire(599.0)
    assert answer.ended


def test_the_longest_time_in_which_we_were_slow_does_not_count() -> None:
    answer = begun().answer
    answer.feed(b": hello\n", 1000.0, unread_s=990.0)
    assert answer.deadline == 1000.0 + LIMITS.first_token_s
    for at in range(1000, 1291, 10):
        answer.feed(b": hello\n", float(at), unread_s=9.0)
    assert answer.deadline == 990.0 + LIMITS.liveness_s
    answer.feed(chunk(content="a"), 1290.0, unread_s=9.0)
    assert answer.deadline == 1290.0 + LIMITS.idle_s
    for at in range(1300, 1600, 10):
        answer.feed(b": hello\n", float(at), unread_s=9.0)
    assert answer.deadline == 1290.0 + 9.0 + LIMITS.liveness_s


@pytest.mark.parametrize(
    "noise",
    [
        b"\n",
        b":\n",
        b"x\n",
        b"data\n\n",
        b"data: {}\n\n",
        chunk(content=""),
        chunk(),
        b"data: " + b"x" * 8000,
        event({"choices": [{"delta": {}}] * 100}),
    ],
)
@pytest.mark.parametrize("seed", [b"", chunk(content="a"), chunk(reasoning="a")])
def test_a_firehose_of_nothing_is_given_up_long_before_a_timeout(noise: bytes, seed: bytes) -> None:
    told = heard(seed or b"data: {}\n\n", eof=False)
    piece, fed, began = noise * (30_000 // len(noise)), 0, time.process_time()
    while not told.answer.ended and fed < 64 << 20:
        told.answer.feed(piece, 1.0 + fed / 1e9, unread_s=0.001)
        fed += len(piece)
    assert told.read().error in ("provider_garbage", "provider_too_large")
    assert fed < 18 << 20
    assert time.process_time() - began < 3  # 0.1 s of an idle machine, where nothing bounds it: minutes


def test_a_provider_that_says_little_among_much_noise_is_given_up_too() -> None:
    told = begun()
    for at in range(100_000):
        told.answer.feed(chunk(content="a") + b":\n" * 100, 1.0 + at / 1e4)
        if told.answer.ended:
            break
    assert told.read().error == "provider_garbage"
    assert at < 1000


@pytest.mark.parametrize("noise", [b": ping\n\n", chunk(content=""), b"event: ping\ndata: {}\n\n"])
def test_signs_of_life_at_the_pace_of_a_hidden_reasoning_are_borne(noise: bytes) -> None:
    told = heard(chunk(content="a"), eof=False)
    for at in range(29_000):  # 100 a second
        told.answer.feed(noise, 1.0 + at / 100)
    told.answer.feed(chunk("stop") + DONE, 300.0)
    assert told.read().finish == "stop"


@pytest.mark.parametrize("noise", [b": ping\n", chunk(content="")])
def test_the_end_behind_a_reason_is_put_off_by_nothing(noise: bytes) -> None:
    told = heard(chunk(content="a"), chunk("stop"), eof=False)
    told.answer.feed(noise * 3, 5.0, unread_s=0.5)
    told.answer.expire(6.0)
    assert not told.answer.ended
    told.answer.expire(1.0 + END_WAIT_S + 0.5)
    assert told.read().finish == "stop"
    told = heard(chunk(content="a"), chunk("stop"), eof=False)
    for _ in range(40):
        told.answer.feed(noise * 1000, 2.0)
        while told.answer.behind:
            told.answer.feed(b"", 2.0)
    assert told.read().finish == "stop"


@pytest.mark.parametrize("count", [*range(360, 400, 5), 5000])
def test_a_feed_takes_a_bounded_part_and_loses_nothing(count: int) -> None:
    told, raw = begun(), b"".join(chunk(content=f"{n} ") for n in range(count)) + chunk("stop")
    told.answer.feed(raw, 1.0)
    most = 0
    while told.answer.behind:
        before = len(told.read().text)
        told.answer.feed_eof(1.0, cut=False)
        told.answer.feed(b"", 1.0)
        most = max(most, len(told.read().text) - before)
    told.answer.feed_eof(1.0, cut=False)
    assert told.read().finish == "stop"
    assert told.text == "".join(f"{n} " for n in range(count))
    assert most < TAKE_BYTES // 8


def test_calls_that_are_looked_at_again_and_again_cost_little() -> None:
    def call(**function: str) -> dict[str, Any]:
        return {"function": function}

    told, began = begun(limits=LIMITS._replace(max_bytes=16 << 20)), time.process_time()
    told.answer.feed(chunk(tool_calls=[call(name="f", arguments='{"a":"}')]), 1.0)
    for _ in range(100):
        told.answer.feed(chunk(tool_calls=[call(arguments="{}")] * 500), 1.0)
    many = [{"index": n, "id": f"c{n}", "function": {"name": "f", "arguments": "{"}} for n in range(1000)]
    for _ in range(20):
        for at in range(0, 1000, 100):
            told.answer.feed(chunk(tool_calls=many[at : at + 100]), 1.0)
    assert not told.read().answer.ended
    assert time.process_time() - began < 5  # 0.6 s of an idle machine; 30 s where each piece looks at all


def test_silence_from_the_start_is_a_first_token_timeout() -> None:
    told = begun()
    told.answer.expire(LIMITS.first_token_s)
    assert told.read().error == "first_token_timeout"


# -- bounds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
def test_an_answer_past_its_bytes_ends_with_its_length(plain: bool) -> None:
    delta = {"content": "ü" * 100} if plain else {"content": "ü" * 100, "refusal": ""}
    limits = LIMITS._replace(max_bytes=1000 + SEAM_BYTES)
    told = heard(b"data: {}\n\n", *[chunk(**delta)] * 6, eof=False, limits=limits)
    assert (told.text, told.finish, told.limit) == ("ü" * 500, "length", "answer_bytes")


@pytest.mark.parametrize(
    "calls",
    [
        [{"index": n, "name": "f"} for n in range(MAX_TOOL_CALLS + 1)],
        [{"index": 0, "id": "x" * (MAX_NAME + 1)}],
        [{"index": 0, "name": "x" * (MAX_NAME + 1)}],
    ],
)
def test_tool_calls_are_bounded(calls: list[dict[str, Any]]) -> None:
    reader = Scripted(a=[Said({"text": "a"})], c=[Said({"tool_call": call}) for call in calls])
    told = heard(b"data: a\n\ndata: c\n\n", eof=False, reader=reader)
    assert (told.finish, told.limit) == ("length", "tool_calls")
    assert len(told.deltas) == len(calls)


def test_an_event_that_is_too_large_is_left_out_and_the_text_lives() -> None:
    image = event({"choices": [{"delta": {"images": ["x" * 1_500_000]}}]})
    raw = chunk(content="a") + image + chunk(content="b") + chunk("stop") + DONE
    told = heard(*(raw[at : at + 60_000] for at in range(0, len(raw), 60_000)))
    assert (told.text, told.finish) == ("ab", "stop")
    assert told.parts == [{"type": "omitted", "data": "event"}]


def test_long_texts_come_in_pieces_and_mean_the_same() -> None:
    transcript = Transcript()
    for raw in (chunk(content="x" * 9000), chunk(content="y" * 9000, role="assistant", refusal="")):
        for delta in heard(raw).deltas:
            assert len(delta["text"]) <= 4096
            transcript.add(delta)
    assert transcript.text == "x" * 9000 + "y" * 9000


# -- bodies that are no stream of events ------------------------------------------------------------

ANSWER = {"object": "chat.completion", "choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}


class Whole(Scripted):
    def whole(self, value: Any) -> Iterable[ProviderEvent]:
        assert value == ANSWER
        return [Said({"text": "Hi"}), Finish("stop")]


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain", ""])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_answer_in_json_is_an_answer(kind: str, indent: int | None) -> None:
    raw = json.dumps(ANSWER, indent=indent).encode()
    for at in (0, 1, 7, len(raw)):
        told = heard(raw[:at], raw[at:], kind=kind, reader=Whole())
        assert (told.text, told.finish) == ("Hi", "stop")


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "text/plain"])
@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"error": {"message": "slow down", "code": 429}}', "provider_rate_limited"),
        (b'[{\n "error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}\n}]\n', "provider_refused"),
        (b'{"error": {"message": "who?", "code": "invalid_api_key"}}\n\ndata: [DONE]\n\n', "provider_auth"),
    ],
)
def test_an_error_under_status_200_is_that_error(kind: str, raw: bytes, code: str) -> None:
    assert heard(raw, kind=kind).error == code


def test_a_bare_error_in_mid_answer_is_one() -> None:
    told = heard(chunk(content="a") + b'{"error": {"message": "no", "code": 502}}\n')
    assert (told.text, told.error) == ("a", "provider_error_event")


@pytest.mark.parametrize("raw", [b"<!doctype html><p>Welcome", b"hello there", b"", b"{ not JSON", b"d"])
def test_a_body_that_is_no_answer_is_not_asked_for_again(raw: bytes) -> None:
    for at in range(len(raw) + 1):
        told = heard(raw[:at], raw[at:], kind="text/html")
        assert (told.error, told.refusal) == ("provider_garbage", True)


def test_an_endless_page_is_told_before_its_end() -> None:
    assert heard(b"<!doctype html>" + b"x" * 10_000, eof=False, kind="text/html").error == "provider_garbage"
    assert heard(b" " * 3_000_000, b"<p>", eof=False, kind="text/html").error == "provider_garbage"


# -- encodings --------------------------------------------------------------------------------------


def raw_deflate(data: bytes) -> bytes:
    packing = zlib.compressobj(wbits=-15)
    return packing.compress(data) + packing.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", WHOLE),
        (" ", WHOLE),
        ("identity", WHOLE),
        ("GZIP", gzip.compress(WHOLE)),
        ("x-gzip", gzip.compress(b"") + gzip.compress(WHOLE[:9]) + gzip.compress(WHOLE[9:]) + bytes(20)),
        ("deflate", zlib.compress(WHOLE)),
        ("deflate", raw_deflate(WHOLE)),
    ],
)
def test_a_packed_answer_is_unpacked_wherever_it_is_cut(encoding: str, packed: bytes) -> None:
    for reads in (
        [packed],
        [packed[at : at + 1] for at in range(len(packed))],
        [packed[at : at + 19] for at in range(0, len(packed), 19)],
    ):
        told = heard(*reads, encoding=encoding)
        assert (told.text, told.finish) == ("流れ\n👩 ü", "stop")


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", lambda: WHOLE),
        ("br", lambda: WHOLE),
        ("deflate", lambda: b"\xff" * 50),
        ("gzip", lambda: gzip.compress(bytes(50_000_000))),
        ("gzip", lambda: gzip.compress(b"") * 20_000),
    ],
)
def test_a_body_that_can_not_be_unpacked_is_garbage(encoding: str, packed: Callable[[], bytes]) -> None:
    assert heard(packed(), eof=False, encoding=encoding).error == "provider_garbage"


def test_the_end_mark_of_a_reader_of_its_own_ends_it() -> None:
    assert heard(b"data: e\n\n", eof=False, reader=Scripted(e=[Said({"text": "a"}), End()])).finish == "other"
