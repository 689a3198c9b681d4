"""Checkpoints to test with, and the way they go into a staging area."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from ckptsync.hashing import Hash
from ckptsync.model import File, FileDigest, LocalCheckpoint
from ckptsync.sources.base import Layout, Pinned, PinnedFile
from ckptsync.sources.digests import Digests
from ckptsync.sources.staged_files import StagedFiles
from ckptsync.sources.staging import Staging, nothing
from ckptsync.state.database import Database
from ckptsync.state.statcache import StatCache

PROJECT = Path(__file__).parents[2]
"""Where a child process finds the package `tests`."""

CHUNK = 64 << 10

opened: list[Database] = []
"""Closed after each test."""


def never(_file: PinnedFile) -> bool:
    return False


def always(_file: PinnedFile) -> bool:
    return True


def make_digests(
    directory: Path, *, recheck: Callable[[PinnedFile], bool] = never, chunk_size: int = CHUNK
) -> Digests:
    """With a cache in the directory, which keeps what was flushed."""
    database = Database(directory / "state.sqlite")
    opened.append(database)
    cache = StatCache(database)
    return Digests(cache, Hash.BLAKE3, chunk_size, recheck=recheck)


def newest(layout: Layout) -> LocalCheckpoint:
    return layout.checkpoints()[-1]


def read(pinned: Pinned, file: PinnedFile) -> bytes:
    data = bytearray(file.size)
    pinned.read_into(file, 0, memoryview(data))
    return bytes(data)


def sha256_of(pinned: Pinned) -> dict[str, str]:
    return {file.path: hashlib.sha256(read(pinned, file)).hexdigest() for file in pinned.files}


def digest_of(data: bytes, chunk_size: int = CHUNK) -> FileDigest:
    pieces = [data[at : at + chunk_size] for at in range(0, len(data), chunk_size)]
    chunks = tuple(Hash.BLAKE3.of(piece) for piece in pieces)
    return FileDigest(digest=Hash.BLAKE3.of_file(chunks), chunks=chunks)


def files_of(pinned: Pinned) -> list[File]:
    return [
        File(
            path=file.path,
            size=file.size,
            mode=file.mode,
            mtime_ns=file.mtime_ns,
            digest=digest_of(read(pinned, file)).digest,
        )
        for file in pinned.files
    ]


class Sample:
    """A checkpoint held in memory, as a bucket would hold it."""

    def __init__(self, layout: Layout, checkpoint: LocalCheckpoint) -> None:
        with layout.pin(checkpoint) as pinned:
            self.engine = checkpoint.engine
            self.files = files_of(pinned)
            self.directories = tuple(pinned.directories)
            self.data = {file.path: read(pinned, file) for file in pinned.files}

    def listed(self) -> Iterator[File]:
        return iter(self.files)

    def staging(self, staged: StagedFiles, *, on_begin: Callable[[], None] = nothing) -> Staging:
        """Not filled yet."""
        return Staging(
            staged,
            engine=self.engine,
            files=self.listed,
            directories=self.directories,
            on_begin=on_begin,
        )

    def pull(
        self, work: Path, root: Path, digests: Digests, *, on_begin: Callable[[], None] = nothing
    ) -> Staging:
        """What the operation does: verify what is there, fetch what is missing."""
        staged = StagedFiles(work, root, digests)
        staged.recover()
        return self.fill(self.staging(staged, on_begin=on_begin))

    def fill(self, staging: Staging) -> Staging:
        for file in self.files:
            if not staging.has(file):
                with staging.create(file) as staged:
                    staged.write_at(0, memoryview(self.data[file.path]))
                    staged.commit()
        return staging

    def publish(self, layout: Layout, work: Path, root: Path, digests: Digests) -> None:
        """A whole pull."""
        staged = StagedFiles(work, root, digests)
        staged.recover()
        layout.publish(self.fill(self.staging(staged)), root)
        staged.discard()
