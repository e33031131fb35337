"""Viewers that read in a dialect: whatever dies, what they assemble is the answer, once and in order.

A dialect that can't take back what it said may end with its error where a native viewer gets ``restart`` or a
``snapshot``: then what it showed is the beginning of one of the provider's answers, and nothing followed it.
"""

import json
import random
import time
from collections.abc import Mapping
from typing import Any, Final

from api.dialects.endings import GONE_TEXT, LOST_TEXT, PARTING_TEXT, RESTARTED_TEXT
from shared.protocol.sse import ServerSentEvent
from tests.chaos.invariant import Facts, against_provider, of_record
from tests.chaos.viewer import Answer, Seen, Viewer

CUT_SHORT: Final = ("restarted", "text_lost", "stream_gone")
"""Codes of an error that ends a viewer's answer, and not its stream's."""
PARTING: Final = "connection_ended"


class SpokenViewer(Viewer):
    """A viewer of a dialect. Its ``answer`` is what the dialect's own client would assemble."""

    dialect = ""

    @property
    def last_id(self) -> str:
        """As EventSource has it: an event without an id leaves the one before."""
        return next((seen.id for seen in reversed(self.events) if seen.id), "")

    def take(self, event: ServerSentEvent) -> None:
        kind, data = self.read_event(event)
        if kind != PARTING:
            self.events.append(Seen(time.monotonic(), self.responses, event.id, kind, data))

    def read_event(self, event: ServerSentEvent) -> tuple[str, dict[str, Any]]:
        """Assemble. Out: the native word for what came (``message``, ``done``, ``failed``, ``connection_ended``),
        and for a failure its ``code``."""
        raise NotImplementedError


class OpenAIViewer(SpokenViewer):
    """Reads chat completion chunks."""

    dialect = "openai"

    def read_event(self, event: ServerSentEvent) -> tuple[str, dict[str, Any]]:
        if event.data == "[DONE]":
            return "done", {}
        data = json.loads(event.data)
        if error := data.get("error"):
            return (PARTING if error["code"] == PARTING else "failed"), {"code": error["code"]}
        for choice in data["choices"]:
            delta: Mapping[str, Any] = choice["delta"]
            self.answer.text += delta.get("content") or ""
            self.answer.reasoning += delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or []:
                self.answer.arguments += call["function"]["arguments"]
        return "message", {}


class ResponsesViewer(SpokenViewer):
    """Reads the events of OpenAI's Responses, whose numbers rise by one."""

    dialect = "responses"
    number = -1

    def read_event(self, event: ServerSentEvent) -> tuple[str, dict[str, Any]]:
        data = json.loads(event.data)
        if data["type"] == "error":
            return (PARTING if data["code"] == PARTING else "failed"), {"code": data["code"]}
        number = data["sequence_number"]
        if number <= self.number:  # the events of an entry within which it was cut off come again
            return "message", {}
        if number != self.number + 1:
            self.trouble.append(f"{data['type']} has the number {number} behind {self.number}")
        self.number = number
        delta = data.get("delta", "")
        match data["type"]:
            case "response.output_text.delta":
                self.answer.text += delta
            case "response.reasoning_summary_text.delta":
                self.answer.reasoning += delta
            case "response.function_call_arguments.delta":
                self.answer.arguments += delta
            case "response.completed":
                return "done", {}
            case "response.failed":
                return "failed", {"code": data["response"]["error"]["type"]}
            case "response.incomplete":
                return ("done" if data["response"]["status"] == "incomplete" else "failed"), {}
        return "message", {}


class AgUiViewer(SpokenViewer):
    """Reads the events of AG-UI."""

    dialect = "ag-ui"

    def read_event(self, event: ServerSentEvent) -> tuple[str, dict[str, Any]]:
        data = json.loads(event.data)
        match data["type"]:
            case "TEXT_MESSAGE_CONTENT":
                self.answer.text += data["delta"]
            case "REASONING_MESSAGE_CONTENT":
                self.answer.reasoning += data["delta"]
            case "TOOL_CALL_ARGS":
                self.answer.arguments += data["delta"]
            case "RUN_FINISHED":
                return "done", {}
            case "RUN_ERROR":
                return (PARTING if data["code"] == PARTING else "failed"), {"code": data["code"]}
        return "message", {}


class AiSdkViewer(SpokenViewer):
    """Reads the parts of the AI SDK's UI message stream: all of them again whenever it comes back."""

    dialect = "ai-sdk"
    ended_by = ""
    """The part that says that nothing whole comes: ``[DONE]`` follows it all the same."""

    @property
    def last_id(self) -> str:
        return ""

    async def read(self, url: str, *, most: int = 0, slowly: bool = False) -> None:
        self.answer, self.events, self.ended_by = Answer(), [], ""
        await super().read(url, most=most * 4, slowly=slowly)

    def read_event(self, event: ServerSentEvent) -> tuple[str, dict[str, Any]]:
        if event.data == "[DONE]":
            return {"error": PARTING, "abort": "failed"}.get(self.ended_by, "done"), {}
        data = json.loads(event.data)
        match data["type"]:
            case "text-delta":
                self.answer.text += data["delta"]
            case "reasoning-delta":
                self.answer.reasoning += data["delta"]
            case "tool-input-delta":
                self.answer.arguments += data["inputTextDelta"]
            case "error":
                self.ended_by = "error"
                code = _CODES.get(data["errorText"], "")
                return (PARTING if code == PARTING else "failed"), {"code": code}
            case "abort":
                self.ended_by = "abort"
        return "message", {}


_CODES: Final = {
    PARTING_TEXT: PARTING,
    RESTARTED_TEXT: "restarted",
    LOST_TEXT: "text_lost",
    GONE_TEXT: "stream_gone",
}
"""What an error's text stands for, where it has no code."""
DIALECTS: Final[tuple[type[SpokenViewer], ...]] = (OpenAIViewer, ResponsesViewer, AgUiViewer, AiSdkViewer)


def spoken_viewer(habit: str, rng: random.Random) -> SpokenViewer:
    """A viewer of one of the dialects."""
    return rng.choice(DIALECTS)(habit)


def judge_spoken(facts: Facts, viewer: SpokenViewer, *, lost: bool) -> list[str]:
    """Everything that is wrong with what this viewer saw. ``lost``: a fault may have taken something away."""
    found = list(viewer.trouble)
    end, record = viewer.terminal, facts.record
    code = "" if end is None else str(end.data.get("code", ""))
    if end is not None and end is not viewer.events[-1]:
        found.append("something followed the end")
    if end is None and viewer.status != 404:
        found.append("it never ended")
    elif lost or record is None or code in CUT_SHORT or end is None:
        found += against_provider(facts, "", viewer.answer)
    elif viewer.answer != of_record(record):
        found.append("what it assembled differs from the record")
    elif (end.kind == "done") != (record["status"] == "done"):
        found.append(f"it saw {end.kind} {code}, but the record says {record['status']}")
    return [f"viewer of {viewer.dialect} ({viewer.habit}): {text}" for text in found]
