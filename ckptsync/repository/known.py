"""Which content need not be uploaded: what the parent checkpoint or the upload journal holds."""

import threading
from collections.abc import Collection, Iterable
from typing import Final

from ckptsync.hashing import Digest
from ckptsync.repository import packs
from ckptsync.repository.files import Chunked, Packed
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.objects import Codec, Frame, StoredObject
from ckptsync.state.journal import Upload

_OFFSET_BITS: Final = 32
_FRAME_BITS: Final = 20
ALL_DAMAGED: Final = "*"


class Known:
    """A growing map from content to where it lies. About 150 bytes a digest; safe to share.

    A place in a pack never serves as a chunk, nor the other way round.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[int, StoredObject] = {}
        self._generations: dict[int, int] = {}
        self._next = 0
        self._chunks: dict[Digest, int] = {}
        self._members: dict[Digest, int] = {}

    def chunk(self, digest: Digest) -> int | None:
        """The number of an object that holds this chunk."""
        with self._lock:
            return self._chunks.get(digest)

    def member(self, digest: Digest) -> Packed | None:
        """The place of a small file with this content."""
        with self._lock:
            coded = self._members.get(digest)
        if coded is None:
            return None
        offset = coded & ((1 << _OFFSET_BITS) - 1)
        frame = coded >> _OFFSET_BITS & ((1 << _FRAME_BITS) - 1)
        return Packed(coded >> (_OFFSET_BITS + _FRAME_BITS), frame, offset)

    def object(self, number: int) -> StoredObject:
        with self._lock:
            return self._objects[number]

    def generation(self, number: int) -> int | None:
        """Of an own upload, the sweep generation read before it began; None for the parent's."""
        with self._lock:
            return self._generations.get(number)

    def new_number(self) -> int:
        """For an object that is about to be made."""
        with self._lock:
            self._next += 1
            return self._next - 1

    def add_object(self, number: int, stored: StoredObject, *, generation: int | None) -> None:
        with self._lock:
            self._objects[number] = stored
            if generation is not None:
                self._generations[number] = generation

    def add_chunk(self, digest: Digest, number: int) -> None:
        with self._lock:
            self._chunks.setdefault(digest, number)

    def add_member(self, digest: Digest, at: Packed) -> None:
        coded = (at.object << _FRAME_BITS | at.frame) << _OFFSET_BITS | at.offset
        with self._lock:
            self._members.setdefault(digest, coded)

    def add_manifest(self, manifest: Manifest, *, damaged: Collection[str]) -> None:
        """Everything a checkpoint holds, but for what lies in a damaged object.

        `damaged` are keys; ALL_DAMAGED among them names every object.
        """
        numbers: dict[int, int] = {}
        for number, stored in enumerate(manifest.objects):
            if stored.key not in damaged and ALL_DAMAGED not in damaged:
                numbers[number] = self.new_number()
                self.add_object(numbers[number], stored, generation=None)
        for entry in manifest.files:
            match entry.location:
                case Packed(number, frame, offset) if number in numbers:
                    self.add_member(entry.digest, Packed(numbers[number], frame, offset))
                case Chunked(chunks):
                    for number, digest in chunks:
                        if number in numbers:
                            self.add_chunk(digest, numbers[number])
                case _:
                    continue

    def add_uploads(self, uploads: Iterable[Upload], *, damaged: Collection[str]) -> None:
        for upload in uploads:
            if upload.key in damaged:
                continue
            number = self.new_number()
            self.add_object(number, stored_object(upload), generation=upload.generation)
            for content, frame, offset in upload.contents:
                if upload.codec == Codec.PACK:
                    self.add_member(Digest(content), Packed(number, frame, offset))
                else:
                    self.add_chunk(Digest(content), number)

    def drop_sparse_packs(self, wanted: Iterable[tuple[Digest, int]]) -> None:
        """Forget the parent's packs of which too little is wanted by (digest, size) pairs."""
        bytes_wanted: dict[int, int] = {}
        for digest, size in wanted:
            if (at := self.member(digest)) is not None:
                bytes_wanted[at.object] = bytes_wanted.get(at.object, 0) + packs.footprint(size)
        sparse = {
            number
            for number, stored in self._objects.items()
            if stored.codec is Codec.PACK
            and number not in self._generations
            and packs.is_sparse(stored, wanted=bytes_wanted.get(number, 0))
        }
        if sparse:
            self._members = {
                digest: coded
                for digest, coded in self._members.items()
                if coded >> (_OFFSET_BITS + _FRAME_BITS) not in sparse
            }


def stored_object(upload: Upload) -> StoredObject:
    return StoredObject(
        key=upload.key,
        size=upload.size,
        digest=Digest(upload.digest),
        codec=Codec(upload.codec),
        frames=tuple(Frame(stored, raw) for stored, raw in upload.frames),
    )
