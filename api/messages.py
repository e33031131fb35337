"""What a conversation may hold, the same for every wire format; adapters map it onto their provider's.

A turn is ``system``, ``user``, ``assistant`` or ``tool``. ``content`` is a string or a list of parts; images stand
in a user's turn alone, which is the only place where all providers take them.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from shared.nesting import levels

MAX_MESSAGES: Final = 1000
MAX_PARTS: Final = 100
"""Of one turn: as many images as the most generous provider takes."""
MAX_TOOLS: Final = 128
"""OpenAI's own limit; others have none, or a higher one."""
MAX_URL: Final = 2048

Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""What all providers take as the name of a tool."""
CallId = Annotated[str, Field(min_length=1, max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Strict):
    """A piece of text."""

    type: Literal["text"]
    text: Text


class ImagePart(_Strict):
    """An image: by ``url``, which the provider fetches itself, or its bytes as base64 in ``data``."""

    type: Literal["image"]
    url: Annotated[str | None, Field(max_length=MAX_URL, pattern=r"^https?://[^\s/]\S*$")] = None
    data: Annotated[str | None, Field(min_length=4)] = None
    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"] | None = None

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


class ToolCall(_Strict):
    """A call that the assistant made, as its answer told it."""

    id: CallId
    name: Name
    arguments: Annotated[str, Field(description="a JSON object, as text")]

    @field_validator("arguments")
    @classmethod
    def is_object(cls, arguments: str) -> str:
        try:
            # As what the adapters will take it for.
            msgspec.json.decode(arguments, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise ValueError("a tool call's arguments must be the text of a JSON object") from None
        return arguments


def _kind_of_content(content: Any) -> str | None:
    return "text" if isinstance(content, str) else "parts" if isinstance(content, list) else None


ContentKind: Final = Discriminator(
    _kind_of_content,
    custom_error_type="content_kind",
    custom_error_message="Input should be text, or a list of parts",
)
"""Tells the two apart before either is looked into, so that what is wrong with one is told alone."""
OnlyText = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS), Tag("parts")],
    ContentKind,
]
TextAndImages = Annotated[
    Annotated[Text, Tag("text")]
    | Annotated[
        list[Annotated[TextPart | ImagePart, Field(discriminator="type")]],
        Field(min_length=1, max_length=MAX_PARTS),
        Tag("parts"),
    ],
    ContentKind,
]


class SystemTurn(_Strict):
    """What the model shall be and heed. Some providers know one system prompt only: several are joined."""

    role: Literal["system"]
    content: OnlyText


class UserTurn(_Strict):
    """What the user says and shows."""

    role: Literal["user"]
    content: TextAndImages


class AssistantTurn(_Strict):
    """What the model said, and the tools that it called."""

    role: Literal["assistant"]
    content: OnlyText | None = None
    tool_calls: Annotated[list[ToolCall] | None, Field(min_length=1, max_length=MAX_TOOLS)] = None

    @model_validator(mode="after")
    def says_something(self) -> "AssistantTurn":
        if self.content is None and self.tool_calls is None:
            raise ValueError("an assistant's message has content, tool_calls or both")
        return self


class ToolTurn(_Strict):
    """What a tool gave back for one call."""

    role: Literal["tool"]
    tool_call_id: CallId
    name: Name | None = None
    content: str


Turn = Annotated[SystemTurn | UserTurn | AssistantTurn | ToolTurn, Field(discriminator="role")]


class Tool(_Strict):
    """A function that the model may ask for."""

    name: Name
    description: Annotated[str | None, Field(max_length=20_000)] = None
    parameters: Annotated[dict[str, Any], Field(description="a JSON schema of the arguments, an object's")]

    @field_validator("parameters")
    @classmethod
    def is_plain(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        check_json(parameters)
        return parameters


def check_order(turns: Sequence[Turn]) -> None:
    """The last word is not the assistant's, and every tool turn answers an earlier call. Raises ValueError."""
    if turns[-1].role == "assistant":
        raise ValueError("the last message must be the user's, a tool's or the system's")
    called: set[str] = set()
    for turn in turns:
        if isinstance(turn, AssistantTurn):
            called |= {call.id for call in turn.tool_calls or ()}
        elif isinstance(turn, ToolTurn) and turn.tool_call_id not in called:
            raise ValueError("a tool's message must answer a tool call of an assistant's message before it")


def check_json(value: Any) -> None:
    """JSON that any provider can read. Raises ValueError where it nests too deep or a number is none."""
    for level in levels(value):
        if any(isinstance(one, float | int) and not -(2**63) <= one < 2**64 for one in level):
            raise ValueError("a number here is out of range")
