"""Logs made up by chance, whole and trimmed: for tests of dialects."""

from typing import Any

from hypothesis import strategies as st

from shared.protocol.cursor import Cursor
from shared.protocol.events import OPENINGS, decode_data, encode_data
from shared.protocol.transcript import snapshot_lines
from shared.store.log import Entry
from shared.store.streams import Reading

TEXTS = st.text(min_size=1, max_size=6)
DELTAS = st.one_of(
    st.builds(lambda text: {"text": text}, TEXTS),
    st.builds(lambda text: {"reasoning": text}, TEXTS),
    st.builds(lambda data: {"provider": {"type": "t", "data": data}}, TEXTS),
    st.builds(lambda n, text: {"tool_call": {"index": n, "arguments": text}}, st.integers(0, 2), TEXTS),
    st.builds(
        lambda n, text: {"tool_call": {"index": n, "id": f"id{n}", "name": f"tool{n}", "arguments": text}},
        st.integers(0, 2),
        TEXTS,
    ),
)
HOLDS = st.sampled_from(["waiting", "paused", "resumed"])
SAID = st.lists(st.one_of(DELTAS, HOLDS), max_size=25)
ATTEMPTS = st.lists(SAID, min_size=1, max_size=3)


def named(said: list[Any], known: set[int]) -> list[Any]:
    """The same, where the first piece of each call has its id."""
    told = []
    for one in said:
        call = one.get("tool_call") if isinstance(one, dict) else None
        if call is not None and call["index"] not in known:
            known.add(call["index"])
            one = {"tool_call": {"id": f"id{call['index']}", "name": "tool", **call}}
        told.append(one)
    return told


def log_of(attempts: list[list[Any]]) -> list[Entry]:
    """A whole log: queued, then each attempt behind its opening, and the end."""
    known: set[int] = set()
    entries = [Entry(Cursor(1000, 0), "queued", b"{}")]
    for number, said in enumerate(attempts):
        epoch = 2000 + 100 * number
        kind = "continued" if number else "started"
        entries.append(Entry(Cursor(epoch, 0), kind, b"{}", entries[-1].cursor))
        for n, one in enumerate(named(said, known), 1):
            cursor = Cursor(epoch, n)
            if isinstance(one, str):
                entries.append(Entry(cursor, one, b"{}"))
            else:
                entries.append(Entry(cursor, "message", encode_data(one)))
    last = entries[-1].cursor
    entries.append(Entry(Cursor(last.epoch, last.n + 1), "done", encode_data({"finish_reason": "stop"})))
    return entries


def delta_of(entry: Entry) -> dict[str, Any] | None:
    return decode_data(entry.data) if entry.type == "message" else None


def trimmed(entries: list[Entry], as_of: int, **record: str) -> Reading:
    """What a record tells whose snapshot reaches up to the entry of this index, and what comes behind it. The text
    begins with the first attempt."""
    openings = [place for place, entry in enumerate(entries) if entry.type in OPENINGS]
    deltas = [found for entry in entries[1 : as_of + 1] if (found := delta_of(entry)) is not None]
    told = {
        "attempt": str(len(openings)),
        "snapshot_id": str(entries[as_of].cursor),
        "text_from": str(entries[1].cursor),
        "text_index": "1",
        "index": str(openings[-1]),
    }
    return Reading({**told, **record}, snapshot_lines(deltas), entries[as_of + 1 :])
