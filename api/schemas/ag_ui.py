"""AG-UI's ``RunAgentInput``. No I/O: a body in, a stream to create or what is wrong with it out.

Source: the schemas of ``@ag-ui/core`` 1.0.0. Fields that the protocol does not know are passed over, as it
demands. So is ``state``, which is the application's own: what a model is to know stands in ``context``, and becomes
a turn of the system.

An answer comes back as its client holds it: a message of the assistant, and messages of reasoning around it, of
which one may hold what the provider wants back (see :mod:`api.dialects.ag_ui`). They are one turn here.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from api.schemas.foreign import FieldPath, validated, wrong
from api.schemas.messages import NO_PARAMETERS, check_kept
from api.schemas.requests import OTHER_NAMES, CreateStream

MAX_RUN_ID: Final = 200
OWN_FIELDS: Final = {"prompt", "messages", "tools", "on_failure"}
"""Fields of a stream's request that ``forwardedProps`` can't set: a run has its own for them, or none."""
FORWARDED: Final = (CreateStream.model_fields.keys() - OWN_FIELDS) | OTHER_NAMES
"""The fields of ``forwardedProps`` that are read; all others are the application's own."""
IDS: Final = {"thread_id", "run_id", "parent_run_id", "protocol_version"}
"""The names of a run that its events repeat."""
SAYS: Final = ("content", "tool_calls", "reasoning", "provider_parts")

RunId = Annotated[str, Field(min_length=1, max_length=MAX_RUN_ID)]


class Loose(BaseModel):
    """What another protocol's clients send: exact types; unknown fields are passed over."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


class ContextItem(Loose):
    """What the application tells the model."""

    description: str
    value: str


class ClientTool(Loose):
    """A tool that the application runs."""

    name: str
    description: str = ""
    parameters: Any = None


class NamedRun(Loose):
    """The one field that is read where a client comes back to a run."""

    run_id: Annotated[RunId, Field(alias="runId")]


class RunAgentInput(NamedRun):
    """What a client asks for. The messages are read by :func:`run_request`."""

    thread_id: Annotated[str, Field(alias="threadId", min_length=1, max_length=1000)]
    parent_run_id: Annotated[str | None, Field(alias="parentRunId", max_length=1000)] = None
    protocol_version: Annotated[str | None, Field(alias="protocolVersion", max_length=20)] = None
    messages: list[dict[str, Any]]
    tools: list[ClientTool] | None = None
    context: list[ContextItem] | None = None
    forwarded_props: Annotated[dict[str, Any] | None, Field(alias="forwardedProps")] = None
    resume: list[Any] | None = None


class Run(NamedTuple):
    """What is asked, and the names under which the client knows it."""

    asked: CreateStream
    run_id: str
    ids: dict[str, str]


def run_id_of(body: Any) -> str:
    """The run id of a body; its other fields are not read. Raises ``RequestValidationError``."""
    return validated(NamedRun, body, body).run_id


def run_request(body: Any) -> Run:
    """Read a body. Raises ``RequestValidationError``, whose places are the request's own fields."""
    told = validated(RunAgentInput, body, body)
    if not told.messages:
        raise wrong(body, "messages", why="send at least one message")
    if told.resume:
        raise wrong(body, "resume", why="no run is interrupted here: leave it out")
    kept = [message.get("encryptedValue") for message in told.messages]
    try:
        check_kept(one.encode("utf-8", "replace") for one in kept if isinstance(one, str))
    except ValueError as error:
        raise wrong(body, "messages", why=str(error)) from None
    turns, places = _turns(body, told)
    forwarded = {name: value for name, value in (told.forwarded_props or {}).items() if name in FORWARDED}
    tools = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters or NO_PARAMETERS}
        for tool in told.tools or ()
    ]
    fields = {
        **forwarded,
        "messages": turns,
        "on_failure": "continue_or_fail",
        **({"tools": tools} if tools else {}),
    }
    asked = validated(CreateStream, fields, body, lambda place: _place(place, places))
    return Run(asked, told.run_id, told.model_dump(by_alias=True, exclude_none=True, include=IDS))


def _place(loc: FieldPath, places: list[int]) -> FieldPath:
    """Where the fault of a field of ours stands in the body: ``places`` tells the message of each turn."""
    if len(loc) > 1 and loc[0] == "messages" and isinstance(loc[1], int):
        return ("messages", places[loc[1]], *loc[2:]) if places[loc[1]] >= 0 else ("context",)
    return loc if not loc or loc[0] in OWN_FIELDS else ("forwardedProps", *loc)


# -- messages to turns ------------------------------------------------------------------------------


class _Unknown(ValueError):
    """A part of a message that no model here can be sent. ``place``: where it stands in the message."""

    def __init__(self, place: tuple[Any, ...], why: str) -> None:
        super().__init__(why)
        self.place = place


def _turns(body: Any, told: RunAgentInput) -> tuple[list[dict[str, Any]], list[int]]:
    """The turns, and which message each of them is (-1: the context)."""
    turns: list[dict[str, Any]] = []
    places: list[int] = []
    thought: list[Mapping[str, Any]] = []
    for place, message in enumerate(told.messages):
        try:
            if message.get("role") == "reasoning":
                thought.append(message)
                continue
            turn = _turn(message)
        except _Unknown as unknown:
            raise wrong(body, "messages", place, *unknown.place, why=str(unknown)) from None
        if turn is None:
            continue
        # Reasoning belongs to the answer behind it, or to the one in front of it where none follows.
        holder = turn if turn["role"] == "assistant" else turns[-1] if turns else {}
        if holder.get("role") == "assistant":
            _think(holder, thought)
        thought = []
        if turn["role"] == "assistant" and not any(turn.get(name) for name in SAYS):
            continue  # of a run that was cut off, or failed, before it said anything
        turns.append(turn)
        places.append(place)
    if told.context:
        at = next((n for n, turn in enumerate(turns) if turn["role"] not in ("system", "developer")), len(turns))
        said = "\n\n".join(f"{item.description}:\n{item.value}" for item in told.context)
        turns.insert(at, {"role": "system", "content": said})
        places.insert(at, -1)
    return turns, places


def _turn(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """One message; None for what is not for a model. Raises :class:`_Unknown`."""
    role, content = message.get("role"), message.get("content")
    match role:
        case "activity":
            return None
        case "assistant":
            turn = {"role": role, "content": content, "tool_calls": message.get("toolCalls") or None}
            if isinstance(turn["tool_calls"], list):
                turn["tool_calls"] = [_call(call) for call in turn["tool_calls"]]
            _think(turn, [{"encryptedValue": message.get("encryptedValue")}])
            return turn
        case "user":
            return {"role": role, "content": _content(content)}
        case "tool":
            return {
                "role": role,
                "tool_call_id": message.get("toolCallId"),
                "content": _content(content or message.get("error") or content),
            }
    return {"role": role, "content": content}


def _call(call: Any) -> Any:
    """Without what is not for a model."""
    if not isinstance(call, dict):
        return call
    return {name: value for name, value in call.items() if name in ("id", "type", "function")}


def _think(turn: dict[str, Any], thought: list[Mapping[str, Any]]) -> None:
    """Add messages of reasoning to the answer's turn."""
    said = "".join(one["content"] for one in thought if isinstance(one.get("content"), str))
    if said:
        turn["reasoning"] = turn.get("reasoning", "") + said
    for one in thought:
        kept = _kept(one.get("encryptedValue"))
        if kept is not None:
            turn["provider"] = kept["provider"]
            turn.setdefault("provider_parts", []).extend(kept["parts"])


def _kept(encrypted: Any) -> dict[str, Any] | None:
    """What :mod:`api.dialects.ag_ui` wrote here; None where somebody else wrote it."""
    if not isinstance(encrypted, str):
        return None
    try:
        kept = msgspec.json.decode(encrypted)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    match kept:
        case {"provider": _, "parts": list()}:
            return dict(kept)
    return None


def _content(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [_part(part, place) for place, part in enumerate(content)]


def _part(part: Any, place: int) -> Any:
    if not isinstance(part, dict):
        return part
    kind, source = part.get("type"), part.get("source")
    if kind == "text":
        return {"type": "text", "text": part.get("text")}
    if kind == "binary":  # of 0.0.x
        kind = str(part.get("mimeType")).partition("/")[0]
        source = {"type": "data", "value": part.get("data"), "mimeType": part.get("mimeType")}
        if part.get("url") is not None:
            source = {"type": "url", "value": part["url"]}
    if kind != "image":
        raise _Unknown(("content", place, "type"), "send text or images: a model here is told nothing else")
    match source:
        case {"type": "data", "value": value, "mimeType": media_type}:
            return {"type": "image", "data": value, "media_type": media_type}
        case {"type": "url", "value": value}:
            return {"type": "image_url", "image_url": {"url": value}}
    raise _Unknown(("content", place, "source"), "an image is sent as data, with its mimeType, or by its url")
