"""The nouns that every layer shares."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
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


class Role(StrEnum):
    """What this node is to a pipeline."""

    PRIMARY = "primary"
    STANDBY = "standby"
    ACTIVATING = "activating"
    """It has been asked to take over, and has not finished."""
    ACTIVATION_FAILED = "activation_failed"
    """It took the epoch, and could not go on; asking again goes on."""
    RELEASED = "released"
    """It has given the bucket to another node, which has not taken it yet."""
    FENCED = "fenced"
    """Another node took over."""
    UNFENCED = "unfenced"
    """It was activated by force while the bucket did not answer: it runs, and pushes nothing."""
    DIVERGED = "diverged"
    """It ran unfenced, and the bucket went on without it."""
    STOPPED = "stopped"
    """It found what only an operator can judge, and writes nothing."""


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
