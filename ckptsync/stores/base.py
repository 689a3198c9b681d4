"""Where bytes live: a flat map of keys to immutable byte strings."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import NewType, Protocol

Version = NewType("Version", str)
"""Changes whenever the object does: an ETag, a generation, a digest."""

Body = bytes | bytearray | memoryview


class Expect(Enum):
    """What must be true of a key for a write to happen; a Version says "unchanged since"."""

    ANYTHING = auto()
    ABSENT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    key: str
    size: int
    modified: datetime
    """By the store's clock, in UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    data: bytes
    version: Version
    replica: bool = False
    """The store itself brought it here from another bucket; False where it does not tell."""


class ObjectStore(Protocol):
    """Safe to share between threads. Every write is atomic and, once answered, durable.

    Every failure is a StoreError; a missing bucket is BucketNotFound and never NotFound, since
    "the bucket is not there" is not "the object is absent". Any call may raise AccessDenied or
    Unavailable.
    """

    @property
    def name(self) -> str:
        """For messages, as the operator wrote it: `s3://bucket/prefix`. Holds no secret."""
        ...

    def stat(self, key: str) -> ObjectInfo:
        """Raises NotFound."""
        ...

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with prefix, each at least once, in no promised order.

        Objects written or deleted during the walk may or may not be seen. Reads a page at a
        time; never ends early without raising.
        """
        ...

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        """Read a whole small object.

        Raises NotFound; NotModified if its version is still `unless`; IntegrityError, before
        the body is read, if it is longer than `limit` bytes.
        """
        ...

    def read_into(self, key: str, start: int, into: memoryview) -> None:
        """Fill `into` with the object's bytes from `start` on.

        Raises NotFound; IntegrityError if the object ends before `into` is full.
        """
        ...

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        """Write an object whole, with a checksum that the store verifies.

        Raises PreconditionFailed if the key is not as expected, which a lost reply can also
        cause; Contention if a racing write kept this one from being applied; ChecksumRejected;
        Undurable.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; absent ones are no error. Raises StoreError if any key survives."""
        ...

    def now(self) -> datetime:
        """The store's clock, in UTC. Never the local clock, where the store has one."""
        ...

    def close(self) -> None: ...
