"""The faults that validation found in a request, in words for people: no type names, one sentence each."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

MOST: Final = 20
"""The most faults in one response: a caller with more of them has misunderstood the whole call."""
_NAMED: Final = ("missing", "extra_forbidden")
"""Errors whose place always ends in the name of a field."""
_NO_OBJECT: Final = ("missing", "model_type", "model_attributes_type", "dict_type")


def faults(errors: Sequence[Mapping[str, Any]], body: Any, content_type: str) -> list[dict[str, str]]:
    """In: pydantic's errors, whose places begin with FastAPI's ``body`` or ``query``; the parsed body; the
    Content-Type that was sent. Out: for each error, ``field`` (its path, with dots) and ``message``.
    """
    return [_fault(error, body, content_type) for error in errors[:MOST]]


def _fault(error: Mapping[str, Any], body: Any, content_type: str) -> dict[str, str]:
    place = error["loc"]
    if place == ("body",) and error["type"] in _NO_OBJECT:
        return {"field": "body", "message": _not_an_object(content_type)}
    path = _path(place[1:], body, error["type"]) if place[0] == "body" else [str(part) for part in place[1:]]
    message: str = error["msg"]
    found = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            message = message.removeprefix("Value error, ")
        case "union_tag_not_found":
            path.append(found["discriminator"].strip("'"))
            message = "Field required"
        case "union_tag_invalid":
            path.append(found["discriminator"].strip("'"))
            message = f"Input should be one of {found['expected_tags']}, and not '{found['tag']}'"
    return {"field": ".".join(path) or "body", "message": message}


def _path(place: Sequence[str | int], value: Any, kind: str) -> list[str]:
    """The place without the branches of unions that pydantic puts into it: they are no keys of the body.

    The first part is always a field. If it was sent under another accepted name, the path has the field's own name.
    """
    path = []
    for n, part in enumerate(place):
        if (n == len(place) - 1 and kind in _NAMED) or (n == 0 and isinstance(value, dict) and part not in value):
            path.append(str(part))
            value = None
        elif _is_item(part, value) if isinstance(part, int) else _is_field(part, place[:n], value):
            path.append(str(part))
            value = value[part]
    return path


def _is_item(part: int, value: Any) -> bool:
    """Whether the body has it: what several fields say may have become one list."""
    return isinstance(value, list) and part < len(value)


def _is_field(part: str, before: Sequence[str | int], value: Any) -> bool:
    """Whether this part is a key of the value. After a number it may be the item's role or type instead."""
    if not isinstance(value, dict) or part not in value:
        return False
    is_item = bool(before) and isinstance(before[-1], int)
    return not (is_item and part in (value.get("role"), value.get("type")))


def _not_an_object(content_type: str) -> str:
    sent = content_type.partition(";")[0].strip().lower()
    if sent == "application/json" or sent.endswith("+json"):
        return "send a JSON object"
    return (
        f"send a JSON object, with Content-Type: application/json{f' (this came as {sent[:100]})' if sent else ''}"
    )
