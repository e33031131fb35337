"""One answer, built from its events: what is known, and what a view must show. Pure, no I/O.

Theory of operation. Each event updates the state and gives *changes* for a view, in order. A view that has shown
all changes since the last ``anew`` shows exactly the answer. ``restart`` starts over, and so does ``started`` if
there is text already. A ``snapshot`` is everything said so far. If it only adds to the known text, the addition is
the change; otherwise the text starts over with it. Unknown events change nothing, because a later server may send
more kinds.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from shared.protocol.events import (
    CANCELLED,
    CONTINUED,
    DONE,
    FAILED,
    FRESH,
    MESSAGE,
    PAUSED,
    RESTART,
    RESUMED,
    SNAPSHOT,
    TERMINAL,
    WAITING,
    decode_data,
)
from shared.protocol.sse import ServerSentEvent
from shared.protocol.transcript import Transcript

Kind = Literal["text", "reasoning", "anew", "note"]


@dataclass(frozen=True, slots=True)
class Change:
    """A change to show: a piece of ``text`` or ``reasoning``; ``anew``: everything shown so far is void, and why;
    or a ``note``."""

    kind: Kind
    text: str


class BadEvent(ValueError):
    """The server sent something that is no event of Headrace."""


class AnswerState:
    """What is known of one answer. ``ending``: the terminal event's type; '' while it runs."""

    def __init__(self) -> None:
        self.transcript = Transcript()
        self.cursor = ""
        self.model = ""
        self.attempt = 0
        self.pieces = 0
        self.ending = ""
        self.result: dict[str, Any] = {}

    def take(self, event: ServerSentEvent) -> list[Change]:
        """Apply one event. Out: the changes to show. Raises :class:`BadEvent`."""
        try:
            data = decode_data(event.data.encode("utf-8", "surrogatepass"))
            changes = self._changes(event.event, data)
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadEvent(f"an event {event.event!r} that can't be read") from error
        self.cursor = event.id or self.cursor
        return changes

    def _changes(self, kind: str, data: dict[str, Any]) -> list[Change]:
        if kind == MESSAGE:
            self.pieces += 1
            self.transcript.add(data)
            return [Change(said, data[said]) for said in ("text", "reasoning") if data.get(said)]
        self.model = data.get("model") or self.model
        self.attempt = data.get("attempt") or self.attempt
        if kind in TERMINAL:
            self.ending, self.result = kind, data
        elif kind == SNAPSHOT:
            return self._replace(data)
        elif kind in FRESH:
            return self._begin(kind)
        elif kind == WAITING:
            return [Change("note", f"Waiting for a turn at {data.get('provider')}: place {data.get('place')}.")]
        elif kind in (PAUSED, RESUMED):
            return [Change("note", "Paused: nobody watched." if kind == PAUSED else "Resumed.")]
        elif kind == CONTINUED:
            return [Change("note", f"Attempt {self.attempt} continues after the last word.")]
        return []

    def _begin(self, kind: str) -> list[Change]:
        old, self.transcript, self.pieces = self.transcript, Transcript(), 0
        if kind != RESTART and not (old.text or old.reasoning):
            return []
        return [Change("anew", f"An attempt was lost, and attempt {self.attempt} starts over.")]

    def _replace(self, data: dict[str, Any]) -> list[Change]:
        old, self.transcript = self.transcript, Transcript()
        for said in ("reasoning", "text"):
            self.transcript.add({said: data.get(said) or ""})
        for call in data.get("tool_calls") or ():
            self.transcript.add({"tool_call": {name: value for name, value in call.items() if value is not None}})
        new = self.transcript
        if new.text.startswith(old.text) and new.reasoning.startswith(old.reasoning):
            more = (
                Change("reasoning", new.reasoning[len(old.reasoning) :]),
                Change("text", new.text[len(old.text) :]),
            )
        else:
            more = Change("reasoning", new.reasoning), Change("text", new.text)
            return [Change("anew", "The server's text differs; all of it follows."), *(c for c in more if c.text)]
        return [change for change in more if change.text]


def summary(answer: AnswerState) -> str:
    """The line below an answer, for people: how it ended, and its figures."""
    result = answer.result
    parts: list[str] = [answer.model] if answer.model else []
    if answer.ending == CANCELLED:
        parts.append("stopped")
    if answer.ending == FAILED:
        parts.append(f"failed: {result.get('message') or result.get('code')}")
    if answer.ending == DONE:
        parts += _figures(result)
    if answer.attempt:
        parts.append(f"attempt {answer.attempt}")
    if money := _money(result.get("cost")):
        parts.append(money)
    if (why := result.get("finish_reason")) not in (None, "stop"):
        parts.append(f"ended by: {why}")
    return " · ".join(parts)


SHORTEST_MS: Final = 100
"""A shorter answer came in one piece, so its speed has no meaning."""


def _figures(result: dict[str, Any]) -> list[str]:
    tokens = (result.get("usage") or {}).get("output_tokens")
    timings = result.get("timings") or {}
    first_ms, total_ms = timings.get("first_token_ms"), timings.get("total_ms")
    found = [] if tokens is None else [f"{tokens} tokens"]
    if tokens and first_ms is not None and total_ms is not None and total_ms - first_ms >= SHORTEST_MS:
        found.append(f"{tokens * 1000 / (total_ms - first_ms):.0f} tokens/s")
    if first_ms is not None:
        found.append(f"first after {first_ms / 1000:.2f} s")
    return found


MICRO: Final = 6


def _money(cost: Any) -> str:
    """A cost in USD; '' if the price is unknown (an unknown price is never shown as 0)."""
    if isinstance(cost, dict):
        cost = next((cost[name] for name in ("usd", "total_usd", "total") if name in cost), None)
    if isinstance(cost, bool) or not isinstance(cost, int | float):
        return ""
    return f"${cost:.{MICRO}f}".rstrip("0").rstrip(".")
