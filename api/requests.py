"""What callers may send. Unknown fields are refused, so that a typing mistake never passes for a default."""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.messages import MAX_MESSAGES, MAX_TOOLS, Tool, Turn, check_json, check_order
from shared.fallbacks import MAX_FALLBACKS

MAX_TOKENS = 1_000_000
MAX_STOPS = 16

RESERVED = ("model", "models", "messages", "contents", "stream")
"""What provider_options may not say: it would ask something else than what the record tells."""


class CreateStream(BaseModel):
    """Ask for one generation: by ``prompt``, or by ``messages``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, Field(max_length=200, description="provider/name, or a name of the default provider")] = (
        ""
    )
    fallbacks: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]] | None,
        Field(max_length=MAX_FALLBACKS, description="models that are asked in turn while none has said a token"),
    ] = None
    prompt: Annotated[str | None, Field(min_length=1, description="short for one user message")] = None
    messages: Annotated[list[Turn] | None, Field(min_length=1, max_length=MAX_MESSAGES)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]] | None, Field(max_length=MAX_STOPS)
    ] = None
    tools: Annotated[list[Tool] | None, Field(min_length=1, max_length=MAX_TOOLS)] = None
    provider_options: Annotated[
        dict[str, Any] | None,
        Field(description=f"put into the provider's request as they are; all but {', '.join(RESERVED)}"),
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

    @model_validator(mode="after")
    def one_of_both(self) -> "CreateStream":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("send either prompt or messages")
        if self.messages:
            check_order(self.messages)
        for name in RESERVED:
            if name in (self.provider_options or {}):
                raise ValueError(f"provider_options may not hold {name!r}")
        check_json(self.provider_options)
        return self

    def turns(self) -> list[dict[str, Any]]:
        """The messages, whichever way they came."""
        if self.messages is not None:
            return [message.model_dump(exclude_none=True) for message in self.messages]
        return [{"role": "user", "content": self.prompt}]

    def size(self) -> int:
        """How much this says to a model (bytes): text as it is, all else as JSON.

        Raises ``UnicodeEncodeError`` for half a surrogate pair in what is not plain text.
        """
        tools = [tool.model_dump(exclude_none=True) for tool in self.tools or ()]
        rest = [*tools, *([self.provider_options] if self.provider_options else ())]
        return sum(_size(turn) for turn in self.turns()) + sum(len(msgspec.json.encode(one)) for one in rest)

    def limits_in_options(self) -> list[str]:
        """The names in provider_options by which a provider is told how much it may answer."""
        return sorted(_limits(self.provider_options or {}))


def _size(turn: dict[str, Any]) -> int:
    if isinstance(turn.get("content"), str) and "tool_calls" not in turn:
        return len(turn["content"].encode("utf-8", "surrogatepass"))
    return len(msgspec.json.encode(turn))


_LIMITS = {"maxtokens", "maxcompletiontokens", "maxoutputtokens", "numpredict", "npredict", "n", "candidatecount"}
_WITHIN = {"generationconfig", "options"}
"""Where Google and Ollama put their limits."""


def _limits(options: dict[str, Any]) -> set[str]:
    plain = {name: name.replace("_", "").lower() for name in options}
    found = {name for name in options if plain[name] in _LIMITS}
    below = [value for name, value in options.items() if plain[name] in _WITHIN and isinstance(value, dict)]
    return found.union(*map(_limits, below))


class Cancel(BaseModel):
    """Why a stream is stopped; for the record and for its viewers."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=200)] = "requested"
