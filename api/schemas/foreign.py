"""What the requests of other protocols have in common. No I/O.

Each protocol has a module here that makes a :class:`api.schemas.requests.CreateStream` of a body. A fault is told
at the field that the caller sent, and not at ours.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)
FieldPath = tuple[str | int, ...]
"""Where a fault stands, from the outside in."""
Refused = Mapping[str, tuple[str, tuple[Any, ...]]]
"""Fields that change the meaning of an answer and can't be honoured: the error text of each, and the values that
are accepted, because they ask for the default."""


def wrong(body: Any, *place: str | int, why: str, kind: str = "value_error") -> RequestValidationError:
    """One fault of a body, at this place (none: the body itself). ``kind``: pydantic's type of the fault."""
    return RequestValidationError([{"type": kind, "loc": ("body", *place), "msg": why}], body=body)


def invalid(
    error: ValidationError, body: Any, place: Callable[[FieldPath], FieldPath] = lambda place: place
) -> RequestValidationError:
    """The faults that a model found, at their places in the body. ``place``: from the model's to the body's."""
    found = [{**one, "loc": ("body", *place(one["loc"]))} for one in error.errors()]
    return RequestValidationError(found, body=body)


def validated(
    model: type[Model], fields: Any, body: Any, place: Callable[[FieldPath], FieldPath] = lambda place: place
) -> Model:
    """A model of these fields. Raises ``RequestValidationError``, as :func:`invalid` makes it."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid(error, body, place) from None


def while_read(grace_s: float) -> dict[str, Any]:
    """Fields of a request whose answer only its caller reads: it goes on for ``grace_s`` when the caller leaves,
    and is cancelled a second later."""
    return {"flow": "client", "pause_after": grace_s, "abandon_after": 1}


def refuse(body: Any, sent: Mapping[str, Any], refused: Refused) -> None:
    """Raises ``RequestValidationError`` for the first field of ``sent`` that is refused."""
    for name, (why, harmless) in refused.items():
        if name in sent and sent[name] not in harmless:
            raise wrong(body, name, why=why)
