"""What only the program around the configuration can say of a value: is there such a thing?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckptsync.config.location import Location


def accept(_value: object) -> None:
    """A check that finds no fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Each gives the rest of a sentence that tells what is wrong with a value; None if nothing."""

    layout: Callable[[str], str | None] = accept
    location: Callable[[Location], str | None] = accept
    secret_file: Callable[[str], str | None] = accept


def of(context: Any) -> Checks:
    """Those that a validation was given; without any everything is accepted."""
    return context if isinstance(context, Checks) else Checks()


def require(fault: str | None) -> None:
    """Raises ValueError, as a validator does."""
    if fault is not None:
        raise ValueError(fault)
