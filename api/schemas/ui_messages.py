"""What the AI SDK's ``useChat`` sends: UI messages, as turns of the one form (:mod:`api.schemas.messages`). Pure.

Theory of operation. A UI message has *parts*. Those of the assistant may stand in several *steps*; each step is an
assistant's turn, and behind it the outcomes of its tool calls. The rules are those of the SDK's own
``convertToModelMessages`` (npm's ``ai`` 7.0.173), with these exceptions:

- A client may ask something else before its tool has answered. No provider takes a call without an outcome, so such
  a call is left out. In the last message it is refused.
- Files of users are images; another file is refused. Files, sources and data of the assistant are for people.
- ``data-provider`` parts, which :mod:`api.dialects.ai_sdk` made, go back to the provider that they came from.
- The signatures that the SDK's own providers put beside reasoning and calls (Anthropic's and Google's) are
  understood, so that a conversation may have begun at another server.

Parts that are not known are passed over: the SDK adds new ones, and a client sends back whatever its messages hold.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from api.schemas.messages import MAX_MESSAGES, PlainJson
from api.schemas.requests import CreateStream

MAX_PARTS: Final = 1000
"""Of one message: an agent's message has some ten for each of its steps."""
MAX_ID: Final = 200
"""Of a chat's id and of a message's: the SDK's own have 16 characters."""
DENIED_TEXT: Final = "Tool call execution denied."
"""The SDK's own sentence."""

_Part = dict[str, Any]
_Turn = dict[str, Any]


class UiMessage(BaseModel):
    """One message, as the SDK keeps it."""

    model_config = ConfigDict(strict=True, hide_input_in_errors=True)

    id: Annotated[str, Field(max_length=MAX_ID)] = ""
    role: Literal["system", "user", "assistant"]
    metadata: Annotated[Any, PlainJson] = None
    parts: Annotated[list[_Part], Field(max_length=MAX_PARTS), PlainJson]


class ChatRequest(BaseModel):
    """The body of a ``POST /api/chat``. Beside these fields it may have those of :class:`CreateStream` but for
    ``prompt``."""

    model_config = ConfigDict(extra="allow", strict=True, hide_input_in_errors=True)

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID, description="the chat's")]
    messages: Annotated[list[UiMessage], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    message_id: Annotated[str | None, Field(alias="messageId", max_length=MAX_ID)] = None
    _turns: list[_Turn] = PrivateAttr(default_factory=list)
    _places: list[int] = PrivateAttr(default_factory=list)
    """The message of each turn."""

    @model_validator(mode="after")
    def understood(self) -> "ChatRequest":
        for place, message in enumerate(self.messages):
            try:
                turns = list(_turns(message))
            except ValueError as error:
                raise ValueError(f"messages.{place}: {error}") from None
            self._turns += turns
            self._places += [place] * len(turns)
        last = self.messages[-1]
        if last.role == "assistant" and any(_outcome(part) is None for part in _tools(last.parts)):
            raise ValueError("a tool call of the last message has no output yet: tools run at the caller")
        return self

    def asked(self, on_failure: str) -> CreateStream:
        """What is to be created; ``on_failure`` where the caller did not say. Raises ``ValidationError``, whose
        places :meth:`place` knows."""
        fields = {name: value for name, value in (self.model_extra or {}).items() if value is not None}
        return CreateStream.model_validate({"on_failure": on_failure, **fields, "messages": self._turns})

    def place(self, found: Sequence[str | int]) -> tuple[str | int, ...]:
        """Where the body has what a fault of :meth:`asked` is about."""
        match found:
            case ["messages", int(turn), *_] if turn < len(self._places):
                return "messages", self._places[turn], "parts"
        return tuple(found)

    def continued(self) -> UiMessage | None:
        """The assistant's message that the answer continues; None where a new one begins."""
        last = self.messages[-1]
        return last if last.role == "assistant" and last.id else None


def _turns(message: UiMessage) -> Iterator[_Turn]:
    match message.role:
        case "system":
            text = "".join(_texts(message.parts))
            if text:
                yield {"role": "system", "content": text}
        case "user":
            content = [found for part in message.parts if (found := _shown(part)) is not None]
            if not content:
                raise ValueError("a user's message has text or an image")
            yield {"role": "user", "content": _plain(content)}
        case "assistant":
            for step in _steps(message.parts):
                yield from _step(step)


def _plain(content: list[_Part]) -> Any:
    """One text alone is a string."""
    match content:
        case [{"type": "text", "text": text}]:
            return text
    return content


def _texts(parts: list[_Part]) -> list[str]:
    return [part["text"] for part in parts if part.get("type") == "text" and isinstance(part.get("text"), str)]


def _shown(part: _Part) -> _Part | None:
    """A user's text or image; None for what is for people. Raises ValueError for a file that is no image."""
    if part.get("type") == "text":
        return {"type": "text", "text": part.get("text")} if part.get("text") != "" else None
    if part.get("type") != "file":
        return None
    if not str(part.get("mediaType", "")).startswith("image/"):
        raise ValueError("a file must be an image here, with its mediaType. Send its text as a text part")
    return {"type": "image_url", "image_url": {"url": part.get("url")}}


def _steps(parts: list[_Part]) -> Iterator[list[_Part]]:
    step: list[_Part] = []
    for part in parts:
        if part.get("type") == "step-start":
            yield step
            step = []
        else:
            step.append(part)
    yield step


def _step(parts: list[_Part]) -> Iterator[_Turn]:
    """One step: the assistant's turn, and a tool's turn for each outcome."""
    outcomes = [(part, outcome) for part in _tools(parts) if (outcome := _outcome(part)) is not None]
    turn: _Turn = {"role": "assistant"}
    content = [*_thinking(parts), *({"type": "text", "text": text} for text in _texts(parts) if text)]
    if content:
        turn["content"] = _plain(content)
    reasoning = "".join(
        str(part.get("text", "")) for part in parts if part.get("type") == "reasoning" and not _signed(part)
    )
    if reasoning:
        turn["reasoning"] = reasoning
    if outcomes:
        turn["tool_calls"] = [_call(part) for part, _ in outcomes]
    turn |= _of_provider(parts)
    if len(turn) > 1:
        yield turn
    for part, outcome in outcomes:
        yield {"role": "tool", "tool_call_id": part.get("toolCallId"), "name": _name(part), "content": outcome}


def _tools(parts: list[_Part]) -> list[_Part]:
    """The calls, but for those that a provider ran itself."""
    return [part for part in parts if _is_tool(part) and not part.get("providerExecuted")]


def _is_tool(part: _Part) -> bool:
    kind = part.get("type")
    return kind == "dynamic-tool" or (isinstance(kind, str) and kind.startswith("tool-"))


def _name(part: _Part) -> Any:
    return part.get("toolName") if part["type"] == "dynamic-tool" else part["type"].removeprefix("tool-")


def _outcome(part: _Part) -> str | None:
    """The outcome of a call as text; None where it has none yet."""
    approval = part.get("approval")
    approval = approval if isinstance(approval, dict) else {}
    match part.get("state"):
        case "output-available":
            output = part.get("output")
            return output if isinstance(output, str) else _json(output)
        case "output-error":
            return str(part.get("errorText") or "The tool failed.")
        case "output-denied":
            return str(approval.get("reason") or DENIED_TEXT)
        case "approval-responded" if approval.get("approved") is False:
            return str(approval.get("reason") or DENIED_TEXT)
    return None


def _call(part: _Part) -> _Part:
    asked = part.get("input")
    asked = part.get("rawInput") if asked is None else asked
    call = {"id": part.get("toolCallId"), "name": _name(part)}
    call["arguments"] = asked if isinstance(asked, str) else _json({} if asked is None else asked)
    signature = _metadata(part, "callProviderMetadata", "google").get("thoughtSignature")
    return {**call, "thought_signature": signature} if signature else call


def _thinking(parts: list[_Part]) -> Iterator[_Part]:
    """Reasoning that the SDK's Anthropic provider signed."""
    for part in parts:
        if part.get("type") == "reasoning" and (signed := _signed(part)):
            if "signature" in signed:
                yield {"type": "thinking", "thinking": part.get("text", ""), "signature": signed["signature"]}
            else:
                yield {"type": "redacted_thinking", "data": signed["redactedData"]}


def _signed(part: _Part) -> Mapping[str, Any]:
    told = _metadata(part, "providerMetadata", "anthropic")
    return told if "signature" in told or "redactedData" in told else {}


def _metadata(part: _Part, name: str, provider: str) -> Mapping[str, Any]:
    found = part.get(name)
    found = found.get(provider) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _of_provider(parts: list[_Part]) -> _Turn:
    """The ``data-provider`` parts of a step, and whose they are."""
    told = [part["data"] for part in parts if part.get("type") == "data-provider" and "data" in part]
    told = [data for data in told if isinstance(data, dict)]
    names = {str(data.get("provider") or "") for data in told}
    if not told:
        return {}
    found: _Turn = {"provider_parts": [{"type": data.get("type"), "data": data.get("data")} for data in told]}
    return {**found, "provider": names.pop()} if len(names) == 1 and "" not in names else found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
