"""The requests that callers may send. Unknown fields are refused, so that a typing mistake does not silently leave
a default in force.

:mod:`shared.config.capabilities` tells which providers support which field.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from api.schemas.messages import (
    MAX_MESSAGES,
    MAX_TOOLS,
    AnyTool,
    JsonObject,
    Name,
    Strict,
    Tool,
    Turn,
    check_json,
    complete,
)
from shared.config.capabilities import Effort
from shared.protocol.fallbacks import MAX_FALLBACKS

MAX_TOKENS = 1_000_000
MAX_STOPS = 16
OTHER_NAMES: Final = frozenset({"max_completion_tokens", "reasoning_effort"})
"""OpenAI's other names for fields of :class:`CreateStream`, which understands them."""
REQUESTED: Final = "requested"
"""Why a stream is stopped, where the caller gives no reason."""


class ToolChoice(Strict):
    """The tool that the model must call."""

    name: Name


class JsonSchema(Strict):
    """What an answer must look like."""

    name: Name = "answer"
    description: Annotated[str | None, Field(max_length=20_000)] = None
    schema_: Annotated[JsonObject, Field(alias="schema", description="a JSON schema")]
    strict: bool | None = None


class ResponseFormat(Strict):
    """What kind of text an answer is."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def has_its_schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("send json_schema with type json_schema, and only then")
        return self


class Reasoning(Strict):
    """How much the model thinks before it answers: in a word, or in tokens."""

    effort: Effort | None = None
    budget_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None

    @model_validator(mode="after")
    def one_of_both(self) -> "Reasoning":
        if (self.effort is None) == (self.budget_tokens is None):
            raise ValueError("send either effort or budget_tokens")
        return self


def _choice(raw: Any) -> Any:
    """Bring OpenAI's and Anthropic's forms of a tool choice into ours."""
    if raw == "any":
        return "required"
    if not isinstance(raw, dict):
        return raw
    match raw.get("type"):
        case "function" | "custom" as kind if isinstance(raw.get(kind), dict):
            return raw[kind]
        case "tool" | "function":
            return {name: value for name, value in raw.items() if name != "type"}
        case "auto" | "none" | "any" as kind if len(raw) == 1:
            return "required" if kind == "any" else kind
    return raw


def _kind_of_choice(value: Any) -> str | None:
    return "word" if isinstance(value, str) else "named" if isinstance(value, dict | ToolChoice) else None


Choice = Annotated[
    Annotated[Literal["auto", "none", "required"], Tag("word")] | Annotated[ToolChoice, Tag("named")],
    Discriminator(
        _kind_of_choice,
        custom_error_type="choice_kind",
        custom_error_message="Input should be 'auto', 'none', 'required' or an object with the name of a tool",
    ),
    BeforeValidator(_choice),
]


class CreateStream(Strict):
    """Ask for one generation: by ``prompt``, or by ``messages``."""

    model: Annotated[str, Field(max_length=200, description="provider/name, or a name of the default provider")] = (
        ""
    )
    fallbacks: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]] | None,
        Field(max_length=MAX_FALLBACKS, description="models that are asked in turn while none has said a token"),
    ] = None
    prompt: Annotated[str | None, Field(min_length=1, description="short for one user message")] = None
    messages: Annotated[list[Turn] | None, Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]] | None,
        Field(max_length=MAX_STOPS, fail_fast=True),
    ] = None
    tools: Annotated[list[AnyTool] | None, Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)] = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    seed: Annotated[int | None, Field(ge=-(2**63), lt=2**63)] = None
    user: Annotated[
        str | None,
        Field(min_length=1, max_length=256, description="who asks, for the provider; no name or address"),
    ] = None
    provider_options: Annotated[
        dict[str, Any] | None,
        Field(description="put into the provider's request as they are, where the operator allows them"),
    ] = None
    on_failure: Annotated[
        Literal["continue", "continue_or_fail", "restart", "fail"],
        Field(
            description="what to do when an attempt ends before its finish reason (a worker or the upstream was "
            "lost). continue: go on behind what was said, or restart where the provider can't; continue_or_fail: "
            "never take back what was said"
        ),
    ] = "continue"
    flow: Annotated[
        Literal["none", "client"],
        Field(description="client: pause while nobody reads and no heartbeat comes, and give up in the end"),
    ] = "none"
    pause_after: Annotated[float, Field(ge=2, le=3600, description="without a sign of life (s)")] = 30
    abandon_after: Annotated[float, Field(ge=1, le=86_400, description="of pausing (s)")] = 300

    @model_validator(mode="before")
    @classmethod
    def understood(cls, raw: Any) -> Any:
        """Rename OpenAI's other names for the same fields."""
        if not isinstance(raw, dict):
            return raw
        asked = dict(raw)
        if "max_completion_tokens" in asked and asked.get("max_tokens") in (None, asked["max_completion_tokens"]):
            asked["max_tokens"] = asked.pop("max_completion_tokens")
        if "reasoning_effort" in asked and asked.get("reasoning") is None:
            effort = asked.pop("reasoning_effort")
            asked["reasoning"] = None if effort is None else {"effort": effort}
        if isinstance(asked.get("stop"), str):
            asked["stop"] = [asked["stop"]]
        return asked

    @model_validator(mode="after")
    def one_of_both(self) -> "CreateStream":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("send either prompt or messages")
        if self.messages:
            complete(self.messages)
        self._check_choice()
        check_json(self.provider_options)
        return self

    def _check_choice(self) -> None:
        if self.tools is None and "tools" not in (self.provider_options or {}):
            for field in ("tool_choice", "parallel_tool_calls"):
                if getattr(self, field) not in (None, "none", "auto"):
                    raise ValueError(f"{field} needs tools")
        if isinstance(self.tool_choice, ToolChoice) and self.tools:
            # A provider's own tools have names that only the provider knows.
            own = {tool.name for tool in self.tools if isinstance(tool, Tool)}
            if len(own) == len(self.tools) and self.tool_choice.name not in own:
                raise ValueError(f"tool_choice names {self.tool_choice.name!r}, which is none of the tools")

    def asked(self) -> dict[str, Any]:
        """The fields for the provider, without the messages. A field that the caller left out is missing."""
        rest = {"model", "prompt", "messages", "fallbacks"}
        return self.model_dump(exclude=rest, exclude_none=True, by_alias=True)

    def turns(self) -> list[dict[str, Any]]:
        """The messages; a ``prompt`` becomes one."""
        if self.messages is not None:
            return [message.model_dump(exclude_none=True) for message in self.messages]
        return [{"role": "user", "content": self.prompt}]

    def size(self) -> int:
        """The size of the model's input (bytes): plain text as UTF-8, all else as JSON.

        Raises ``UnicodeEncodeError`` for half a surrogate pair outside of plain text.
        """
        besides = self.model_dump(include=_BESIDE_MESSAGES, exclude_none=True, by_alias=True)
        rest = [*besides.pop("tools", ()), *besides.values()]
        return sum(_size(turn) for turn in self.turns()) + sum(len(msgspec.json.encode(one)) for one in rest)


_BESIDE_MESSAGES: Final = {"tools", "response_format", "provider_options"}
"""The fields that a model reads besides the messages."""
_BESIDE_TEXT: Final = {"tool_calls", "reasoning", "provider_parts"}


def _size(turn: dict[str, Any]) -> int:
    if isinstance(turn.get("content"), str) and not turn.keys() & _BESIDE_TEXT:
        return len(turn["content"].encode("utf-8", "surrogatepass"))
    return len(msgspec.json.encode(turn))


class Cancel(BaseModel):
    """Why a stream is stopped; for the record and for its viewers."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=200)] = REQUESTED
