"""The files of a checkpoint, held so that hundreds of thousands of them stay small in memory."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from ckptsync.hashing import DIGEST_SIZE, Digest
from ckptsync.model import File


@dataclass(frozen=True, slots=True)
class Packed:
    """In a pack: which object of the manifest, which frame of it, where in the inflated frame."""

    object: int
    frame: int
    offset: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """In chunks of their own: (object of the manifest, digest of the raw chunk), in file order."""

    chunks: tuple[tuple[int, Digest], ...]


Location = Packed | Chunked | None
"""None for an empty file, which needs no object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry(File):
    """A file of a manifest, and where its bytes lie."""

    location: Location


_ELSEWHERE = -1


class Files(Sequence[FileEntry]):
    """Entries in order of path. About 140 bytes a packed file beside its path, by columns."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._sizes = array("q")
        self._modes = array("H")
        self._mtimes = array("q")
        self._digests = bytearray()
        self._objects = array("l")
        self._frames = array("l")
        self._offsets = array("l")
        self._chunked: dict[int, Chunked] = {}

    def append(
        self, path: str, size: int, mode: int, mtime_ns: int, digest: Digest, at: Location
    ) -> None:
        """Add the entry that follows all others by path. Raises OverflowError beyond 64 bits."""
        packed = at if isinstance(at, Packed) else Packed(_ELSEWHERE, 0, 0)
        if isinstance(at, Chunked):
            self._chunked[len(self._paths)] = at
        self._paths.append(path)
        self._sizes.append(size)
        self._modes.append(mode)
        self._mtimes.append(mtime_ns)
        self._digests += digest
        self._objects.append(packed.object)
        self._frames.append(packed.frame)
        self._offsets.append(packed.offset)

    @property
    def paths(self) -> Sequence[str]:
        return self._paths

    @property
    def bytes(self) -> int:
        return sum(self._sizes)

    @property
    def most_chunks(self) -> int:
        """Of any one file."""
        return max((len(each.chunks) for each in self._chunked.values()), default=0)

    def place_in_packs(self, number: int) -> int:
        """Orders packed files as they lie: by object, frame, and offset."""
        return (self._objects[number] << 32 | self._frames[number]) << 32 | self._offsets[number]

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, number: int) -> FileEntry: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[FileEntry]: ...
    def __getitem__(self, number: int | slice) -> FileEntry | Sequence[FileEntry]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        location: Location = self._chunked.get(number)
        if self._objects[number] != _ELSEWHERE:
            location = Packed(self._objects[number], self._frames[number], self._offsets[number])
        start = number * DIGEST_SIZE
        return FileEntry(
            path=self._paths[number],
            size=self._sizes[number],
            mode=self._modes[number],
            mtime_ns=self._mtimes[number],
            digest=Digest(bytes(self._digests[start : start + DIGEST_SIZE])),
            location=location,
        )

    def __iter__(self) -> Iterator[FileEntry]:
        return (self[number] for number in range(len(self)))
