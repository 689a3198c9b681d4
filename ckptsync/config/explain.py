"""What pydantic found wrong, as lines for the operator. No line ever shows a secret."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ckptsync.config.model import SECTION

_SECRET: Final = re.compile(r"secret|password|token|access_key", re.IGNORECASE)
_USERINFO: Final = re.compile(r"[^/\s]*@")
_QUERY: Final = re.compile(r"[?#].*", re.DOTALL)
_LONGEST: Final = 80

_INSTEAD: Final = {
    "checkers": "nothing is listed or compared here; parallel requests are 'transfers'",
    "ignore_checksum": "checksums are always verified; leave it out",
    "multi_thread_streams": "files go in chunks of repository.chunk_size, 'transfers' at a time",
    "multi_thread_cutoff": "files go in chunks of repository.chunk_size; leave it out",
    "upload_concurrency": "parallel requests are 'transfers'",
    "optimize_download_resources": "memory for transfers is bounded by 'memory'",
    "flags": "flags of rclone do not apply; there are server_side_encryption, kms_key_id, "
    "storage_class and path_style",
}
"""Feldera's fields that steer rclone, and what to write instead."""

_SENTENCES: Final = {
    "missing": "is required",
    "string_type": "must be text in quotes",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "tuple_type": "must be a list of texts",
    "model_type": "must be a table",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "has a character that is not allowed here, or the wrong length",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    at: tuple[str, ...]
    """The keys that lead to it."""
    text: str
    """Begins with a verb; with the value in front where it can be shown."""

    def __str__(self) -> str:
        return ".".join(map(_key, self.at)) + self.text


def problem(at: Iterable[str], sentence: str, *, value: Any = None) -> Problem:
    """A problem found by a rule of ours. `value` is shown unless it could be a secret."""
    at = tuple(at)
    if value is None or _SECRET.search(at[-1]) or isinstance(value, dict | list):
        return Problem(at=at, text=f": {sentence}")
    shown = _show(value)
    return Problem(at=at, text=f" = {shown}: {sentence.removeprefix(f'{shown} ')}")


def problems(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Everything that is wrong in one section."""
    return [_explain(details, model) for details in error.errors(include_url=False)]


def unknown(at: tuple[str, ...], known: Iterable[str]) -> Problem:
    """A key that is not there to be set. Its value is never shown: it may be a misspelt secret."""
    key = at[-1]
    if key in _INSTEAD and "sync" in at:
        return problem(at, f"is a setting of rclone: {_INSTEAD[key]}")
    close = difflib.get_close_matches(key, list(known), n=1)
    meant = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
    return problem(at, f"is not a setting{meant}")


def _explain(details: ErrorDetails, model: type[BaseModel]) -> Problem:
    at = tuple(str(part) for part in details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown(at, _section(model, at[:-1]).model_fields)
    if kind == "missing":
        return problem(at, _SENTENCES[kind])
    if kind == SECTION:
        return problem(at[:-1], details["msg"])
    if kind == "value_error":
        return problem(at, str(context["error"]), value=details["input"])
    sentence = _SENTENCES.get(kind, details["msg"].replace("Input should be", "must be"))
    return problem(at, sentence.format_map(context), value=details["input"])


def _section(model: type[BaseModel], at: tuple[str, ...]) -> type[BaseModel]:
    for name in at:
        annotation = model.model_fields[name].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return model


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else repr(key)


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return str(value)
    scrubbed = _QUERY.sub("?***", _USERINFO.sub("***@", value))
    return repr(scrubbed if len(scrubbed) <= _LONGEST else scrubbed[:_LONGEST] + "...")
