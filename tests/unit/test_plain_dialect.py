"""The plain dialects, event by event."""

import pytest

from api.dialects.plain import PlainBatchDialect, PlainDialect
from api.viewing.batching import gather
from shared.protocol.cursor import Cursor
from shared.protocol.events import encode_data
from shared.protocol.sse import SseParser
from shared.store.log import Entry

PIECES = [("message", {"text": "a"}), ("message", {"text": "b"})]
ENDS = {
    "failed": {"code": "upstream_cut", "message": "Cut."},
    "cancelled": {"reason": "requested"},
    "restart": {"attempt": 2},
}


def told(dialect: PlainDialect, events: list[tuple[str, dict]]) -> list[tuple[str, str]]:
    """The names and ids of what a viewer gets of these in one batch."""
    entries = [Entry(Cursor(1, n), kind, encode_data(data)) for n, (kind, data) in enumerate(events)]
    return [(event.event, event.id) for event in SseParser().feed(dialect.batch(gather(entries)))]


@pytest.mark.parametrize("end", ENDS)
def test_the_last_batch_is_not_the_error_behind_it(end: str) -> None:
    events = [*PIECES, (end, ENDS[end])]
    assert told(PlainBatchDialect("S"), events) == [("batch", "S/1-1"), ("error", "S/1-2")]


def test_the_last_batch_of_a_whole_answer_is_its_end() -> None:
    events = [*PIECES, ("finishing", {}), ("done", {})]
    assert told(PlainBatchDialect("S"), events) == [("final", "S/1-3")]


def test_raw_text_in_batches_is_one_message_for_each_batch() -> None:
    events = [("started", {}), *PIECES, ("finishing", {}), ("done", {})]
    assert told(PlainDialect("S"), events) == [("message", "S/1-2"), ("done", "S/1-4")]
