"""The digests of local files: remembered where nothing changed, else computed by reading."""

import os
import random
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from ckptsync.errors import SourceError, Vanished
from ckptsync.hashing import Digest, Hash
from ckptsync.model import FileDigest, Progress, ignore
from ckptsync.sources.base import Pinned, PinnedFile
from ckptsync.sources.faults import explained
from ckptsync.sources.opening import READ
from ckptsync.state.statcache import StatCache

log = structlog.get_logger()

READ_PIECE: Final = 1 << 20
RECHECK_ONE_IN: Final = 256

_BATCH: Final = 4096  # entries kept in memory until they are written


def one_in_many(_file: PinnedFile) -> bool:
    """Choose a random file of every RECHECK_ONE_IN to be read although it is remembered."""
    return random.randrange(RECHECK_ONE_IN) == 0  # noqa: S311 - chance, not secrecy


class Digests:
    """Safe to share between threads. What it learns is kept only after `flush`.

    For one walk over a checkpoint: once the cache was found wrong, `remember` and `flush` raise.
    """

    def __init__(
        self,
        cache: StatCache,
        hash: Hash,
        chunk_size: int,
        *,
        recheck: Callable[[PinnedFile], bool] = one_in_many,
    ) -> None:
        self._cache = cache
        self._hash = hash
        self._chunk_size = chunk_size
        self._recheck = recheck
        self._lock = threading.Lock()
        self._fresh: dict[bytes, tuple[Digest, ...]] = {}
        self._touched: set[bytes] = set()
        self._doubted: dict[bytes, tuple[Digest, ...]] = {}
        self._disproved: Vanished | None = None
        self._buffers = threading.local()

    def known(self, pinned: Pinned, file: PinnedFile) -> FileDigest | None:
        """What an unchanged file held when it was last read; None if it must be read.

        None too for the few that are read again to test the cache: see `remember`.
        """
        key = pinned.stat_key(file)
        found = None if key is None else self._cache.find(key, self._hash, self._chunk_size)
        if key is None or found is None:
            return None
        chunks, used_today = found
        if self._recheck(file):
            with self._lock:
                self._doubted[key] = chunks
            return None
        if not used_today:
            with self._lock:
                self._touched.add(key)
        return FileDigest(digest=self._hash.of_file(chunks), chunks=chunks)

    def remember(self, pinned: Pinned, file: PinnedFile, digest: FileDigest) -> None:
        """Keep what was read of the file. Raises Vanished if the cache said otherwise."""
        key = pinned.stat_key(file)
        if key is None:
            return
        with self._lock:
            self._require_believed()
            if self._doubted.pop(key, digest.chunks) == digest.chunks:
                self._fresh[key] = digest.chunks
                if len(self._fresh) >= _BATCH:
                    self._write()
                return
        raise self.disproved(pinned, file)

    def disproved(self, pinned: Pinned, file: PinnedFile) -> Vanished:
        """Drop the cache whole, and give what to raise: this file changed without a trace.

        So nothing else that `known` has said can be believed, and nothing of it comes back.
        """
        with self._lock:
            if self._disproved is None:
                checkpoint = pinned.checkpoint.engine.id
                log.critical("statcache.mismatch", path=file.path, checkpoint=checkpoint)
                self._cache.clear()
                self._disproved = Vanished(
                    f"{file.path} changed without a trace in its times; what was remembered of "
                    "unchanged files is dropped, and the next try reads them all"
                )
            return self._disproved

    def flush(self) -> None:
        """Raises Vanished if the cache was found wrong, so nobody goes on with what it said."""
        with self._lock:
            self._require_believed()
            self._write()

    def of_path(self, path: Path, *, progress: Progress = ignore) -> FileDigest:
        """Read a file at rest, a bounded piece at a time. Progress may raise to stop it.

        Raises Vanished, PermissionRefused; SourceError for what is no regular file.
        """
        with explained(path, "read"):
            descriptor = os.open(path, READ)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise SourceError(f"{path} is not a regular file")
                chunks = self._chunks(descriptor, progress)
            finally:
                os.close(descriptor)
        return FileDigest(digest=self._hash.of_file(chunks), chunks=tuple(chunks))

    def _chunks(self, descriptor: int, progress: Progress) -> list[Digest]:
        buffer = self._buffer()
        chunks: list[Digest] = []
        hasher, filled = self._hash.new(), 0
        while count := os.readv(descriptor, [buffer[: self._chunk_size - filled]]):
            hasher.update(buffer[:count])
            filled += count
            progress(count)
            if filled == self._chunk_size:
                chunks.append(Digest(hasher.digest()))
                hasher, filled = self._hash.new(), 0
        if filled:
            chunks.append(Digest(hasher.digest()))
        return chunks

    def _buffer(self) -> memoryview:
        """One for each thread."""
        buffer = getattr(self._buffers, "piece", None)
        if buffer is None:
            buffer = self._buffers.piece = memoryview(bytearray(READ_PIECE))
        return buffer

    def _require_believed(self) -> None:
        if self._disproved is not None:
            raise self._disproved

    def _write(self) -> None:
        if self._fresh:
            self._cache.store(self._fresh, self._hash, self._chunk_size)
            self._fresh = {}
        if self._touched:
            self._cache.touch(self._touched, self._hash, self._chunk_size)
            self._touched = set()
