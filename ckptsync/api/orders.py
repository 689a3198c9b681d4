"""Orders as JSON: an object of the order's fields, with its name as "order"."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from ckptsync.operations.orders import KINDS, LONGEST_REASON, Order, kind

_TAG: Final = "order"
_OBJECT: Final = TypeAdapter(dict[str, Any])
_ORDERS: Final[Mapping[str, TypeAdapter[Order]]] = {
    name: TypeAdapter(order) for name, order in KINDS.items()
}


class UnreadableOrder(ValueError):
    """With a sentence that says what is wrong with it."""


def encode(order: Order) -> Mapping[str, Any]:
    name = kind(order)
    return {_TAG: name, **_ORDERS[name].dump_python(order, mode="json")}


def decode(body: bytes) -> Order:
    """Raises UnreadableOrder."""
    try:
        given = _OBJECT.validate_json(body)
    except ValidationError as error:
        raise UnreadableOrder(f"the order is no JSON object: {_explained(error)}") from error
    name = given.pop(_TAG, None)
    if not isinstance(name, str) or name not in KINDS:
        raise UnreadableOrder(f'"{_TAG}" has to be one of {", ".join(KINDS)}')
    if unknown := given.keys() - {field.name for field in fields(KINDS[name])}:
        raise UnreadableOrder(f"{name} has no {' or '.join(sorted(unknown))}")
    reason = given.get("reason")
    if isinstance(reason, str) and len(reason) > LONGEST_REASON:
        raise UnreadableOrder(f"{name}: reason: at most {LONGEST_REASON} characters")
    try:
        return _ORDERS[name].validate_json(body, strict=True)
    except ValidationError as error:
        raise UnreadableOrder(f"{name}: {_explained(error)}") from error


def _explained(error: ValidationError) -> str:
    return "; ".join(
        ": ".join((*map(str, problem["loc"]), problem["msg"])) for problem in error.errors()
    )
