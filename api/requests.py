"""What callers may send. Unknown fields are refused, so that a typing mistake never passes for a default."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.fallbacks import MAX_FALLBACKS

MAX_MESSAGES = 1000
MAX_TOKENS = 1_000_000
MAX_STOPS = 16


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(min_length=1)]


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
    messages: Annotated[list[Message] | None, Field(min_length=1, max_length=MAX_MESSAGES)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=MAX_TOKENS)] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]] | None, Field(max_length=MAX_STOPS)
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
        if self.messages and self.messages[-1].role == "assistant":
            raise ValueError("the last message must be the user's (or the system's)")
        return self

    def turns(self) -> list[dict[str, Any]]:
        """The messages, whichever way they came."""
        if self.messages is not None:
            return [message.model_dump() for message in self.messages]
        return [{"role": "user", "content": self.prompt}]


class Cancel(BaseModel):
    """Why a stream is stopped; for the record and for its viewers."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=200)] = "requested"
