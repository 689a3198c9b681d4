"""Which checkpoints there are, on the local disk and in the bucket."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Final, Literal

import structlog

from ckptsync.errors import PermissionRefused, SourceError
from ckptsync.model import CheckpointId, LocalCheckpoint
from ckptsync.operations import resolve
from ckptsync.operations.foreign import warn_if_foreign
from ckptsync.operations.pipeline import Pipeline
from ckptsync.repository import keeps
from ckptsync.repository.head import Entry, Head, Keep
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.register import head_lost
from ckptsync.repository.repository import Empty, Repository, look
from ckptsync.repository.timelines import latest_fault
from ckptsync.sources.base import Layout

log = structlog.get_logger()

_COUNTED: Final = 20_000
"""Files below a storage root up to which local checkpoints are opened for their sizes."""

Sizes = Callable[[Iterable[LocalCheckpoint]], Mapping[LocalCheckpoint, int]]
"""Bytes of those checkpoints for which they are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One checkpoint, as the bucket knows it if it does."""

    checkpoint: Entry | LocalCheckpoint
    where: Literal["local", "bucket", "both", "read_bucket"]
    """What is in read_bucket alone was never pushed: on the local disk it is a row of its own."""
    latest: bool
    """Whether a pull would take it."""
    bytes: int | None
    """None if nobody has counted them."""
    keeps: Mapping[str, Keep] = field(default_factory=dict)
    """What keeps it by name, in order of the names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a bucket has, newest first. `name` says which one it is: that a pull would take from."""

    name: str
    read_only: bool = False
    """It is read_bucket."""
    entries: Sequence[Entry] = ()
    latest: CheckpointId | None = None
    """That a pull would take; None too where head names one that it would refuse."""
    keeps: Mapping[str, Keep] = field(default_factory=dict)
    """By name; only those that have not expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    entry: Entry
    head: Head
    manifest: Manifest
    source: str
    """The bucket it was found in."""
    keeps: Mapping[str, Keep] = field(default_factory=dict)
    """What keeps it by name, in order of the names."""


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
    warn_if_foreign(pipeline, repository)
    entries = tuple(repository.entries(head))
    fault = latest_fault(head, next((each for each in entries if each.id == head.latest), None))
    if fault is not None:
        log.warning("head.latest_unfit", store=repository.store.name, fault=fault)
    return Stored(
        name=repository.store.name,
        read_only=repository.store is pipeline.read_store,
        entries=entries,
        latest=None if fault else head.latest,
        keeps=_valid_keeps(repository, head),
    )


def _valid_keeps(repository: Repository, head: Head) -> Mapping[str, Keep]:
    if not head.keeps:
        return {}
    names = keeps.named(head, repository.store.now()).values()
    return {name: head.keeps[name] for name in sorted(chain.from_iterable(names))}


def local_sizes(
    layout: Layout, storage_path: Path, checkpoints: Iterable[LocalCheckpoint]
) -> Mapping[LocalCheckpoint, int]:
    """The bytes of the files of each, where opening them all costs little; else of none.

    Left out are those that vanish meanwhile or cannot be read: this only informs.
    """
    sizes: dict[LocalCheckpoint, int] = {}
    if _holds_more_files(storage_path, _COUNTED):
        return sizes
    for each in checkpoints:
        with suppress(SourceError, PermissionRefused), layout.pin(each) as pinned:
            sizes[each] = sum(file.size for file in pinned.files)
    return sizes


def _holds_more_files(top: Path, number: int) -> bool:
    files = chain.from_iterable(names for _, _, names in os.walk(top))
    return next(islice(files, number, None), None) is not None


def _uncounted(_checkpoints: Iterable[LocalCheckpoint]) -> Mapping[LocalCheckpoint, int]:
    return {}


def side_by_side(
    local: Sequence[LocalCheckpoint],
    stored: Stored | None = None,
    *,
    sizes: Sizes = _uncounted,
) -> tuple[Row, ...]:
    """What was never pushed comes first, then what was; each with the newest on top."""
    entries = () if stored is None else stored.entries
    latest = None if stored is None else stored.latest
    elsewhere = stored is not None and stored.read_only
    pushed = _pushed(local, () if elsewhere else entries)
    here = {entry.id for found in pushed.values() for entry in found}

    def where(entry: Entry) -> Literal["bucket", "both", "read_bucket"]:
        if elsewhere:
            return "read_bucket"
        return "both" if entry.id in here else "bucket"

    kept: defaultdict[str, dict[str, Keep]] = defaultdict(dict)
    for name, keep in () if stored is None else stored.keeps.items():
        kept[keep.checkpoint][name] = keep
    only_here = [each for each in reversed(local) if not pushed[each]]
    counted = sizes(only_here)
    return (
        *(
            Row(checkpoint=each, where="local", latest=False, bytes=counted.get(each))
            for each in only_here
        ),
        *(
            Row(
                checkpoint=entry,
                where=where(entry),
                latest=entry.id == latest,
                bytes=entry.bytes,
                keeps=kept.get(entry.id, {}),
            )
            for entry in entries
        ),
    )


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
            warn_if_foreign(pipeline, repository)
            valid = _valid_keeps(repository, head).items()
            return Details(
                entry=entry,
                head=head,
                manifest=repository.manifest(entry),
                source=repository.store.name,
                keeps={name: keep for name, keep in valid if keep.checkpoint == entry.id},
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
