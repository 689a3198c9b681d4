"""Packs: many small files in one object that `tar --zstd` can list.

A pack is a plain tar, cut at member boundaries into frames of about a mebibyte; each frame is
one zstd frame, so that one ranged read brings one frame. Members are named by the digest of
their content in hex: a pack outlives the paths its files had, and serves any path with the
same content. Readers slice by the manifest's offsets and never trust a tar header.
"""

import tarfile
from typing import Final

import zstandard

from ckptsync.hashing import Digest, Hash
from ckptsync.repository.files import Packed
from ckptsync.repository.objects import Codec, Frame, StoredObject

FRAME_TARGET: Final = 1 << 20
MAX_FRAME: Final = 32 << 20
"""Inflated bytes of a frame that a reader accepts."""
MAX_FRAMES: Final = 1 << 16
"""Of one pack."""
_BLOCK: Final = tarfile.BLOCKSIZE
_END_OF_ARCHIVE: Final = bytes(2 * _BLOCK)
_LEVEL: Final = 1


class PackBuilder:
    """Fills a caller's buffer with a pack, frame by frame."""

    def __init__(self, key: str, number: int, into: memoryview, *, target: int) -> None:
        """`number` is the place the pack will have among the manifest's objects."""
        self.key = key
        self._number = number
        self._into = into
        self._target = min(target, len(into))
        self._frames: list[Frame] = []
        self._open = bytearray()
        self._size = 0
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=False)

    def fits(self, size: int) -> bool:
        """Whether a file of `size` bytes can still be added."""
        raw = len(self._open) + footprint(size) + len(_END_OF_ARCHIVE)
        # The file may fill a frame, and the end of the archive takes another.
        room = len(self._frames) + 2 <= MAX_FRAMES
        return (room and self._size + _worst_case(raw) <= self._target) or self.empty

    @property
    def empty(self) -> bool:
        return not self._frames and not self._open

    def add(self, digest: Digest, content: bytes | memoryview) -> Packed:
        """Append a file that fits."""
        header = tarfile.TarInfo(digest.hex())
        header.size = len(content)
        self._open += header.tobuf(tarfile.USTAR_FORMAT)
        place = Packed(self._number, len(self._frames), len(self._open))
        self._open += content
        self._open += bytes(_padded(len(content)) - len(content))
        if len(self._open) >= FRAME_TARGET:
            self._close_frame()
        return place

    def finish(self, hash_: Hash) -> tuple[StoredObject, memoryview]:
        """The pack, and its bytes in the caller's buffer."""
        self._open += _END_OF_ARCHIVE
        self._close_frame()
        body = self._into[: self._size]
        stored = StoredObject(
            key=self.key,
            size=self._size,
            digest=hash_.of(body),
            codec=Codec.PACK,
            frames=tuple(self._frames),
        )
        return stored, body

    def _close_frame(self) -> None:
        frame = self._compressor.compress(self._open)
        self._into[self._size : self._size + len(frame)] = frame
        self._frames.append(Frame(len(frame), len(self._open)))
        self._size += len(frame)
        self._open.clear()


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _worst_case(raw: int) -> int:
    # What zstd promises for incompressible input (ZSTD_compressBound), and a little.
    return raw + (raw >> 8) + 1024


def raw_bytes(pack: StoredObject) -> int:
    """Bytes of the tar that a pack holds, dead members included."""
    return sum(frame.raw for frame in pack.frames)


def footprint(size: int) -> int:
    """Bytes of the tar that a file takes."""
    return _BLOCK + _padded(size)


def is_sparse(pack: StoredObject, *, wanted: int) -> bool:
    """Whether too little of a pack is still wanted to go on referring to it.

    `wanted` is the footprint of the files that are.
    """
    return 4 * wanted < raw_bytes(pack)
