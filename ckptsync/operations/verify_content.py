"""Whether the bytes of objects are those that were stored, and hold what the files need."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ckptsync.errors import IntegrityError, NotFound
from ckptsync.hashing import Digest, Hash
from ckptsync.model import Progress
from ckptsync.operations.verify_presence import GONE
from ckptsync.operations.verify_references import Member, References
from ckptsync.repository.objects import Codec, Frame, StoredObject
from ckptsync.repository.untrusted import inflate_whole, inflating
from ckptsync.stores.base import ObjectStore

_DAMAGED: Final = "is damaged: its bytes are not those that were stored"
_OTHER: Final = "holds other bytes than the files of the manifest need"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Reads objects whole, in pieces of at most a chunk."""

    store: ObjectStore
    hash: Hash
    chunk_size: int
    references: References
    progress: Progress

    def fault(self, number: int, stored: StoredObject, buffer: memoryview) -> str | None:
        """What is wrong with an object; only what a second read shows again is believed.

        `buffer` takes a chunk. Raises StoreError, Cancelled: neither says anything of the object.
        """
        fault = self._once(number, stored, buffer) and self._once(number, stored, buffer)
        self.progress(stored.size)
        return fault

    def _once(self, number: int, stored: StoredObject, buffer: memoryview) -> str | None:
        self.progress(0)
        try:
            if stored.codec is Codec.PACK:
                return self._pack(number, stored, buffer)
            return self._chunk(number, stored, buffer)
        except NotFound:
            return GONE
        except IntegrityError as error:
            return str(error)

    def _chunk(self, number: int, stored: StoredObject, buffer: memoryview) -> str | None:
        body = buffer[: stored.size]
        self.store.read_into(stored.key, 0, body)
        if self.hash.of(body) != stored.digest:
            return _DAMAGED
        found = (stored.digest, stored.size)
        if stored.codec is Codec.ZSTD:
            found = self._inflated(body)
        return _OTHER if self.references.chunk(number) - {found} else None

    def _inflated(self, body: memoryview) -> tuple[Digest, int]:
        """Digest and length. Raises IntegrityError, also beyond the length of a chunk."""
        hasher, length = self.hash.new(), 0
        for piece in inflating(body, what="the chunk"):
            length += len(piece)
            if length > self.chunk_size:
                raise IntegrityError(f"the chunk inflates to more than {self.chunk_size} bytes")
            hasher.update(piece)
        return Digest(hasher.digest()), length

    def _pack(self, number: int, stored: StoredObject, buffer: memoryview) -> str | None:
        wanted = self.references.members(number)
        hasher, start, fault = self.hash.new(), 0, None
        for frames in _pieces(stored.frames, self.chunk_size):
            piece = buffer[: sum(frame.stored for _, frame in frames)]
            self.store.read_into(stored.key, start, piece)
            self.progress(0)
            hasher.update(piece)
            at = 0
            for place, frame in frames:
                body = piece[at : at + frame.stored]
                fault = fault or self._frame(place, frame, body, wanted.get(place, ()))
                at += frame.stored
            start += at
        # Rotten bytes may inflate to anything, so the digest of the whole has the first word.
        return fault if hasher.digest() == stored.digest else _DAMAGED

    def _frame(
        self, place: int, frame: Frame, body: memoryview, members: Sequence[Member]
    ) -> str | None:
        if not members:
            return None
        try:
            content = memoryview(inflate_whole(body, size=frame.raw, what=f"frame {place}"))
        except IntegrityError as error:
            return str(error)
        sound = all(
            self.hash.of(content[each.offset : each.offset + each.size]) == each.digest
            for each in members
        )
        return None if sound else f"{_OTHER} from its frame {place}"


def _pieces(frames: Sequence[Frame], limit: int) -> Iterator[Sequence[tuple[int, Frame]]]:
    """Neighbouring frames with their places, as many as one buffer takes."""
    piece: list[tuple[int, Frame]] = []
    size = 0
    for place, frame in enumerate(frames):
        if piece and size + frame.stored > limit:
            yield piece
            piece, size = [], 0
        piece.append((place, frame))
        size += frame.stored
    if piece:
        yield piece
