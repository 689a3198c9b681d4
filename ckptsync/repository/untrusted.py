"""Reading bytes that anybody may have written: bounded inflation, bounded JSON."""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import zstandard
from pydantic import BaseModel, ConfigDict, ValidationError

from ckptsync.errors import IntegrityError, UnsupportedFormat

MAX_DEPTH: Final = 32
MAX_WINDOW: Final = 1 << 27  # bytes of memory that one zstd stream may ask for
_PIECE: Final = 1 << 20

# A string that never ends is matched too: to try at each of its quotes would take hours.
_BRACKETS_AND_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
_WHITESPACE = re.compile(r"[ \t\n\r]*")

M = TypeVar("M", bound="Record")


class Record(BaseModel):
    """A JSON object from the bucket. Fields that this version does not know survive a rewrite."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


def parse(model: type[M], data: bytes, what: str) -> M:
    """Read a JSON document. `what` names it in errors: store and key.

    Raises IntegrityError; UnsupportedFormat if it says that a newer version wrote it.
    """
    text = decoded(data, what)
    check_depth(text, what)
    _check_version(text, what)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise IntegrityError(f"{what} is damaged: {place}: {first['msg']}") from None


def decoded(data: bytes, what: str) -> str:
    """Raises IntegrityError if the data is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{what} is damaged: not UTF-8 at byte {error.start}") from None


def check_depth(text: str, what: str) -> None:
    """Raises IntegrityError if brackets nest deeper than MAX_DEPTH."""
    depth = 0
    for match in _BRACKETS_AND_STRINGS.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise IntegrityError(f"{what} is damaged: JSON nested deeper than {MAX_DEPTH}")
        elif first in "]}":
            depth -= 1


def _check_version(text: str, what: str) -> None:
    # A newer format may differ in any field, so its number must be looked at before the fields.
    match = re.search(r'"version"\s*:\s*(\d{1,9})\b', text[:512])
    if match and int(match[1]) > 1:
        raise newer(what, f"format version {match[1]}")


def newer(what: str, seen: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"{what} was written by a newer ckptsync ({seen}; this one reads version 1)",
        hint="upgrade ckptsync on this host",
    )


def inflate(data: bytes | memoryview, *, limit: int, what: str) -> bytes:
    """Decompress zstd data. Raises IntegrityError if it is damaged or inflates beyond `limit`."""
    out = io.BytesIO()
    for piece in inflating(data, what=what):
        if out.tell() + len(piece) > limit:
            raise IntegrityError(f"{what} inflates to more than the {limit} bytes allowed")
        out.write(piece)
    return out.getvalue()


def inflating(data: bytes | memoryview, *, what: str) -> Iterator[memoryview]:
    """Decompress zstd data piece by piece; each piece is valid until the next is asked for.

    Raises IntegrityError if the data is damaged. Data that was cut short just ends early, so
    the caller compares what came out with the size or digest it expects.
    """
    buffer = memoryview(bytearray(_PIECE))
    engine = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    try:
        with engine.stream_reader(data, read_across_frames=True) as reader:
            while count := reader.readinto(buffer):
                yield buffer[:count]
    except zstandard.ZstdError as error:
        raise IntegrityError(f"{what} is damaged: {error}") from None


class Members:
    """The members of one large JSON object, read one at a time; arrays element by element.

    The whole text is held once; no tree of it is ever built.
    """

    def __init__(self, text: str, what: str) -> None:
        self._text = text
        self._what = what
        self._at = 0
        self._scan = json.JSONDecoder().raw_decode

    def __iter__(self) -> Iterator[str]:
        """The names, in order. After each, call value() or elements() exactly once."""
        self._expect("{")
        seen: set[str] = set()
        if self._next() == "}":
            self._at += 1
        else:
            while True:
                self._next()
                name = self.value()
                if not isinstance(name, str) or name in seen:
                    raise self._damaged("a member has no name of its own")
                seen.add(name)
                self._expect(":")
                yield name
                if self._expect(",}") == "}":
                    break
        if self._next():
            raise self._damaged("more follows the end of the document")

    def value(self) -> Any:
        """The current member's value, or the current element's."""
        self._next()
        try:
            value, self._at = self._scan(self._text, self._at)
        except (ValueError, RecursionError) as error:
            raise self._damaged(str(error)) from None
        return value

    def elements(self) -> Iterator[Any]:
        """The elements of the current member, which must be an array."""
        self._expect("[")
        if self._next() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._expect(",]") == "]":
                return

    def _next(self) -> str:
        match = _WHITESPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at : self._at + 1]

    def _expect(self, allowed: str) -> str:
        found = self._next()
        if not found or found not in allowed:
            raise self._damaged(f"expected one of {allowed!r}, found {found!r}")
        self._at += 1
        return found

    def _damaged(self, reason: str) -> IntegrityError:
        return IntegrityError(f"{self._what} is damaged: at character {self._at}: {reason}")
