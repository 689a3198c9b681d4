"""Reading bytes that anybody may have written: bounded inflation, bounded JSON."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, TypeVar

import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ckptsync.errors import IntegrityError, UnsupportedFormat

MAX_DEPTH: Final = 32
MAX_WINDOW: Final = 1 << 27  # bytes of memory that one zstd stream may ask for
_PIECE: Final = 1 << 20
_LENGTHS: Final = (1 << 10, 1 << 15, 1 << 30)  # tried in turn: nearly every value is short
TOO_LONG: Final = object()
"""What no JSON value is."""

# A string that never ends is matched too: to try at each of its quotes would take hours.
_BRACKETS_AND_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)
_WHITESPACE = re.compile(rb"[ \t\n\r]*")

M = TypeVar("M", bound="Record")

One = Annotated[int, Field(ge=1, le=1)]
"""The number 1; a Literal would take `true` for it."""


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


def inflate_whole(data: bytes | memoryview, *, size: int, what: str) -> bytes:
    """Decompress zstd data. Raises IntegrityError unless it is undamaged and gives `size` bytes."""
    content = inflate(data, limit=size, what=what)
    if len(content) != size:
        raise IntegrityError(f"{what} inflates to {len(content)} bytes in place of {size}")
    return content


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
    """The members of a JSON object read one at a time, arrays element by element.

    The text is held once, as bytes; of what it says only one value at a time, from so many
    bytes of text at most that a value made of brackets alone still takes little memory.
    """

    def __init__(self, data: bytes, what: str, *, limit: int, start: int = 0) -> None:
        """`limit` is the bytes that all names and values may take which `value` reads."""
        self._data = data
        self._what = what
        self._left = limit
        self._at = start
        self._scan = json.JSONDecoder().raw_decode

    @property
    def at(self) -> int:
        """The offset of the byte to be read next."""
        return self._at

    def __iter__(self) -> Iterator[str]:
        """The names, in order. After each, call value(), elements() or places() exactly once."""
        self._expect(b"{")
        seen: set[str] = set()
        if self._next() == b"}":
            self._at += 1
            return
        while True:
            name = self.value()
            if not isinstance(name, str) or name in seen:
                raise self._damaged("a member has no name of its own")
            seen.add(name)
            self._expect(b":")
            yield name
            if self._expect(b",}") == b"}":
                return

    def end(self) -> None:
        """Raises IntegrityError if more than the object is there."""
        if self._next():
            raise self._damaged("more follows the end of the document")

    def value(self) -> Any:
        """The current member's value."""
        self._next()
        start = self._at
        value = self._short(self._left)
        self._left -= self._at - start
        return value

    def elements(self, *, limit: int) -> Iterator[Any]:
        """The elements of the current member, an array, each of at most `limit` bytes."""
        for _ in self.places():
            yield self._short(limit)

    def places(self) -> Iterator[int]:
        """The offset of each element of the current member, an array.

        After each, call element(), or read it otherwise and call went_on().
        """
        self._expect(b"[")
        if self._next() == b"]":
            self._at += 1
            return
        while True:
            self._next()
            yield self._at
            if self._expect(b",]") == b"]":
                return

    def went_on(self, to: int) -> None:
        """Go on from an offset up to which another reader has read."""
        self._at = to

    def element(self, *, limit: int) -> Any:
        """The value that begins here; TOO_LONG, and nothing read, if `limit` bytes do not do."""
        for each in _LENGTHS:
            length = min(each, limit)
            piece = self._data[self._at : self._at + length]
            whole = len(piece) < length
            try:
                text, _ = codecs.utf_8_decode(piece, "strict", whole)
                value, end = self._scan(text)
            except (ValueError, RecursionError) as error:
                if whole:
                    raise self._damaged(str(error)) from None
                continue
            if end < len(text) or whole:
                self._at += end if text.isascii() else len(text[:end].encode())
                return value
        return TOO_LONG

    def _short(self, limit: int) -> Any:
        value = self.element(limit=limit)
        if value is TOO_LONG:
            raise self._damaged(f"no value that ends within {limit} bytes")
        return value

    def _next(self) -> bytes:
        match = _WHITESPACE.match(self._data, self._at)
        self._at = match.end() if match else self._at
        return self._data[self._at : self._at + 1]

    def _expect(self, allowed: bytes) -> bytes:
        found = self._next()
        if not found or found not in allowed:
            raise self._damaged(f"expected one of {allowed.decode()!r}, found {found!r}")
        self._at += 1
        return found

    def _damaged(self, reason: str) -> IntegrityError:
        return IntegrityError(f"{self._what} is damaged: at byte {self._at}: {reason}")
