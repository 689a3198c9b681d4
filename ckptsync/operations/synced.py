"""Whether the bucket has a checkpoint already: by its name, and by what it holds."""

import structlog

from ckptsync.errors import IntegrityError
from ckptsync.hashing import Digest
from ckptsync.model import CheckpointId, Engine, FileDigest, LocalCheckpoint, Progress
from ckptsync.operations.manifests import manifest_bytes
from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository import chunks, keys
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import Repository
from ckptsync.sources.base import Pinned, PinnedFile
from ckptsync.sources.digests import Digests
from ckptsync.state.identity import Pushed, Restored

log = structlog.get_logger()


def synced(
    repository: Repository, head: Head, engine: Engine, *, back: CheckpointId | None
) -> Entry | None:
    """The newest live entry of a checkpoint's name, if it may be in the bucket already.

    Where the engine went back to an older checkpoint it may use a name again, so what was pushed
    after that one does not count.
    """
    latest = repository.find(head, head.latest) if head.latest else None
    if latest is None or (back is None and engine.step > int(latest.step)):
        return None
    same = (
        entry
        for entry in repository.entries(head)
        if entry.is_of(engine)
        and entry.state == "live"
        and (back is None or entry.seq <= keys.seq(back))
    )
    return next(same, None)


def is_of(point: Pushed | Restored, engine: Engine) -> bool:
    """Whether this was remembered of that checkpoint."""
    return (point.engine_id, point.step, point.lineage, point.fingerprint) == (
        engine.id,
        engine.step,
        engine.lineage,
        engine.fingerprint,
    )


def is_unchanged(point: Pushed | Restored, local: LocalCheckpoint) -> bool:
    """Whether it is the one that was remembered, and nothing shows that it was written since."""
    return is_of(point, local.engine) and point.at == local.at


def holds(
    pipeline: Pipeline, repository: Repository, entry: Entry, pinned: Pinned, progress: Progress
) -> bool:
    """Whether a stored checkpoint has the same files with the same bytes.

    Files that have not changed since they were last read are not read. Raises Vanished,
    UnsupportedFormat, StoreError; Cancelled by progress.
    """
    try:
        stored = repository.decode_manifest(manifest_bytes(pipeline, repository, entry), entry)
    except IntegrityError as error:
        log.error("push.stored_unreadable", checkpoint=entry.id, error=str(error))
        return False
    files = pinned.files
    if len(files) != len(stored.files) or tuple(pinned.directories) != stored.directories:
        return False
    reading = _Reading(pipeline, repository.descriptor, pinned, progress)
    same = all(
        (here.path, here.size) == (there.path, there.size) and reading.digest(here) == there.digest
        for here, there in zip(files, stored.files, strict=True)
    )
    reading.end()
    return same


class _Reading:
    def __init__(
        self, pipeline: Pipeline, descriptor: Descriptor, pinned: Pinned, progress: Progress
    ) -> None:
        self._pinned = pinned
        self._progress = progress
        self._hash = descriptor.hash
        self._chunk_size = descriptor.chunk_size
        self._buffer = memoryview(bytearray())  # as large as it has to be by now
        self._digests = Digests(pipeline.state.stat_cache, self._hash, self._chunk_size)

    def digest(self, file: PinnedFile) -> Digest:
        self._progress(0)
        found = self._digests.known(self._pinned, file)
        if found is None:
            found = self._read(file)
            self._digests.remember(self._pinned, file, found)
        return found.digest

    def end(self) -> None:
        """Raises Vanished if what was read is not to be believed."""
        self._pinned.confirm()
        self._digests.flush()

    def _read(self, file: PinnedFile) -> FileDigest:
        if len(self._buffer) < min(file.size, self._chunk_size):
            self._buffer = memoryview(bytearray(min(file.size, self._chunk_size)))
        found = []
        for start, length in chunks.spans(file.size, self._chunk_size):
            piece = self._buffer[:length]
            self._pinned.read_into(file, start, piece)
            found.append(self._hash.of(piece))
            self._progress(0)
        return FileDigest(digest=self._hash.of_file(found), chunks=tuple(found))
