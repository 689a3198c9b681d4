"""Which checkpoints there are, on the local disk and in the bucket."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from ckptsync.model import CheckpointId, LocalCheckpoint
from ckptsync.operations import resolve
from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.register import head_lost
from ckptsync.repository.repository import Empty, Repository, look
from ckptsync.sources.base import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One checkpoint, as the bucket knows it if it does."""

    checkpoint: Entry | LocalCheckpoint
    where: Literal["local", "bucket", "both"]
    latest: bool
    """Whether a pull would take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a bucket has, newest first. `name` says which one it is: that a pull would take from."""

    name: str
    entries: Sequence[Entry] = ()
    latest: CheckpointId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    entry: Entry
    head: Head
    manifest: Manifest
    source: str
    """The bucket it was found in."""


def local_checkpoints(layout: Layout, storage_path: Path) -> Sequence[LocalCheckpoint]:
    """The complete ones, oldest first; none on a host that has no storage. Raises SourceError."""
    return layout.checkpoints() if storage_path.exists() else ()


def stored(pipeline: Pipeline) -> Stored:
    """What the bucket has, or while it is empty read_bucket.

    Raises HeadLost, IntegrityError, UnsupportedFormat, StoreError: none of them means empty.
    """
    found = next(_repositories(pipeline), None)
    if found is None:
        return Stored(name=pipeline.store.name)
    repository, head = found
    return Stored(
        name=repository.store.name,
        entries=tuple(repository.entries(head)),
        latest=head.latest,
    )


def side_by_side(local: Sequence[LocalCheckpoint], stored: Stored | None = None) -> tuple[Row, ...]:
    """What was never pushed comes first, then what was; each with the newest on top."""
    entries = () if stored is None else stored.entries
    latest = None if stored is None else stored.latest
    pushed = _pushed(local, entries)
    here = {entry.id for found in pushed.values() for entry in found}
    only_here = [
        Row(checkpoint=each, where="local", latest=False)
        for each in reversed(local)
        if not pushed[each]
    ]
    in_bucket = [
        Row(
            checkpoint=entry,
            where="both" if entry.id in here else "bucket",
            latest=entry.id == latest,
        )
        for entry in entries
    ]
    return (*only_here, *in_bucket)


def unpushed(
    local: Sequence[LocalCheckpoint], entries: Iterable[Entry]
) -> tuple[LocalCheckpoint, ...]:
    """Those newer than any that is live in the bucket, given oldest first.

    They are what losing the disk would cost.
    """
    pushed = _pushed(local, (each for each in entries if each.state == "live"))
    return tuple(takewhile(lambda each: not pushed[each], reversed(local)))[::-1]


def details(pipeline: Pipeline, wanted: str) -> Details:
    """One stored checkpoint: "latest", a checkpoint id or an engine's id, a bad one too.

    Raises CheckpointNotFound; NotFound, IntegrityError if its manifest is gone or damaged;
    HeadLost, StoreError.
    """
    for repository, head in _repositories(pipeline):
        entry = _find(repository, head, wanted)
        if entry is not None:
            return Details(
                entry=entry,
                head=head,
                manifest=repository.manifest(entry),
                source=repository.store.name,
            )
    searched = [each.name for each in (pipeline.store, pipeline.read_store) if each is not None]
    raise resolve.not_found(wanted, searched)


def _repositories(pipeline: Pipeline) -> Iterator[tuple[Repository, Head]]:
    """Of the bucket and then of read_bucket, as far as they hold checkpoints.

    Raises HeadLost if the bucket is empty, and was not when this node last saw it.
    """
    me = pipeline.state.identity.remembered()
    found = look(pipeline.store)
    if not isinstance(found, Empty):
        yield found[0], found[1].head
    elif found.head is None and me.revision:
        raise head_lost(pipeline.store.name, me)
    if pipeline.read_store is not None:
        found = look(pipeline.read_store)
        if not isinstance(found, Empty):
            yield found[0], found[1].head


def _find(repository: Repository, head: Head, wanted: str) -> Entry | None:
    if wanted == resolve.LATEST:
        return resolve.latest(repository, head)
    named = (each for each in repository.entries(head) if wanted in (each.id, each.engine_id))
    return next(named, None)


def _pushed(
    local: Iterable[LocalCheckpoint], entries: Iterable[Entry]
) -> Mapping[LocalCheckpoint, Sequence[Entry]]:
    """The entries of each local checkpoint. Buckets hold thousands, so not each meets each."""
    named: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        named[entry.engine_id].append(entry)
    return {
        each: [entry for entry in named[each.engine.id] if entry.is_of(each.engine)]
        for each in local
    }
