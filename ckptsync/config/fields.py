"""The kinds of value that the file holds, each read strictly from what TOML gives."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from ckptsync.hashing import Hash
from ckptsync.units import parse_duration, parse_size

_NUMBER: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_CREDENTIAL: Final = re.compile(r"credential:[A-Za-z0-9_.-]{1,255}")


def _duration(value: Any) -> Any:
    return _read_duration(value, timedelta(seconds=1), "seconds")


def _age(value: Any) -> Any:
    return _read_duration(value, timedelta(days=1), "days")


def _read_duration(value: Any, unit: timedelta, plural: str) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            raise ValueError(
                f'is a number in quotes: {plural} go without them, or write "{value}{plural[0]}"'
            )
        return parse_duration(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return value * unit
        except (OverflowError, ValueError):
            raise ValueError("is no length of time that can be held") from None
    raise ValueError(f'must be a number of {plural}, or text like "15m" or "36h"')


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("must not be negative")
    return value


def _not_zero(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("must be longer than zero")
    return value


def _at_least_a_second(value: timedelta) -> timedelta:
    if value < timedelta(seconds=1):
        raise ValueError("must be at least 1s")
    return value


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("must name a command")
    return value


def _size(value: Any) -> int:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError('must be a number of bytes, or text like "64MiB"')


def _absolute(value: Any) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("must be an absolute path")
    if ".." in value.split("/"):
        raise ValueError("must be a path without '..'")
    return Path(value)


def _secret_file(value: Any) -> str:
    if isinstance(value, str) and _CREDENTIAL.fullmatch(value):
        return value
    if isinstance(value, str) and value.startswith("/") and "\0" not in value:
        return value
    raise ValueError('must be an absolute path, or "credential:NAME" for a credential of systemd')


def _endpoint(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL such as http://localhost:9000") from None
    if "@" in value:
        raise ValueError("holds a user name or password: use access_key and secret_key")
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be a URL that begins with https:// or http://")
    if parts.query or parts.fragment or not value.isprintable() or " " in value:
        raise ValueError("must be a URL without a query, a fragment or spaces")
    return value.rstrip("/")


def _hash(value: Any) -> Any:
    try:
        return Hash(value)
    except ValueError:
        raise ValueError(f"must be one of {', '.join(repr(str(kind)) for kind in Hash)}") from None


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_not_negative)]
"""A bare number is seconds."""

PositiveDuration = Annotated[Duration, AfterValidator(_not_zero)]
SecondsOrMore = Annotated[Duration, AfterValidator(_at_least_a_second)]

Age = Annotated[timedelta, BeforeValidator(_age), AfterValidator(_not_negative)]
"""A bare number is days."""

Size = Annotated[int, BeforeValidator(_size), Field(ge=0)]
AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
SecretFile = Annotated[str, BeforeValidator(_secret_file)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
HashName = Annotated[Hash, BeforeValidator(_hash)]
Argv = Annotated[
    tuple[Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")], ...],
    Field(strict=False),
    AfterValidator(_not_empty),
]
"""A command and its arguments, run without a shell."""
