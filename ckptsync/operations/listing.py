"""Which checkpoints there are, on the local disk and in the bucket."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from ckptsync.model import CheckpointId, Engine, LocalCheckpoint
from ckptsync.operations import resolve
from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.manifest import Manifest
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
    for store in (pipeline.store, pipeline.read_store):
        if store is None:
            continue
        found = look(store)
        if not isinstance(found, Empty):
            repository, at = found
            return Stored(
                name=store.name,
                entries=tuple(repository.entries(at.head)),
                latest=at.head.latest,
            )
    return Stored(name=pipeline.store.name)


def side_by_side(local: Sequence[LocalCheckpoint], stored: Stored | None = None) -> tuple[Row, ...]:
    """What was never stored comes first, then what was; each with the newest on top."""
    entries = () if stored is None else stored.entries
    latest = None if stored is None else stored.latest
    here = {_key(each.engine) for each in local}
    there = {_stored_key(entry) for entry in entries}
    only_here = [
        Row(checkpoint=each, where="local", latest=False)
        for each in reversed(local)
        if _key(each.engine) not in there
    ]
    in_bucket = [
        Row(
            checkpoint=entry,
            where="both" if _stored_key(entry) in here else "bucket",
            latest=entry.id == latest,
        )
        for entry in entries
    ]
    return (*only_here, *in_bucket)


def unpushed(
    local: Sequence[LocalCheckpoint], entries: Iterable[Entry]
) -> tuple[LocalCheckpoint, ...]:
    """Those newer than any that is stored, given oldest first: what losing the disk would cost."""
    safe = {_stored_key(each) for each in entries if each.state == "live"}
    return tuple(takewhile(lambda each: _key(each.engine) not in safe, reversed(local)))[::-1]


def details(pipeline: Pipeline, wanted: str) -> Details:
    """One stored checkpoint: "latest", a checkpoint id or an engine's id, a bad one too.

    Raises CheckpointNotFound; NotFound, IntegrityError if its manifest is gone or damaged;
    StoreError.
    """
    searched = []
    for store in (pipeline.store, pipeline.read_store):
        if store is None:
            continue
        found = look(store)
        searched.append(store.name)
        if isinstance(found, Empty):
            continue
        repository, at = found
        entry = _find(repository, at.head, wanted)
        if entry is not None:
            return Details(
                entry=entry,
                head=at.head,
                manifest=repository.manifest(entry),
                source=store.name,
            )
    raise resolve.not_found(wanted, searched)


def _find(repository: Repository, head: Head, wanted: str) -> Entry | None:
    if wanted == resolve.LATEST:
        return repository.find(head, head.latest) if head.latest else None
    named = (each for each in repository.entries(head) if wanted in (each.id, each.engine_id))
    return next(named, None)


def _key(engine: Engine) -> tuple[str, str | None]:
    """An engine's id alone may come again after a restart from nothing."""
    return engine.id, None if engine.fingerprint is None else str(engine.fingerprint)


def _stored_key(entry: Entry) -> tuple[str, str | None]:
    return entry.engine_id, entry.fingerprint
