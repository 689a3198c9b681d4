"""One checkpoint on its way from a repository, through the staging area, into a storage root."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ckptsync.errors import Refused
from ckptsync.hashing import Digest
from ckptsync.model import File, Progress
from ckptsync.operations.download import Download, missing
from ckptsync.operations.manifests import manifest_bytes
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.transfers import stoppable
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.head import Entry
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.repository import Repository
from ckptsync.sources.digests import Digests
from ckptsync.sources.disk import require_space
from ckptsync.sources.staged_files import StagedFiles
from ckptsync.sources.staging import Staging, nothing

BLOCK: Final = 4096  # what a small file takes on most filesystems beyond its bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A committed checkpoint whose manifest describes what the layout may restore."""

    repository: Repository
    entry: Entry
    data: bytes
    """The manifest, as stored."""
    manifest: Manifest

    def digests(self) -> frozenset[Digest]:
        return frozenset(file.digest for file in self.manifest.files)

    def staging(self, files: StagedFiles, *, on_begin: Callable[[], None] = nothing) -> Staging:
        manifest = self.manifest
        return Staging(
            files,
            engine=manifest.engine,
            files=lambda: iter(manifest.files),
            directories=manifest.directories,
            on_begin=on_begin,
        )


def read_stored(pipeline: Pipeline, repository: Repository, entry: Entry) -> Stored:
    """Raises MissingObject, IntegrityError, UnsupportedFormat; Refused; StoreError."""
    return as_stored(pipeline, repository, entry, manifest_bytes(pipeline, repository, entry))


def as_stored(pipeline: Pipeline, repository: Repository, entry: Entry, data: bytes) -> Stored:
    """From the bytes of the manifest. Raises IntegrityError, UnsupportedFormat, Refused."""
    manifest = repository.decode_manifest(data, entry)
    if manifest.engine.layout != pipeline.layout.name:
        raise Refused(
            f"checkpoint {entry.id} was pushed with layout '{manifest.engine.layout}'; "
            f"the pipeline is configured with '{pipeline.layout.name}'",
            hint="set the pipeline's layout to the one it was pushed with",
        )
    pipeline.layout.require_restorable(manifest.engine, manifest.files, manifest.directories)
    return Stored(repository=repository, entry=entry, data=data, manifest=manifest)


def digests(pipeline: Pipeline, descriptor: Descriptor) -> Digests:
    return Digests(pipeline.state.stat_cache, descriptor.hash, descriptor.chunk_size)


def recover(pipeline: Pipeline, files: StagedFiles, progress: Progress) -> None:
    """As `StagedFiles.recover`, but stops on request. No byte of it is progress."""
    moving = stoppable(progress, pipeline.stop)
    files.recover(progress=lambda _read: moving(0))


def fetch(
    pipeline: Pipeline,
    stored: Stored,
    staging: Staging,
    *,
    alone: bool = False,
    progress: Progress,
) -> int:
    """Stage what is missing; the bytes of it that were fetched. What was here is progress too.

    What lies right in the storage root is not missing; or, if the checkpoint is to stand `alone`,
    it is copied. What is staged then only waits to be renamed.

    Raises IntegrityError, MissingObject, LocalDiskFull, Cancelled, StoreError.
    """
    moving = stoppable(progress, pipeline.stop)
    here: Callable[[File], bool] = staging.has_staged if alone else staging.has
    what = missing(stored.manifest, here)
    if what.files:
        require_space(staging.work, what.bytes + what.files * BLOCK + staging.copied_bytes)
    if alone and what.files:
        staging.adopt(progress=lambda _copied: moving(0))
        what = missing(stored.manifest, here)
    moving(stored.manifest.files.bytes - what.bytes)
    Download(
        repository=stored.repository,
        manifest=stored.manifest,
        staging=staging,
        transfers=pipeline.transfers(stored.repository.descriptor.chunk_size),
        progress=moving,
    ).run(what)
    staging.settle()
    return what.bytes


def note_publishing(pipeline: Pipeline, entry: Entry) -> Callable[[], None]:
    """What to do as the storage begins to be changed to hold a checkpoint."""
    return lambda: pipeline.state.identity.publishing(
        entry.id,
        entry.engine_id,
        int(entry.step),
        entry.lineage,
        fingerprint=None if entry.fingerprint is None else int(entry.fingerprint),
    )
