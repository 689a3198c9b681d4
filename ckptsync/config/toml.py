"""Writing TOML: the part of it that a generated section needs."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_ESCAPES = {'"': '\\"', "\\": "\\\\"}


def table(header: Sequence[str], settings: Mapping[str, Any]) -> str:
    """A table of texts, booleans and numbers, with a line for each."""
    lines = [f"[{'.'.join(map(_key, header))}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _quoted(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else _quoted(str(value))


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(c, c) if c.isprintable() else _escaped(c) for c in text) + '"'


def _escaped(character: str) -> str:
    return f"\\U{ord(character):08x}"
