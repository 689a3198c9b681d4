"""What a push has found its files to hold."""

from ckptsync.hashing import DIGEST_SIZE, Digest, Hash
from ckptsync.model import FileDigest
from ckptsync.sources.base import PinnedFile


class Contents:
    """The digest of every file of a checkpoint; 32 bytes a file and 65 a chunk of larger ones."""

    def __init__(self, count: int) -> None:
        self._digests = bytearray(count * DIGEST_SIZE)
        self._chunks: dict[int, list[Digest | None]] = {}

    def __getitem__(self, file: PinnedFile) -> FileDigest:
        start = file.number * DIGEST_SIZE
        digest = Digest(bytes(self._digests[start : start + DIGEST_SIZE]))
        chunks = self._chunks.get(file.number, [digest] if file.size else [])
        return FileDigest(digest=digest, chunks=tuple(_all_found(chunks)))

    def __setitem__(self, file: PinnedFile, found: FileDigest) -> None:
        """For a file of one chunk or none."""
        start = file.number * DIGEST_SIZE
        self._digests[start : start + DIGEST_SIZE] = found.digest

    def begin_large(self, file: PinnedFile, chunk_size: int) -> list[Digest | None]:
        """A list with a place for each chunk, which threads fill in any order."""
        return self._chunks.setdefault(file.number, [None] * -(-file.size // chunk_size))

    def finish_large(self, file: PinnedFile, hash_: Hash) -> None:
        """Call when every chunk's digest is in its place."""
        chunks = tuple(_all_found(self._chunks[file.number]))
        self[file] = FileDigest(digest=hash_.of_file(chunks), chunks=chunks)


def _all_found(chunks: list[Digest | None]) -> list[Digest]:
    found = [chunk for chunk in chunks if chunk is not None]
    if len(found) != len(chunks):
        raise AssertionError("a chunk was never digested")
    return found
