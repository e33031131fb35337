"""The turns of a conversation: one form for all wire formats; adapters translate it into their provider's.

A turn is ``system`` (or ``developer``), ``user``, ``assistant`` or ``tool``. ``content`` is a string or a list of
parts; only a user's and a tool's turn may hold images.

Theory of operation. There are two rules. Fields that callers write by hand are checked strictly: an unknown field
is refused. But an answer is accepted back as its record shows it, whatever the model produced: a call without an id
or with broken arguments, no text at all, parts that only their provider understands. The forms of other APIs
(OpenAI's tools, tool calls and image parts, Anthropic's blocks of thinking) are brought into the one form below
before it is validated, by the functions at the end. So the record, the adapters and the hash of a request know only
one form.

A list stops at its first wrong item (``fail_fast``): a body of half a megabyte may hold 20,000 of them, and
reporting each takes seconds.
"""

import base64
import binascii
import contextlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from shared.protocol.json_depth import levels

MAX_MESSAGES: Final = 1000
MAX_PARTS: Final = 100
"""Parts of one turn: as many images as the most generous provider takes."""
MAX_TOOLS: Final = 128
"""OpenAI's limit; other providers have none, or a higher one."""
MAX_PROVIDER_PARTS: Final = 10_000
"""Parts of one answer: the 1 MiB that such parts may take holds no more citations than that."""
MAX_KEPT_VALUES: Final = 20_000
"""JSON values in the texts by which clients of other protocols keep an answer's ``provider_parts``, of all messages
together: reading them takes less than 20 ms. (The values of a body are counted where it is read, but not those
within its texts.)"""
MAX_FIELDS: Final = 64
MAX_URL: Final = 2048
MAX_ID: Final = 10_000
"""Characters of a call's id: some gateways put a whole signature into it."""

Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""A tool's name that all providers take."""
CalledName = Annotated[str, Field(min_length=1, max_length=1000)]
"""The name in a model's call, which may name no tool at all."""
CallId = Annotated[str, Field(min_length=1, max_length=MAX_ID)]
ProviderName = Annotated[str, Field(min_length=1, max_length=40)]

NO_PARAMETERS: Final = {"type": "object", "properties": {}}
"""The schema of a tool that takes none."""

_NUMBERS: Final = (int, float)
_LEAST: Final = -(2**63)
_MOST: Final = 2**64


def check_json(value: Any) -> Any:
    """Check that any provider can parse this JSON. Out: the value, unchanged. Raises ValueError where it nests too
    deep, or a number is out of range."""
    for level in levels(value):
        if any(type(one) in _NUMBERS and not _LEAST <= one < _MOST for one in level):
            raise ValueError("a number here is out of range")
    return value


def check_kept(texts: Iterable[bytes]) -> None:
    """Check that these JSON texts hold no more than MAX_KEPT_VALUES together, before they are read. Raises
    ValueError."""
    if sum(text.count(b",") + text.count(b"[") + text.count(b"{") for text in texts) > MAX_KEPT_VALUES:
        raise ValueError(f"what is kept here for a provider holds more than {MAX_KEPT_VALUES} values")


PlainJson: Final = AfterValidator(check_json)
JsonObject = Annotated[dict[str, Any], PlainJson]


class Strict(BaseModel):
    """A model for fields that callers write by hand: exact types, no unknown fields."""

    # Without the input, so that an error that is ever logged shows nothing of a request.
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def has_few_fields(cls, raw: Any) -> Any:
        """Refuse too many fields with one fault. Otherwise each unknown field is a fault: 50,000 of them."""
        if isinstance(raw, dict) and len(raw) > MAX_FIELDS:
            raise ValueError(f"this has {len(raw)} fields: send {MAX_FIELDS} at most")
        return raw


class CacheControl(Strict):
    """Anthropic's hint to cache the prompt up to here; other wire formats leave it out."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextPart(Strict):
    """A piece of text."""

    type: Literal["text"]
    text: Text
    cache_control: CacheControl | None = None


class ImagePart(Strict):
    """An image: its ``url``, which the provider fetches itself, or its bytes as base64 in ``data``."""

    type: Literal["image"]
    url: Annotated[str | None, Field(max_length=MAX_URL, pattern=r"^https?://[^\s/]\S*$")] = None
    data: Annotated[str | None, Field(min_length=4)] = None
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"] | None = None
    detail: Annotated[Literal["auto", "low", "high"] | None, Field(description="OpenAI's; others do without")] = (
        None
    )
    cache_control: CacheControl | None = None

    @model_validator(mode="after")
    def one_of_both(self) -> "ImagePart":
        if (self.url is None) == (self.data is None):
            raise ValueError("an image has either a url or data")
        if self.data is not None:
            if self.media_type is None:
                raise ValueError("an image's data needs its media_type")
            try:
                base64.b64decode(self.data, validate=True)
            except (binascii.Error, ValueError):
                raise ValueError("an image's data must be base64") from None
        return self


class ThinkingPart(Strict):
    """Claude's thinking, as Anthropic sends it. Without its signature it is left out: no provider takes it back."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


class RedactedThinkingPart(Strict):
    """Claude's thinking that only Anthropic can read."""

    type: Literal["redacted_thinking"]
    data: Text


class ToolCall(Strict):
    """A tool call of the assistant, as its answer shows it; a call without an id gets one."""

    id: CallId | None = None
    name: CalledName
    arguments: Annotated[str, Field(description="a JSON object, as text")] = "{}"
    thought_signature: Annotated[Text | None, Field(description="Gemini's, of this call")] = None
    extra_content: Annotated[
        JsonObject | None, Field(description="what a provider of the OpenAI format added to this call")
    ] = None


class ProviderPart(Strict):
    """A part of the provider's own, as the record shows it."""

    type: Annotated[str, Field(min_length=1, max_length=200)]
    data: Annotated[Any, PlainJson] = None


def _kind_of_content(content: Any) -> str | None:
    return "text" if isinstance(content, str) else "parts" if isinstance(content, list) else None


ContentKind: Final = Discriminator(
    _kind_of_content,
    custom_error_type="content_kind",
    custom_error_message="Input should be text, or a list of parts",
)
"""Chooses between text and parts before either is validated, so that an error is only about the one sent."""


Understood: Final = BeforeValidator(lambda raw: _part(raw))
Parts = Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)
OnlyText = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[Annotated[TextPart, Understood]], Parts, Tag("parts")],
    ContentKind,
]
_TextOrImage = Annotated[TextPart | ImagePart, Field(discriminator="type"), Understood]
_Said = Annotated[TextPart | ThinkingPart | RedactedThinkingPart, Field(discriminator="type"), Understood]
TextAndImages = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[_TextOrImage], Parts, Tag("parts")], ContentKind
]
Result = Annotated[Annotated[str, Tag("text")] | Annotated[list[_TextOrImage], Parts, Tag("parts")], ContentKind]
Answer = Annotated[Annotated[str, Tag("text")] | Annotated[list[_Said], Parts, Tag("parts")], ContentKind]


class SystemTurn(Strict):
    """The instructions for the model. Some providers know only one system prompt: several are joined. ``developer``
    becomes ``system`` where the provider does not know that role."""

    role: Literal["system", "developer"]
    content: OnlyText


class UserTurn(Strict):
    """The user's text and images."""

    role: Literal["user"]
    content: TextAndImages


class AssistantTurn(Strict):
    """The model's answer and its tool calls: the fields of a record, with ``text`` as ``content``.

    ``reasoning``, ``provider_parts`` and signatures are sent only to the provider that made them (``provider``, as
    the record names it). Without that field they are sent to each provider whose wire format can express them.
    """

    role: Literal["assistant"]
    content: Answer | None = None
    reasoning: str | None = None
    tool_calls: Annotated[
        list[Annotated[ToolCall, BeforeValidator(lambda raw: _call(raw))]] | None,
        Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True),
    ] = None
    provider_parts: Annotated[list[ProviderPart] | None, Field(max_length=MAX_PROVIDER_PARTS, fail_fast=True)] = (
        None
    )
    provider: ProviderName | None = None

    @model_validator(mode="after")
    def says_something(self) -> "AssistantTurn":
        if self.content is None and not (self.tool_calls or self.reasoning or self.provider_parts):
            raise ValueError("an assistant's message has content, tool_calls or both")
        return self


class ToolTurn(Strict):
    """A tool's result for one call. Without an id it belongs to the first call that has no result yet."""

    role: Literal["tool"]
    tool_call_id: CallId | None = None
    name: CalledName | None = None
    content: Result


Turn = Annotated[
    SystemTurn | UserTurn | AssistantTurn | ToolTurn,
    Field(discriminator="role"),
    BeforeValidator(lambda raw: _turn(raw)),
]


class Tool(Strict):
    """A function that the model may call."""

    name: Name
    description: Annotated[str | None, Field(max_length=20_000)] = None
    parameters: Annotated[JsonObject, Field(description="a JSON schema of the arguments, an object's")]
    strict: Annotated[bool | None, Field(description="arguments keep to the schema; not for Gemini")] = None
    cache_control: CacheControl | None = None


class ProviderTool(BaseModel):
    """A tool of the provider's own, with its ``type`` there (``web_search_20250305``, ``google_search``,
    ``custom``). All its fields are passed on unchanged."""

    model_config = ConfigDict(extra="allow", strict=True)

    type: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.:-]{0,99}$")]

    @model_validator(mode="after")
    def is_plain(self) -> "ProviderTool":
        check_json(self.model_extra)
        return self


def _kind_of_tool(value: Any) -> str:
    """The tag of a tool, before and after its validation."""
    of_provider = isinstance(value, ProviderTool) or (isinstance(value, dict) and "type" in value)
    return "provider_tool" if of_provider else "function_tool"


AnyTool = Annotated[
    Annotated[Tool, Tag("function_tool")] | Annotated[ProviderTool, Tag("provider_tool")],
    Discriminator(_kind_of_tool),
    BeforeValidator(lambda raw: _tool(raw)),
]


def complete(turns: Sequence[Turn]) -> None:
    """Give each call an id, and each tool's turn the id of its call. Raises ValueError where the last turn is the
    assistant's, or where a tool's turn belongs to no earlier call."""
    if turns[-1].role == "assistant":
        raise ValueError("the last message must be the user's, a tool's or the system's")
    called: set[str] = set()
    without_result: dict[str, None] = {}
    for n, turn in enumerate(turns):
        if isinstance(turn, AssistantTurn):
            for m, call in enumerate(turn.tool_calls or ()):
                # A repeated request must get the same ids, because its hash must not change.
                call.id = call.id or f"call_{n}_{m}"
                called.add(call.id)
                without_result[call.id] = None
        elif isinstance(turn, ToolTurn):
            turn.tool_call_id = turn.tool_call_id or next(iter(without_result), None)
            if turn.tool_call_id not in called:
                raise ValueError("a tool's message must answer a tool call of an assistant's message before it")
            without_result.pop(turn.tool_call_id, None)


# -- the forms of other APIs ----------------------------------------------------------------------
# Each function takes any value, and returns an unknown one unchanged: validation then tells what is wrong with it.

_EMPTY_IN_SDKS: Final = (
    "refusal",
    "annotations",
    "audio",
    "function_call",
    "reasoning_content",
    "reasoning_details",
)
"""Fields that SDKs write into each answer, even if they are empty. The empty ones are dropped."""


def _turn(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    turn = dict(raw)
    if turn.get("role") == "tool":
        if turn.get("content", "") is None:
            turn["content"] = ""
        if type(turn.get("tool_call_id")) is int:
            turn["tool_call_id"] = str(turn["tool_call_id"])
        if not turn.get("tool_call_id", True):
            del turn["tool_call_id"]
    if turn.get("role") != "assistant":
        return turn
    if isinstance(turn.get("content"), list):
        turn["content"] = [part for part in turn["content"] if not _is_empty_text(part)] or ""
    if isinstance(turn.get("reasoning_content"), str):
        turn["reasoning"] = turn.get("reasoning") or turn["reasoning_content"]
        del turn["reasoning_content"]
    parts = turn.get("provider_parts")
    if isinstance(turn.get("reasoning_details"), list) and (parts is None or isinstance(parts, list)):
        details = turn.pop("reasoning_details")
        turn["provider_parts"] = [*(parts or ()), {"type": "reasoning_details", "data": details}]
    if turn.get("tool_calls") == []:
        del turn["tool_calls"]
    for name in _EMPTY_IN_SDKS:
        if name in turn and not turn[name]:
            del turn[name]
    return turn


def _is_empty_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("text") == "" and part.get("type") in ("text", "output_text")


def _call(raw: Any) -> Any:
    """Read OpenAI's ``{"id", "type", "function": {"name", "arguments"}}``, drop a record's ``index``, and fill in
    what a model may leave out."""
    if not isinstance(raw, dict):
        return raw
    call = {name: value for name, value in raw.items() if name != "index"}
    for kind, text in (("function", "arguments"), ("custom", "input")):
        inner = call.get(kind)
        if isinstance(inner, dict) and call.get("type", kind) == kind:
            del call[kind]
            call |= {("arguments" if name == text else name): value for name, value in inner.items()}
    if call.get("type") in ("function", "custom"):
        del call["type"]
    if "thoughtSignature" in call:
        call["thought_signature"] = call.pop("thoughtSignature")
    if type(call.get("id")) is int:  # some gateways number them
        call["id"] = str(call["id"])
    for name in ("id", "arguments"):
        if name in call and (call[name] is None or call[name] == ""):
            del call[name]
    if isinstance(call.get("arguments"), dict):
        with contextlib.suppress(ValueError, OverflowError, RecursionError):
            call["arguments"] = msgspec.json.encode(call["arguments"]).decode()
    if "name" in call and not call["name"]:
        call["name"] = "unnamed"
    return call


def _part(raw: Any) -> Any:
    """Read the content parts of OpenAI's two APIs, Anthropic's images, and Mistral's thinking."""
    if not isinstance(raw, dict):
        return raw
    match raw.get("type"):
        case "input_text" | "output_text":
            known = {name: value for name, value in raw.items() if name not in ("annotations", "logprobs")}
            return {**known, "type": "text"}
        case "image_url" | "input_image":
            rest = {name: value for name, value in raw.items() if name != "image_url"}
            inner = raw.get("image_url")
            inner = inner if isinstance(inner, dict) else {"url": inner}
            return {**rest, **inner, "type": "image"} | _data_url(inner.get("url"))
        case "image" if isinstance(raw.get("source"), dict):
            rest = {name: value for name, value in raw.items() if name != "source"}
            return {**rest, **{name: value for name, value in raw["source"].items() if name != "type"}}
        case "thinking" if isinstance(raw.get("thinking"), list):
            texts = [part.get("text") if isinstance(part, dict) else None for part in raw["thinking"]]
            return {**raw, "thinking": "".join(text for text in texts if isinstance(text, str))}
    return raw


def _data_url(url: Any) -> dict[str, Any]:
    if not isinstance(url, str) or not url.startswith("data:"):
        return {}
    head, _, data = url.removeprefix("data:").partition(",")
    media_type = head.partition(";")[0].lower().replace("image/jpg", "image/jpeg")
    return {"url": None, "data": data, "media_type": media_type}


def _tool(raw: Any) -> Any:
    """Read OpenAI's ``{"type": "function", "function": {…}}``, flat or not, and Anthropic's ``input_schema``."""
    if not isinstance(raw, dict):
        return raw
    tool = dict(raw)
    if tool.get("type") == "function":
        del tool["type"]
        if isinstance(tool.get("function"), dict):
            tool |= tool.pop("function")
            if tool.get("parameters") is None:
                tool["parameters"] = NO_PARAMETERS
    if "input_schema" in tool and "type" not in tool:
        tool["parameters"] = tool.pop("input_schema")
    return tool
