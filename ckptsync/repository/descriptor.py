"""`ckptsync.json`: what a repository is. Created once, never changed."""

from typing import Annotated, Final, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, ValidationError, model_validator

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Hash
from ckptsync.repository import keys
from ckptsync.repository.untrusted import One, Record, newer, parse
from ckptsync.stores.base import ObjectStore

MIB: Final = 1 << 20
LIMIT: Final = MIB
"""Bytes of a stored descriptor."""


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"{value} is not a power of two")
    return value


class Descriptor(Record):
    """The choices that every later byte depends on. What it says wins over any configuration."""

    format: Literal["ckptsync/repository"] = "ckptsync/repository"
    version: One = 1
    repository_id: str
    created_at: AwareDatetime
    pipeline: str
    hosts: One = 1
    hash: Annotated[Hash, Field(strict=False)] = Hash.BLAKE3
    chunk_size: Annotated[int, Field(ge=4 * MIB, le=512 * MIB), AfterValidator(_power_of_two)] = (
        32 * MIB
    )
    """Bytes of every chunk of a file but the last."""
    pack_below: Annotated[int, Field(ge=0, le=16 * MIB)] = MIB
    """Files shorter than this share packs; at most half a chunk, whose buffer holds a pack."""
    pack_target: Annotated[int, Field(ge=MIB, le=512 * MIB)] = 32 * MIB
    """A pack grows to about this many bytes."""
    read_features: tuple[str, ...] = ()
    write_features: tuple[str, ...] = ()
    crypto: None = None

    @model_validator(mode="after")
    def _packable(self) -> Self:
        if 2 * self.pack_below > self.chunk_size:
            raise ValueError("pack_below is more than half of chunk_size")
        return self

    def require_writable(self, what: str) -> None:
        """Raises UnsupportedFormat if a newer version must write here."""
        if self.write_features:
            raise newer(what, f"writing needs {', '.join(self.write_features)}")


def encode(descriptor: Descriptor) -> bytes:
    return descriptor.model_dump_json(indent=1).encode() + b"\n"


def decode(data: bytes, what: str) -> Descriptor:
    """Raises IntegrityError, UnsupportedFormat."""
    _refuse_features(data, what)
    descriptor = parse(Descriptor, data, what)
    try:
        UUID(descriptor.repository_id)
    except ValueError:
        raise IntegrityError(f"{what} is damaged: repository_id is not a UUID") from None
    return descriptor


def _refuse_features(data: bytes, what: str) -> None:
    # A feature may change any other field (encryption fills `crypto`), so it is named first.
    class Features(Record):
        read_features: tuple[str, ...] = ()

    try:
        needed = Features.model_validate_json(data).read_features
    except ValidationError:
        return
    if needed:
        raise newer(what, f"reading needs {', '.join(needed)}")


def read(store: ObjectStore) -> Descriptor:
    """Raises NotFound, IntegrityError, UnsupportedFormat."""
    fetched = store.get(keys.DESCRIPTOR, limit=LIMIT)
    return decode(fetched.data, f"{store.name}/{keys.DESCRIPTOR}")
