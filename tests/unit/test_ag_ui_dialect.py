"""AG-UI's events, pure: wherever a run is cut, resumed or trimmed, a client's verifier takes them, and its messages
are those of an uncut run. (:mod:`tests.integration.test_ag_ui_cuts` does so with the clients themselves.)"""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dialects.ag_ui import AgUiDialect, TanStackDialect, place_of
from api.dialects.base import About
from api.viewing.viewer import resync
from shared.protocol.cursor import BadCursor, Cursor
from shared.protocol.events import encode_data
from shared.store.log import Entry
from tests.support.made_logs import DELTAS, named, trimmed

STREAM = "s" * 24
ASKED = json.dumps(
    {"ag-ui": {"threadId": "thread", "runId": "run", "parentRunId": "before", "protocolVersion": "1.0"}}
)
KINDS = st.sampled_from([AgUiDialect, TanStackDialect])
ANSWERS = st.lists(st.one_of(DELTAS, st.just("waiting")), max_size=20)


def spoken(kind: type[AgUiDialect], text_index: int = 0) -> AgUiDialect:
    return kind(About(STREAM, "local/model", 1000, text_index, ASKED))


def log_of(said: list[Any], end: str = "done") -> list[Entry]:
    """A whole log; the first piece of each call has its id and name."""
    entries = [Entry(Cursor(100, 0), "queued", b"{}"), Entry(Cursor(200, 0), "started", b"{}", Cursor(100, 0))]
    for n, one in enumerate(named(said, set()), 1):
        kind, data = (one, b"{}") if isinstance(one, str) else ("message", encode_data(one))
        entries.append(Entry(Cursor(200, n), kind, data))
    last = {"done": {"finish_reason": "stop"}, "cancelled": {"by": "client", "reason": "requested"}}.get(
        end, {"code": "x", "message": "y", "retryable": True}
    )
    return [*entries, Entry(Cursor(200, len(said) + 1), end, encode_data(last))]


class Client:
    """A client's verifier and its messages, as @ag-ui/client 1.0.0 has them."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.open: set[tuple[str, str]] = set()
        self.ended = ""
        self.last = ""

    def run(self, sse: str) -> None:
        """One connection."""
        self.open, self.ended, first = set(), "", True
        for event in re.findall(r"(.*?)\n\n", sse, re.DOTALL):
            found = re.search(r"^id: (.*)$", event, re.MULTILINE)
            self.last = found[1] if found else self.last
            told = json.loads(re.search(r"^data: (.*)$", event, re.MULTILINE)[1])  # type: ignore[index]
            assert None not in told.values()
            assert first == (told["type"] == "RUN_STARTED")
            assert not self.ended
            first = False
            self.take(told)

    def take(self, told: dict[str, Any]) -> None:
        kind, _, what = told["type"].rpartition("_")
        match told["type"]:
            case "RUN_STARTED":
                assert (told["threadId"], told["runId"], told["parentRunId"]) == ("thread", "run", "before")
            case "RUN_FINISHED":
                assert not self.open
                self.ended = told.get("outcome", {"type": "success"})["type"]
            case "RUN_ERROR":
                self.ended = told["code"]
            case "REASONING_ENCRYPTED_VALUE":
                self.messages[told["entityId"]]["kept"] = told["encryptedValue"]
            case "CUSTOM":
                assert told["name"] == "tool-input-available"
            case _:
                name = told.get("messageId") or told["toolCallId"]
                entity = (kind, name)
                if what == "START":
                    assert entity not in self.open
                    self.open.add(entity)
                    self.messages.setdefault(name, {"said": ""})
                    self.messages.setdefault(told.get("parentMessageId", name), {"said": ""})
                    return
                assert entity in self.open
                if what == "END":
                    self.open.remove(entity)
                else:
                    self.messages[name]["said"] += told["delta"]


@given(KINDS, ANSWERS, st.sampled_from(["done", "cancelled", "failed"]), st.data())
def test_a_run_cut_anywhere_goes_on_to_the_same_messages(
    kind: type[AgUiDialect], said: list[Any], end: str, data: st.DataObject
) -> None:
    entries = log_of(said, end)
    dialect = spoken(kind)
    whole = dialect.batch(entries).decode()
    uncut = Client()
    uncut.run(whole)
    assert uncut.ended == {"done": "success", "failed": "x"}.get(end, end)
    for wanted in ("text", "reasoning"):
        ids = [
            name for name in uncut.messages if (name == STREAM) == (wanted == "text") and name.startswith(STREAM)
        ]
        told = "".join(uncut.messages[name]["said"] for name in ids)
        assert told == "".join(one.get(wanted, "") for one in said if isinstance(one, dict))
    client, rest = Client(), whole
    for _ in range(data.draw(st.integers(1, 4))):
        events = re.findall(r".*?\n\n", rest, re.DOTALL)
        client.run("".join(events[: data.draw(st.integers(0, len(events) - 1))]))
        place = place_of(client.last)
        place = None if place == Cursor(0, 0) else place
        twin = dialect.at(place)
        assert twin is not None
        behind = [entry for entry in entries if place is None or entry.cursor > place]
        rest = (twin.greeting() + twin.batch(behind)).decode()
    client.run(rest)
    assert (client.messages, client.ended) == (uncut.messages, uncut.ended)


@given(KINDS, ANSWERS, st.data())
def test_a_trimmed_run_has_the_same_messages(kind: type[AgUiDialect], said: list[Any], data: st.DataObject) -> None:
    entries = log_of(said)
    uncut = Client()
    uncut.run(spoken(kind).batch(entries).decode())
    as_of = data.draw(st.integers(1, len(entries) - 2))
    first = data.draw(st.integers(1, as_of))
    reading = trimmed(entries, as_of)
    found = resync(spoken(kind, 1), reading, entries[first : as_of + 1])
    late = Client()
    late.run(found.head.decode() + _behind(kind, entries, as_of))
    assert (late.messages, late.ended) == (uncut.messages, "success")
    for place in range(first, len(entries) - 1):
        twin = found.dialect.at(entries[place].cursor)
        assert twin is not None
        came_back = (twin.greeting() + twin.batch(entries[place + 1 :])).decode()
        straight = spoken(kind)
        straight.batch(entries)
        other = straight.at(entries[place].cursor)
        assert other is not None
        assert came_back == (other.greeting() + other.batch(entries[place + 1 :])).decode()


def _behind(kind: type[AgUiDialect], entries: list[Entry], as_of: int) -> str:
    dialect = spoken(kind)
    dialect.batch(entries[: as_of + 1])
    return dialect.batch(entries[as_of + 1 :]).decode()


def test_events_repeated_on_resume_carry_the_cursor_resumed_from() -> None:
    dialect = spoken(AgUiDialect)
    dialect.batch(log_of([{"reasoning": "a"}, {"text": "b"}, {"tool_call": {"index": 0, "arguments": "{}"}}]))
    twin = dialect.at(Cursor(200, 3))
    assert twin is not None
    events = [event for event in twin.greeting().decode().split("\n\n") if event]
    assert [json.loads(event.partition("data: ")[2])["type"] for event in events] == [
        "RUN_STARTED",
        "TOOL_CALL_START",
    ]
    assert all(event.startswith("id: 200-3\n") for event in events)


def test_a_stream_that_no_run_made_has_its_own_id_as_that_of_its_run() -> None:
    said = AgUiDialect(About(STREAM, "local/model", 1000, 0)).batch(log_of([])).decode()
    assert f'"threadId":"{STREAM}","runId":"{STREAM}"' in said


def test_an_error_is_the_end_of_what_is_said_of_a_second_beginning() -> None:
    dialect = spoken(AgUiDialect)
    dialect.batch(log_of([{"text": "a"}])[:-1])
    again = [Entry(Cursor(300, 0), "started", b"{}"), Entry(Cursor(300, 1), "message", b'{"text":"x"}')]
    assert '"code":"restarted"' in dialect.batch(again).decode()
    assert '"delta":"x"' not in dialect.batch(again).decode()


def test_only_tanstack_s_client_is_left_without_an_error_when_its_connection_ends() -> None:
    assert b"connection_ended" in spoken(AgUiDialect).parting()
    assert spoken(TanStackDialect).parting() == b""


@pytest.mark.parametrize("wrong", ["x", "1", "1-1.", "1-1.x", "1-1.٣", ".1"])
def test_a_place_that_is_none_is_told(wrong: str) -> None:
    if wrong == ".1":
        assert place_of(wrong) is None
        return
    with pytest.raises(BadCursor):
        place_of(wrong)


def test_a_tool_s_event_leads_to_the_entry_in_front_of_the_end() -> None:
    said = spoken(TanStackDialect).batch(log_of([{"tool_call": {"index": 0, "arguments": '{"a": 1}'}}])).decode()
    assert "id: 200-1.0\ndata: " in said
    assert '"input":{"a":1}' in said
    assert place_of("200-1.0") == Cursor(200, 1)


def test_arguments_that_no_client_could_read_are_told_as_the_model_said_them() -> None:
    """JSON that nests without end raised in the hub, which ended the process and all its viewers."""
    deep = "[" * 5000
    said = spoken(TanStackDialect).batch(log_of([{"tool_call": {"index": 0, "arguments": deep}}])).decode()
    assert f'"input":"{deep}"' in said
