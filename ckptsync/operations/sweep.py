"""Sweep: what no checkpoint refers to any more is condemned by a swap of head, then deleted.

Deleting is safe because of the swap, whatever the clocks say and however long a sweep stands still
in between: a push that holds an upload sees in head, before its own swap, that it is condemned.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from ckptsync.model import Progress
from ckptsync.operations.deleting import delete
from ckptsync.operations.indexing import bring_up
from ckptsync.operations.orphans import NOTHING, Amount, Orphans, explained
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.tidying import Tidying, require_writer
from ckptsync.repository import condemned, keys
from ckptsync.repository.head import CondemnedList, Head, Sweep
from ckptsync.repository.repository import HeadAt
from ckptsync.state.index import Index

log = structlog.get_logger()

LISTED_FOR: Final = timedelta(hours=24)
"""How long a look through the whole bucket lasts: nothing younger would be deleted anyway."""
SWEPT_FOR: Final = timedelta(hours=1)
"""How long a sweep lasts for who sweeps of his own accord. Head keeps 64 lists, so a push may take
two days and more before it would have to upload again what it can no longer look up there."""

_LISTED: Final = "listed"
_SWEPT: Final = "swept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    generation: int | None = None
    """Of the last list; None where nothing was condemned."""
    deleted: Amount = NOTHING
    orphans: Orphans | None = None
    """None where the bucket was not looked through."""


NOT_SWEPT: Final = Swept()


def is_due(pipeline: Pipeline, index: Index) -> bool:
    """Whether it is time for who sweeps of his own accord."""
    return not _is_recent(pipeline, index, _SWEPT, SWEPT_FOR)


def wants_listing(pipeline: Pipeline, index: Index) -> bool:
    """Whether the last look through the whole bucket is too long ago."""
    return not _is_recent(pipeline, index, _LISTED, LISTED_FOR)


def note_listing(pipeline: Pipeline, index: Index) -> None:
    """What it has found is in the index, so that it need not be done again."""
    index.note(_LISTED, pipeline.now())


def sweep(
    pipeline: Pipeline,
    tidying: Tidying,
    index: Index,
    *,
    orphans: Orphans | None,
    scheduled: bool,
    progress: Progress,
) -> Swept:
    """Delete what nothing refers to. The index has to be up to the head that `tidying` has.

    That knows of the `orphans` already, which a look through the whole bucket has found. After a
    crash anywhere the next sweep goes on. Progress gets the bytes that are gone.

    Raises IntegrityError if it cannot be told what is referred to; Fenced and the other refusals
    of epochs for one that is `scheduled`; AccessDenied, CannotTell, StoreError, Cancelled.
    """
    now = pipeline.store.now()
    swept = Swept(orphans=orphans)
    while _doomed(pipeline, index, tidying.head, now):
        condemnation = _condemn(
            pipeline, tidying, index, now, scheduled=scheduled, progress=progress
        )
        if condemnation is None:
            break
        doomed = condemnation.doomed
        delete(pipeline, index, doomed, progress)
        index.note(_done(condemnation.generation), now)
        swept = replace(
            swept,
            generation=condemnation.generation,
            deleted=swept.deleted.plus(len(doomed), sum(size for _key, size in doomed)),
        )
        tidying = replace(tidying, head=condemnation.head)
        log.info("sweep.deleted", generation=condemnation.generation, objects=len(doomed))
    index.note(_SWEPT, pipeline.now())
    return swept


@dataclass(frozen=True, slots=True, kw_only=True)
class _Condemnation:
    generation: int
    head: Head
    """In which it holds."""
    doomed: Sequence[tuple[str, int]]
    """Keys and sizes."""


def _condemn(
    pipeline: Pipeline,
    tidying: Tidying,
    index: Index,
    now: datetime,
    *,
    scheduled: bool,
    progress: Progress,
) -> _Condemnation | None:
    """Name in head what is to be deleted; None if there is nothing.

    Only what no entry of that very head refers to. Raises Fenced and the other refusals of epochs
    if `scheduled`; IntegrityError, CannotTell, StoreError.
    """
    repository = tidying.repository
    named: CondemnedList | None = None
    doomed: Sequence[tuple[str, int]] = ()
    finished: Collection[int] = ()

    def decide(old: HeadAt) -> Head | None:
        nonlocal named, doomed, finished
        named = None
        if scheduled:
            require_writer(pipeline, old.head)
        bring_up(pipeline, repository, old.head, index, now=now, progress=progress)
        doomed = _doomed(pipeline, index, old.head, now)
        if not doomed:
            return None
        generation = old.head.sweep.generation + 1
        data = condemned.encode(old.head.repository_id, generation, (key for key, _size in doomed))
        key = keys.condemned(generation)
        # Whether this swap holds or not: once head names the list no more, it may go.
        index.note_unreferenced([(key, len(data))], due=now)
        pipeline.store.put(key, data)
        named = CondemnedList(
            generation=generation, key=key, digest=repository.descriptor.hash.of(data).hex()
        )
        finished = [
            each.generation
            for each in old.head.sweep.lists
            if index.recall(_done(each.generation)) is not None
        ]
        return old.head.model_copy(update={"sweep": _with(old.head.sweep, named, finished)})

    def landed(head: Head) -> bool:
        return named is not None and any(each.key == named.key for each in head.sweep.lists)

    head = tidying.register.change(decide, as_writer=False, landed=landed)
    if named is None or not landed(head):
        return None
    for generation in finished:
        index.note(_done(generation), None)
    return _Condemnation(generation=named.generation, head=head, doomed=doomed)


def _with(sweep: Sweep, named: CondemnedList, finished: Collection[int]) -> Sweep:
    for generation in finished:
        sweep = condemned.done(sweep, generation)
    return condemned.with_list(sweep, named)


def _doomed(
    pipeline: Pipeline, index: Index, head: Head, now: datetime
) -> Sequence[tuple[str, int]]:
    stay = explained(pipeline, head)
    due = index.unreferenced(due=now, limit=condemned.MOST + len(stay))
    due = tuple(each for each in due if each[0] not in stay)[: condemned.MOST]
    free = set(index.unused([key for key, _size in due]))
    if all(key.startswith(keys.CONDEMNED) for key in free):
        return ()  # to delete a list takes another, which drops a list from head, for ever so
    # Manifests first: where one is, what it refers to is not gone already.
    return sorted(
        (each for each in due if each[0] in free),
        key=lambda each: not each[0].startswith(keys.MANIFESTS),
    )


def _done(generation: int) -> str:
    """The index' note that all of a list is deleted, until head says so too."""
    return f"done {generation}"


def _is_recent(pipeline: Pipeline, index: Index, fact: str, lasts: timedelta) -> bool:
    at = index.recall(fact)
    return at is not None and abs(pipeline.now() - at) < lasts
