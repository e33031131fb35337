"""Made-up logs in the dialect of OpenAI's Responses, for tests of it alone and of the libraries that read it."""

import json
from typing import Any

from api.dialects.base import About
from api.dialects.responses import ResponsesDialect
from shared.protocol.sse import SseParser
from shared.store.log import Entry

ASKED = json.dumps({"responses": {"background": True, "tools": [], "instructions": "be brief"}})


def spoken(text_index: int = 0) -> ResponsesDialect:
    """The dialect of a background response, in front of its log."""
    return ResponsesDialect(About("s", "p/m", 1_700_000_000_000, text_index, ASKED))


def events(raw: bytes) -> list[dict[str, Any]]:
    """The data of these events, each of which is named by its type."""
    found = [event for event in SseParser().feed(raw) if event.data]
    told = [json.loads(event.data) for event in found]
    assert [event.event for event in found] == [one["type"] for one in told]
    return told


def said(dialect: ResponsesDialect, entries: list[Entry]) -> list[bytes]:
    """What the dialect says for each entry."""
    return [dialect.entry(entry.cursor.encode(), entry.type, entry.data) for entry in entries]
