"""What the verified checkpoints refer to: each object once, however many checkpoints share it."""

import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import groupby
from typing import Final, NamedTuple

from ckptsync.hashing import Digest
from ckptsync.repository import chunks
from ckptsync.repository.files import Chunked, FileEntry, Packed
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.objects import StoredObject

_MEMBER: Final = struct.Struct(">III32s")


class Member(NamedTuple):
    """A small file as it must come out of a pack: sizes and offsets in the inflated frame."""

    frame: int
    offset: int
    size: int
    digest: Digest


class References:
    """Objects by number. With contents about 150 bytes a distinct small file, 250 a chunk.

    Two manifests that say different things of one key make two objects of it: at least one of
    them will be found damaged.
    """

    def __init__(self, *, chunk_size: int, contents: bool) -> None:
        """Without `contents` only the objects themselves are kept."""
        self._chunk_size = chunk_size
        self._contents = contents
        self._numbers: dict[StoredObject, int] = {}
        self._members: dict[int, set[bytes]] = {}
        self._chunks: dict[int, set[tuple[Digest, int]]] = {}

    def add(self, manifest: Manifest) -> Sequence[int]:
        """The numbers of the objects that a checkpoint refers to."""
        numbers = array(
            "L",
            (self._numbers.setdefault(each, len(self._numbers)) for each in manifest.objects),
        )
        if self._contents:
            for entry in manifest.files:
                self._add_contents(entry, numbers)
        return numbers

    @property
    def objects(self) -> Sequence[StoredObject]:
        return tuple(self._numbers)

    def chunk(self, number: int) -> Set[tuple[Digest, int]]:
        """(digest, length) of the raw chunk, as each file that uses it expects it."""
        return self._chunks.get(number, set())

    def members(self, number: int) -> Mapping[int, Sequence[Member]]:
        """What is wanted from a pack, by frame."""
        return {
            frame: tuple(members)
            for frame, members in groupby(self._sorted_members(number), lambda each: each.frame)
        }

    def _sorted_members(self, number: int) -> Iterator[Member]:
        for coded in sorted(self._members.get(number, ())):
            yield Member._make(_MEMBER.unpack(coded))

    def _add_contents(self, entry: FileEntry, numbers: Sequence[int]) -> None:
        match entry.location:
            case Packed(number, frame, offset):
                member = _MEMBER.pack(frame, offset, entry.size, entry.digest)
                self._members.setdefault(numbers[number], set()).add(member)
            case Chunked(located):
                spans = chunks.spans(entry.size, self._chunk_size)
                for (number, digest), (_, length) in zip(located, spans, strict=True):
                    self._chunks.setdefault(numbers[number], set()).add((digest, length))
            case None:
                return
