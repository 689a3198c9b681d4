"""A checkpoint that a standby holds, in memory and in the local database."""

from dataclasses import dataclass
from datetime import datetime

from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.stage import Stored, as_stored
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository.head import Entry
from ckptsync.repository.repository import Repository
from ckptsync.repository.untrusted import parse
from ckptsync.state.warm import Warm


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmCheckpoint:
    """Complete and verified on this host's disk: publishing it asks no bucket for anything."""

    entry: Entry
    repository_id: str
    revision: int
    """Of the head that named it; 0 where that is not known."""
    source: str
    """The name of the store it came from."""
    read_only: bool
    """That is not the pipeline's own bucket."""
    complete_at: datetime
    """By the local clock."""

    def is_of(self, entry: Entry) -> bool:
        """Whether an entry names these very bytes."""
        return (self.entry.id, self.entry.manifest) == (entry.id, entry.manifest)

    def answers_to(self, id: str) -> bool:
        """Whether this is its engine's id for it, or ours."""
        return id in (self.entry.engine_id, self.entry.id)


def completed(
    pipeline: Pipeline, stored: Stored, *, revision: int, read_only: bool
) -> WarmCheckpoint:
    """For a checkpoint of which the last byte is here by now."""
    return WarmCheckpoint(
        entry=stored.entry,
        repository_id=stored.repository.descriptor.repository_id,
        revision=revision,
        source=stored.repository.store.name,
        read_only=read_only,
        complete_at=pipeline.now(),
    )


def as_row(checkpoint: WarmCheckpoint, stored: Stored) -> Warm:
    """What to remember of it."""
    return Warm(
        checkpoint_id=checkpoint.entry.id,
        entry=checkpoint.entry.model_dump_json(),
        revision=checkpoint.revision,
        descriptor=descriptors.encode(stored.repository.descriptor),
        manifest=stored.data,
        source=checkpoint.source,
        read_only=checkpoint.read_only,
        complete_at=checkpoint.complete_at,
    )


def from_row(pipeline: Pipeline, row: Warm) -> tuple[WarmCheckpoint, Stored]:
    """From what was remembered.

    Raises IntegrityError if that is damaged; Refused, UnsupportedFormat if it is no longer of use.
    """
    what = f"what this host remembers of checkpoint {row.checkpoint_id}"
    entry = parse(Entry, row.entry.encode(), what)
    store = pipeline.read_store if row.read_only and pipeline.read_store else pipeline.store
    repository = Repository(store=store, descriptor=descriptors.decode(row.descriptor, what))
    repository.check_manifest(row.manifest, entry)
    stored = as_stored(pipeline, repository, entry, row.manifest)
    checkpoint = WarmCheckpoint(
        entry=entry,
        repository_id=repository.descriptor.repository_id,
        revision=row.revision,
        source=row.source,
        read_only=row.read_only,
        complete_at=row.complete_at,
    )
    return checkpoint, stored
