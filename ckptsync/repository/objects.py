"""The data objects that a manifest refers to, and how their bytes are coded."""

from dataclasses import dataclass
from enum import StrEnum

from ckptsync.hashing import Digest


class Codec(StrEnum):
    RAW = "raw"
    ZSTD = "zstd"
    PACK = "tar+zstd"


@dataclass(frozen=True, slots=True)
class Frame:
    """One zstd frame of a pack: its length as stored and as inflated, in bytes."""

    stored: int
    raw: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """A chunk or a pack as it lies in the store. Never changed, never written twice."""

    key: str
    size: int
    digest: Digest
    """Of the stored bytes."""
    codec: Codec
    frames: tuple[Frame, ...] = ()
    """Of a pack, in order; empty for a chunk."""
