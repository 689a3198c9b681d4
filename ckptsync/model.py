"""The nouns that every layer shares."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NewType

from ckptsync.hashing import Digest

CheckpointId = NewType("CheckpointId", str)
"""`<timeline 4 hex>-<seq 8 hex>-<name 12 hex>`, minted at commit."""

Progress = Callable[[int], None]
"""Gets the bytes moved since the last call, negative when an attempt starts over.

It may raise Cancelled, which ends the transfer.
"""


def ignore(_moved: int) -> None:
    """A Progress for those who do not look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What the engine itself says of a checkpoint."""

    layout: str
    id: str
    """The engine's own name for it: a UUID, a directory's name."""
    step: int
    """Never goes down along a timeline."""
    records: int | None = None
    fingerprint: int | None = None
    """Unsigned 64 bits, so it may exceed 2^53."""
    lineage: str | None = None
    """Equal for checkpoints of one uninterrupted life of the engine; None where it cannot tell."""
    platform_version: str | None = None
    metadata: str | None = None
    """The engine's own catalog entry as JSON text, unparsed: its numbers survive every tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCheckpoint:
    """A complete checkpoint on the local disk."""

    engine: Engine
    at: datetime
    """When it became complete, by the local clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """`chunks` are the digests of the file's chunks in order; empty for an empty file."""

    digest: Digest
    chunks: tuple[Digest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A regular file of a checkpoint."""

    path: str
    """Relative to the storage root, `/`-separated."""
    size: int
    mode: int
    """Permission bits only."""
    mtime_ns: int
    digest: Digest
