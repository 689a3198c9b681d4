"""The manifest of a checkpoint: every file, and where each of its bytes lies."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import zstandard
from pydantic import AwareDatetime, Field

from ckptsync.errors import IntegrityError
from ckptsync.hashing import DIGEST_SIZE, Digest
from ckptsync.model import CheckpointId, Engine
from ckptsync.repository import keys, packs
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.files import Chunked, FileEntry, Files, Packed
from ckptsync.repository.head import Decimal, Id
from ckptsync.repository.objects import Codec, Frame, StoredObject
from ckptsync.repository.paths import check, check_tree
from ckptsync.repository.untrusted import Members, Record, decoded, inflate, parse

STORED_LIMIT: Final = 256 << 20
INFLATED_LIMIT: Final = 1 << 30
MAX_FILES: Final = 5_000_000
_TREE: Final = "tree:"


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
    files: int
    bytes: int
    new_bytes: int
    objects: int


class Header(Record):
    """All of a manifest but its three long lists."""

    format: Literal["ckptsync/manifest"] = "ckptsync/manifest"
    version: Literal[1] = 1
    checkpoint: Id
    repository_id: str
    timeline: int
    epoch: int
    parent: Id | None
    host: tuple[int, int] = (0, 1)
    created_at: AwareDatetime
    writer: WriterStamp
    sweep_generation: Annotated[int, Field(ge=0)]
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
    if len(manifest.files) > MAX_FILES:
        raise IntegrityError(
            f"the checkpoint has {len(manifest.files)} files; a manifest holds {MAX_FILES}"
        )
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    pieces = [compressor.compress(piece.encode("ascii")) for piece in _text(manifest)]
    data = b"".join((*pieces, compressor.flush()))
    if len(data) > STORED_LIMIT:
        raise IntegrityError(f"the manifest takes {len(data)} bytes; {STORED_LIMIT} are allowed")
    return data


def _text(manifest: Manifest) -> Iterator[str]:
    # Everything outside ASCII is escaped, so that the text takes one byte a character in memory.
    yield manifest.header.model_dump_json(ensure_ascii=True)[:-1]
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
                row["digest"] = _TREE + row["digest"]
        case None:
            row["chunks"] = []
    return row


def decode(data: bytes, descriptor: Descriptor, what: str) -> Manifest:
    """Read and check a stored manifest.

    Every path is safe, every reference leads to an object of the manifest, every size and
    total adds up. Raises IntegrityError, UnsupportedFormat.
    """
    text = decoded(inflate(data, limit=INFLATED_LIMIT, what=what), what)
    members = Members(text, what)
    rest: dict[str, Any] = {}
    rows: dict[str, Any] = {"objects": (), "files": Files(), "directories": ()}
    for name in members:
        match name:
            case "objects":
                rows[name] = tuple(
                    _read_object(row, descriptor, what) for row in members.elements()
                )
            case "files":
                rows[name] = _read_files(members.elements(), descriptor, what)
            case "directories":
                rows[name] = tuple(check(each, what) for each in members.elements())
            case _:
                rest[name] = members.value()
    del text, members
    manifest = Manifest(header=parse(Header, json.dumps(rest).encode(), what), **rows)
    _check_whole(manifest, descriptor, what)
    return manifest


def _read_object(row: Any, descriptor: Descriptor, what: str) -> StoredObject:
    match row:
        case [str(key), int(size), str(digest), str(codec), *more] if keys.DATA_PATTERN.fullmatch(
            key
        ):
            pass
        case _:
            raise IntegrityError(f"{what} is damaged: not an object row: {row!r:.120}")
    try:
        frames = tuple(Frame(stored, raw) for stored, raw in (more[0] if more else ()))
        stored = StoredObject(
            key=key, size=size, digest=_digest(digest), codec=Codec(codec), frames=frames
        )
    except (ValueError, TypeError):
        raise IntegrityError(f"{what} is damaged: not an object row: {row!r:.120}") from None
    if not _sound(stored, descriptor.chunk_size):
        raise IntegrityError(f"{what} is damaged: {key} cannot be what its row says")
    return stored


def _sound(stored: StoredObject, chunk_size: int) -> bool:
    """Whether each part that a reader fetches at once is at most a chunk long."""
    if stored.codec is not Codec.PACK:
        whole = 0 < stored.size <= chunk_size
        return whole and not stored.frames and stored.key.startswith(keys.CHUNKS)
    return (
        stored.key.startswith(keys.PACKS)
        and all(
            isinstance(frame.stored, int)
            and isinstance(frame.raw, int)
            and 0 < frame.stored <= chunk_size
            and 0 < frame.raw <= packs.MAX_FRAME
            for frame in stored.frames
        )
        and sum(frame.stored for frame in stored.frames) == stored.size
    )


def _read_files(rows: Iterator[Any], descriptor: Descriptor, what: str) -> Files:
    files = Files()
    for row in rows:
        if len(files) == MAX_FILES:
            raise IntegrityError(f"{what} names more than {MAX_FILES} files")
        try:
            path, size, digest = row["path"], row["size"], row["digest"]
            mode, mtime_ns = row["mode"], int(row["mtime_ns"])
            location = _read_location(row, descriptor)
            tree = isinstance(location, Chunked) and len(location.chunks) > 1
            files.append(
                check(path, what),
                size,
                mode & 0o777,
                mtime_ns,
                _digest(digest.removeprefix(_TREE) if tree else digest),
                location,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise IntegrityError(f"{what} is damaged: not a file row: {row!r:.200}") from None
    return files


def _read_location(row: dict[str, Any], descriptor: Descriptor) -> Packed | Chunked | None:
    """Raises ValueError, KeyError or TypeError if the row makes no sense."""
    size = row["size"]
    if not isinstance(size, int) or size < 0:
        raise ValueError("size")
    if "pack" in row:
        number, frame, offset = row["pack"]
        if not 0 < size <= packs.MAX_FRAME or min(number, frame, offset) < 0:
            raise ValueError("pack")
        return Packed(number, frame, offset)
    chunks = tuple((_number(each), _digest(digest)) for each, digest in row["chunks"])
    if len(chunks) != -(-size // descriptor.chunk_size):
        raise ValueError("chunks")
    return Chunked(chunks) if chunks else None


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError("not a number of an object")
    return value


def _digest(text: str) -> Digest:
    digest = bytes.fromhex(text)
    if len(digest) != DIGEST_SIZE:
        raise ValueError("digest")
    return Digest(digest)


def _check_whole(manifest: Manifest, descriptor: Descriptor, what: str) -> None:
    if manifest.header.repository_id != descriptor.repository_id:
        raise IntegrityError(f"{what} belongs to repository {manifest.header.repository_id}")
    check_tree(manifest.files.paths, manifest.directories, what)
    for entry in manifest.files:
        if not _resolves(entry, manifest.objects):
            raise IntegrityError(f"{what} is damaged: {entry.path!r:.80} leads nowhere")
    totals = manifest.header.totals
    actual = (len(manifest.files), manifest.files.bytes, len(manifest.objects))
    if (totals.files, totals.bytes, totals.objects) != actual:
        raise IntegrityError(f"{what} is damaged: its totals are not those of its files")


def _resolves(entry: FileEntry, objects: Sequence[StoredObject]) -> bool:
    match entry.location:
        case Packed(number, frame, offset):
            return (
                number < len(objects)
                and frame < len(objects[number].frames)
                and offset + entry.size <= objects[number].frames[frame].raw
            )
        case Chunked(chunks):
            single = len(chunks) > 1 or chunks[0][1] == entry.digest
            return single and all(
                0 <= number < len(objects) and objects[number].codec is not Codec.PACK
                for number, _ in chunks
            )
        case None:
            return entry.size == 0
