"""Which parts of packs a download reads: runs of neighbouring frames. Pure."""

from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby

from ckptsync.repository.files import Packed
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.objects import StoredObject


class PackPiece:
    """Neighbouring frames of one pack, and the files wanted from each."""

    def __init__(self, stored: StoredObject, first: int, start: int) -> None:
        """`start` is where the first frame begins in the pack."""
        self.stored = stored
        self.start = start
        self.size = 0
        self.frames: list[tuple[int, list[int]]] = []
        """By number; the files by their numbers, too."""
        self._next = first

    def takes(self, frame: int, limit: int) -> bool:
        return frame == self._next and self.size + self.stored.frames[frame].stored <= limit

    def take(self, frame: int, files: list[int]) -> None:
        self.frames.append((frame, files))
        self.size += self.stored.frames[frame].stored
        self._next = frame + 1


def pack_pieces(manifest: Manifest, packed: Sequence[int], *, limit: int) -> Iterator[PackPiece]:
    """Pieces of at most `limit` bytes, as few as bring the files, which are given in their order.

    That is by object and frame. No frame may be longer than `limit`.
    """

    def place(number: int) -> Packed:
        location = manifest.files[number].location
        assert isinstance(location, Packed)
        return location

    for object_number, of_pack in groupby(packed, lambda each: place(each).object):
        stored = manifest.objects[object_number]
        starts = tuple(accumulate((frame.stored for frame in stored.frames), initial=0))
        piece: PackPiece | None = None
        for frame, files in groupby(of_pack, lambda each: place(each).frame):
            if piece is None or not piece.takes(frame, limit):
                if piece is not None:
                    yield piece
                piece = PackPiece(stored, frame, starts[frame])
            piece.take(frame, list(files))
        if piece is not None:
            yield piece
