"""The manifest of a checkpoint: every file, and where each of its bytes lies."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import zstandard
from pydantic import AwareDatetime

from ckptsync.errors import IntegrityError
from ckptsync.model import CheckpointId, Engine
from ckptsync.repository.files import Chunked, FileEntry, Files, Packed
from ckptsync.repository.head import Count, Decimal, Epoch, Id, TimelineId
from ckptsync.repository.objects import Codec, StoredObject
from ckptsync.repository.untrusted import One, Record

STORED_LIMIT: Final = 256 << 20
INFLATED_LIMIT: Final = 1 << 30
HEADER_LIMIT: Final = 1 << 20
"""Bytes of text that all members but the three lists take together."""
ROW_LIMIT: Final = 2 << 20
"""Bytes of text that one row of a list takes, the chunks of a file not counted."""
MAX_FILES: Final = 5_000_000
"""Of files, of directories, and of frames in all packs together."""
MAX_CHUNKS: Final = 1 << 20
"""Of one file."""
TREE: Final = "tree:"
"""What the digest of a file begins with that was made from those of several chunks."""


class WriterStamp(Record):
    node: str
    version: str


class EngineRecord(Record):
    layout: str
    id: str
    step: Decimal
    records: Decimal | None = None
    fingerprint: Decimal | None = None
    lineage: str | None = None
    platform_version: str | None = None
    metadata: str | None = None


class Totals(Record):
    files: Count
    bytes: Count
    new_bytes: Count
    objects: Count


class Header(Record):
    """All of a manifest but its three long lists."""

    format: Literal["ckptsync/manifest"] = "ckptsync/manifest"
    version: One = 1
    checkpoint: Id
    repository_id: str
    timeline: TimelineId
    epoch: Epoch
    parent: Id | None
    host: tuple[int, int] = (0, 1)
    created_at: AwareDatetime
    writer: WriterStamp
    sweep_generation: Count
    engine: EngineRecord
    totals: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    header: Header
    objects: tuple[StoredObject, ...]
    files: Files
    directories: tuple[str, ...]
    """Those that no file's path implies."""

    @property
    def checkpoint(self) -> CheckpointId:
        return self.header.checkpoint

    @property
    def engine(self) -> Engine:
        record = self.header.engine
        return Engine(
            layout=record.layout,
            id=record.id,
            step=int(record.step),
            records=_integer(record.records),
            fingerprint=_integer(record.fingerprint),
            lineage=record.lineage,
            platform_version=record.platform_version,
            metadata=record.metadata,
        )


def engine_record(engine: Engine) -> EngineRecord:
    return EngineRecord(
        layout=engine.layout,
        id=engine.id,
        step=str(engine.step),
        records=_decimal(engine.records),
        fingerprint=_decimal(engine.fingerprint),
        lineage=engine.lineage,
        platform_version=engine.platform_version,
        metadata=engine.metadata,
    )


def _integer(text: str | None) -> int | None:
    return None if text is None else int(text)


def _decimal(value: int | None) -> str | None:
    return None if value is None else str(value)


def encode(manifest: Manifest) -> bytes:
    """The stored form. Never holds the text whole. Raises IntegrityError beyond the limits."""
    _require_room(manifest)
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    pieces: list[bytes] = []
    inflated = 0
    for piece in _text(manifest):
        inflated += len(piece)
        pieces.append(compressor.compress(piece.encode("ascii")))
    data = b"".join((*pieces, compressor.flush()))
    _require_at_most(INFLATED_LIMIT, inflated, "bytes of text")
    _require_at_most(STORED_LIMIT, len(data), "bytes")
    return data


def _require_room(manifest: Manifest) -> None:
    _require_at_most(MAX_FILES, len(manifest.files), "files")
    _require_at_most(MAX_FILES, len(manifest.directories), "directories")
    _require_at_most(MAX_FILES, sum(len(each.frames) for each in manifest.objects), "frames")
    _require_at_most(MAX_CHUNKS, manifest.files.most_chunks, "chunks of one file")


def _require_at_most(limit: int, count: int, of: str) -> None:
    if count > limit:
        raise IntegrityError(
            f"the manifest of this checkpoint would take {count} {of}; {limit} are allowed",
            hint="let the engine keep less in one checkpoint",
        )


def _text(manifest: Manifest) -> Iterator[str]:
    # Everything outside ASCII is escaped, so that the text takes one byte a character in memory.
    header = manifest.header.model_dump_json(ensure_ascii=True)[:-1]
    _require_at_most(HEADER_LIMIT, len(header), "bytes beside its lists")
    yield header
    yield ',\n"objects":['
    yield from _separated(_object_row(each) for each in manifest.objects)
    yield '],\n"files":['
    yield from _separated(_file_row(each) for each in manifest.files)
    yield '],\n"directories":['
    yield from _separated(manifest.directories)
    yield "]}\n"


def _separated(values: Any) -> Iterator[str]:
    separator = "\n"
    for value in values:
        yield separator + json.dumps(value, separators=(",", ":"))
        separator = ",\n"


def _object_row(stored: StoredObject) -> list[Any]:
    row: list[Any] = [stored.key, stored.size, stored.digest.hex(), stored.codec.value]
    if stored.codec is Codec.PACK:
        row.append([[frame.stored, frame.raw] for frame in stored.frames])
    return row


def _file_row(entry: FileEntry) -> dict[str, Any]:
    row: dict[str, Any] = {
        "path": entry.path,
        "size": entry.size,
        "mode": entry.mode,
        "mtime_ns": str(entry.mtime_ns),
        "digest": entry.digest.hex(),
    }
    match entry.location:
        case Packed(number, frame, offset):
            row["pack"] = [number, frame, offset]
        case Chunked(chunks):
            row["chunks"] = [[number, digest.hex()] for number, digest in chunks]
            if len(chunks) > 1:
                row["digest"] = TREE + row["digest"]
        case None:
            row["chunks"] = []
    return row
