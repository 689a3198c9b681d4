"""Reading a manifest that anybody may have written: what comes out makes sense in every part."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from ckptsync.errors import IntegrityError
from ckptsync.hashing import DIGEST_SIZE, Digest
from ckptsync.repository import keys, manifest, packs
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.files import Chunked, FileEntry, Files, Location, Packed
from ckptsync.repository.manifest import MAX_CHUNKS, ROW_LIMIT, TREE, Header, Manifest
from ckptsync.repository.objects import Codec, Frame, StoredObject
from ckptsync.repository.paths import check, check_tree
from ckptsync.repository.untrusted import TOO_LONG, Members, One, Record, inflate, inflating, parse

_CHUNK_LIMIT: Final = 1024  # bytes of text of one chunk of a file
_BEGINNINGS: Final = (1 << 22, 1 << 26)  # bytes of text tried in turn, before all of it
_DECIMAL = re.compile(r"-?[0-9]{1,19}")


class _Stamp(Record):
    """What tells whether this version can read the rest."""

    format: Literal["ckptsync/manifest"] = "ckptsync/manifest"
    version: One = 1


def decode(data: bytes, descriptor: Descriptor, what: str) -> Manifest:
    """Read and check a stored manifest.

    Every path is safe, every reference leads to an object of the manifest, every size and
    total adds up. Takes memory in proportion to the inflated text, whatever that says.
    Raises IntegrityError, UnsupportedFormat.
    """
    text = inflate(data, limit=manifest.INFLATED_LIMIT, what=what)
    members = Members(text, what, limit=manifest.HEADER_LIMIT)
    rest: dict[str, Any] = {}
    rows: dict[str, Any] = {"objects": (), "files": Files(), "directories": ()}
    for name in members:
        match name:
            case "objects":
                rows[name] = tuple(_objects(members, descriptor, what))
            case "files":
                rows[name] = _files(_file_rows(text, members, what), descriptor, what)
            case "directories":
                rows[name] = tuple(_directories(members, what))
            case _:
                rest[name] = members.value()
    members.end()
    del text, members
    read = Manifest(header=parse(Header, json.dumps(rest).encode(), what), **rows)
    _check_whole(read, descriptor, what)
    return read


def read_objects(data: bytes, descriptor: Descriptor, what: str) -> tuple[StoredObject, ...]:
    """The objects of a stored manifest whose digest was found right.

    Inflates and reads no further than their list, so it is quick where they come before the
    files. Raises IntegrityError, also if there is no such list; UnsupportedFormat.
    """
    for length in _BEGINNINGS:
        beginning = _beginning(data, length, what)
        try:
            return _first_objects(beginning, descriptor, what)
        except IntegrityError:
            if len(beginning) < length:
                raise
            # Cut short, as far as that tells.
    whole = inflate(data, limit=manifest.INFLATED_LIMIT, what=what)
    return _first_objects(whole, descriptor, what)


def _beginning(data: bytes, length: int, what: str) -> bytes:
    """What the data inflates to, up to this length at least."""
    text = io.BytesIO()
    for piece in inflating(data, what=what):
        text.write(piece)
        if text.tell() >= length:
            break
    return text.getvalue()


def _first_objects(text: bytes, descriptor: Descriptor, what: str) -> tuple[StoredObject, ...]:
    members = Members(text, what, limit=manifest.HEADER_LIMIT)
    stamp: dict[str, Any] = {}
    objects: tuple[StoredObject, ...] | None = None
    for name in members:
        match name:
            case "objects":
                objects = tuple(_objects(members, descriptor, what))
            case "files":
                for _ in _file_rows(text, members, what):
                    pass
            case "directories":
                for _ in _directories(members, what):
                    pass
            case "format" | "version":
                stamp[name] = members.value()
                parse(_Stamp, json.dumps(stamp).encode(), what)  # before rows of a newer version
            case _:
                members.value()
        if objects is not None and len(stamp) == len(_Stamp.model_fields):
            break
    if objects is None:
        raise IntegrityError(f"{what} is damaged: it has no list of objects")
    return objects


def _objects(members: Members, descriptor: Descriptor, what: str) -> Iterator[StoredObject]:
    frames = 0
    for row in members.elements(limit=ROW_LIMIT):
        stored = _object(row, descriptor, what)
        frames += len(stored.frames)
        if frames > manifest.MAX_FILES:
            raise IntegrityError(f"{what} has packs of more than {manifest.MAX_FILES} frames")
        yield stored


def _object(row: Any, descriptor: Descriptor, what: str) -> StoredObject:
    try:
        key, size, digest, codec, *more = row
        stored = StoredObject(
            key=_key(key),
            size=_number(size),
            digest=_digest(digest),
            codec=Codec(codec),
            frames=tuple(Frame(_number(each), _number(raw)) for each, raw in more[0])
            if more
            else (),
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
        and len(stored.frames) <= packs.MAX_FRAMES
        and all(
            0 < frame.stored <= chunk_size and 0 < frame.raw <= packs.MAX_FRAME
            for frame in stored.frames
        )
        and sum(frame.stored for frame in stored.frames) == stored.size
    )


def _directories(members: Members, what: str) -> Iterator[str]:
    for count, path in enumerate(members.elements(limit=ROW_LIMIT)):
        if count == manifest.MAX_FILES:
            raise IntegrityError(f"{what} names more than {manifest.MAX_FILES} directories")
        yield check(path, what)


def _file_rows(text: bytes, members: Members, what: str) -> Iterator[Any]:
    for at in members.places():
        row = members.element(limit=ROW_LIMIT)
        if row is TOO_LONG:
            inner = Members(text, what, limit=ROW_LIMIT, start=at)
            row = {
                name: _many_chunks(inner, what) if name == "chunks" else inner.value()
                for name in inner
            }
            members.went_on(inner.at)
        yield row


def _many_chunks(members: Members, what: str) -> tuple[tuple[int, Digest], ...]:
    """The chunks of a file of many, read one by one."""
    chunks: list[tuple[int, Digest]] = []
    for each in members.elements(limit=_CHUNK_LIMIT):
        if len(chunks) == MAX_CHUNKS:
            raise IntegrityError(f"{what} names a file of more than {MAX_CHUNKS} chunks")
        try:
            chunks.append(_chunk(each))
        except (ValueError, TypeError):
            raise IntegrityError(f"{what} is damaged: not a chunk: {each!r:.120}") from None
    return tuple(chunks)


def _files(rows: Iterator[Any], descriptor: Descriptor, what: str) -> Files:
    files = Files()
    for row in rows:
        if len(files) == manifest.MAX_FILES:
            raise IntegrityError(f"{what} names more than {manifest.MAX_FILES} files")
        try:
            size = _number(row["size"])
            location = _location(row, size, descriptor)
            files.append(
                check(row["path"], what),
                size,
                _number(row["mode"]) & 0o777,
                _decimal(row["mtime_ns"]),
                _file_digest(row["digest"], location),
                location,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise IntegrityError(f"{what} is damaged: not a file row: {row!r:.200}") from None
    return files


def _location(row: dict[str, Any], size: int, descriptor: Descriptor) -> Location:
    """Raises ValueError, KeyError or TypeError if the row makes no sense."""
    if "pack" in row:
        number, frame, offset = row["pack"]
        if not 0 < size <= packs.MAX_FRAME:
            raise ValueError("pack")
        return Packed(_number(number), _number(frame), _number(offset))
    chunks = row["chunks"]
    if not isinstance(chunks, tuple):  # as no JSON is: these were read one by one
        chunks = tuple(_chunk(each) for each in chunks)
    if len(chunks) != -(-size // descriptor.chunk_size) or len(chunks) > MAX_CHUNKS:
        raise ValueError("chunks")
    return Chunked(chunks) if chunks else None


def _chunk(pair: Any) -> tuple[int, Digest]:
    number, digest = pair
    return _number(number), _digest(digest)


def _number(value: Any) -> int:
    # Neither True, which is an int too, nor 1.0, which equals one.
    if type(value) is not int or value < 0:
        raise ValueError("not a number of things")
    return value


def _decimal(text: str) -> int:
    if not _DECIMAL.fullmatch(text):
        raise ValueError("not an integer as text")
    return int(text)


def _key(text: str) -> str:
    if not keys.DATA_PATTERN.fullmatch(text):
        raise ValueError("not the key of a chunk or pack")
    return text


def _file_digest(text: str, location: Location) -> Digest:
    if not isinstance(location, Chunked) or len(location.chunks) == 1:
        return _digest(text)
    if not text.startswith(TREE):
        raise ValueError("not a digest of digests")
    return _digest(text.removeprefix(TREE))


def _digest(text: str) -> Digest:
    # fromhex takes capitals and spaces too: then a digest would have more than one spelling.
    digest = bytes.fromhex(text)
    if len(digest) != DIGEST_SIZE or digest.hex() != text:
        raise ValueError("not a digest")
    return Digest(digest)


def _check_whole(read: Manifest, descriptor: Descriptor, what: str) -> None:
    if read.header.repository_id != descriptor.repository_id:
        raise IntegrityError(f"{what} belongs to repository {read.header.repository_id}")
    check_tree(read.files.paths, read.directories, what)
    for entry in read.files:
        if not _resolves(entry, read.objects):
            raise IntegrityError(f"{what} is damaged: {entry.path!r:.80} leads nowhere")
    totals = read.header.totals
    actual = (len(read.files), read.files.bytes, len(read.objects))
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
                number < len(objects) and objects[number].codec is not Codec.PACK
                for number, _ in chunks
            )
        case None:
            return entry.size == 0
