"""Looking through a whole bucket for what nothing refers to."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Final

from ckptsync.errors import IntegrityError, NotFound, Refused
from ckptsync.model import Progress
from ckptsync.operations.indexing import READER_GRACE
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.tidying import Tidying
from ckptsync.repository import keys
from ckptsync.repository.head import Head
from ckptsync.repository.repository import Repository
from ckptsync.state.index import Index
from ckptsync.state.journal import UploadJournal
from ckptsync.stores.base import ObjectInfo, ObjectStore
from ckptsync.units import format_size

ORPHAN_GRACE: Final = timedelta(hours=24)
"""Younger objects may be of a push that is under way. That is economy: safe they are anyway."""

_PLACES: Final = (keys.CHUNKS, keys.PACKS, keys.MANIFESTS, keys.CATALOG, keys.CONDEMNED)
_AT_ONCE: Final = 1000
_MOST: Final = 200_000
"""Orphans that one look remembers; the next one finds the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    objects: int = 0
    bytes: int = 0

    def plus(self, objects: int, size: int) -> "Amount":
        return Amount(objects=self.objects + objects, bytes=self.bytes + size)


NOTHING: Final = Amount()


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """What no checkpoint refers to, and this node did not know of."""

    found: Sequence[tuple[str, int]]
    """(key, size) of those that may go."""
    amount: Amount
    """Of all that may go and that no sweep has condemned, found again by the next look where it
    is more than `found`."""
    young: Amount
    """Of those that may be of a push under way."""
    all: Amount
    """Of everything that was listed."""
    later: str | None
    """A key that says of itself that it is of a later time than the head."""


def find_orphans(
    pipeline: Pipeline, tidying: Tidying, index: Index, *, insist: bool, progress: Progress
) -> Orphans:
    """Look for them; what may go is in the index then.

    Bring that up again before anything is deleted: what was committed since looks like an orphan.

    Raises Refused, unless told to `insist`, where head seems to be older than the bucket, or more
    is orphaned than a crash explains; and what `look_for_orphans` raises.
    """
    orphans = look_for_orphans(pipeline, tidying, index, spare=not insist, progress=progress)
    doubt = None if insist else doubt_about(pipeline, tidying, orphans)
    if doubt is not None:
        raise doubt
    now = pipeline.store.now()
    for page in (True, False):
        # Another node may have replaced a page just now: readers of an older head still want it.
        index.note_unreferenced(
            (each for each in orphans.found if each[0].startswith(keys.CATALOG) is page),
            due=now + READER_GRACE if page else now,
        )
    return orphans


def look_for_orphans(
    pipeline: Pipeline, tidying: Tidying, index: Index, *, spare: bool, progress: Progress
) -> Orphans:
    """List everything but head, descriptor and heartbeats.

    The index has to be up to the head that `tidying` has. What has no name that ckptsync gives is
    left alone, and not counted. To `spare` is to leave out what may be of a push under way.

    Raises StoreError also where a listing fails half-way; Cancelled.
    """
    head, now = tidying.head, pipeline.store.now()
    return _look(
        pipeline.store,
        index,
        head,
        explained=explained(pipeline, head),
        condemned=_condemned(tidying.repository, head),
        before=_before(pipeline, head, index, now) if spare else now - ORPHAN_GRACE,
        progress=progress,
    )


def explained(pipeline: Pipeline, head: Head) -> frozenset[str]:
    """What nothing refers to for a reason: own uploads for the next push, and lists of head."""
    own = UploadJournal(pipeline.state.database, head.repository_id).sizes()
    return frozenset(own) | {named.key for named in head.sweep.lists}


def _condemned(repository: Repository, head: Head) -> frozenset[str]:
    """What a sweep that was interrupted, on whatever node, had left to be deleted."""
    keys: set[str] = set()
    for named in head.sweep.lists:
        if not named.done:
            try:
                keys |= repository.condemned(named)
            except (NotFound, IntegrityError):
                continue  # what it named is in question then, like all else that is orphaned
    return frozenset(keys)


def _before(pipeline: Pipeline, head: Head, index: Index, now: datetime) -> datetime:
    """What was written since then may be of a push that is under way.

    Of its own pushes the writer knows that none is. To another node whatever was written since the
    last commit may be of one, however many days that takes.
    """
    before = now - ORPHAN_GRACE
    if head.writer.instance in pipeline.state.identity.remembered().instances:
        return before
    return min([before, *(row.at for row in index.rows()[:1])])


def doubt_about(pipeline: Pipeline, tidying: Tidying, orphans: Orphans) -> Refused | None:
    """What is held against deleting them until an operator insists. Reads head where it has to."""
    where, insist = pipeline.store.name, f"ckptsync prune --orphans --yes {pipeline.node.pipeline}"
    if orphans.later is not None and _is_later(orphans.later, tidying.register.read().head):
        return Refused(
            f"{where}: {orphans.later} is of a later time than head.json, which names nothing like "
            "it: head.json seems to be older than the bucket; nothing was deleted",
            hint="if it was put back from a copy: 'ckptsync repair accept-rollback' on the "
            f"primary; if all that it does not name may go: {insist}",
        )
    amount, there = orphans.amount, orphans.all
    if 2 * amount.bytes > there.bytes:
        return Refused(
            f"{where}: no checkpoint refers to {amount.objects:,} objects of "
            f"{format_size(amount.bytes)}, more than half of the {format_size(there.bytes)} that "
            "are there, and no checkpoint that was forgotten explains it; nothing was deleted",
            hint=f"was head.json replaced by an older one? If all that may go: {insist}",
        )
    return None


def _look(
    store: ObjectStore,
    index: Index,
    head: Head,
    *,
    explained: Collection[str],
    condemned: Collection[str],
    before: datetime,
    progress: Progress,
) -> Orphans:
    """`explained` are to stay and `condemned` may go, both without question."""
    found: dict[str, int] = {}
    amount = young = total = NOTHING
    later = None
    listed = chain.from_iterable(store.walk(place) for place in _PLACES)
    for batch in _batches(each for each in listed if _is_ours(each.key)):
        progress(0)
        for each in batch:
            total = total.plus(1, each.size)
        free = set(index.unused([each.key for each in batch])).difference(explained)
        free -= index.waiting(free)
        for each in batch:
            if each.key not in free or each.key in found:
                continue
            if _is_later(each.key, head):
                later = each.key
            if each.modified > before:
                young = young.plus(1, each.size)
                continue
            if each.key not in condemned:
                amount = amount.plus(1, each.size)
            if len(found) < _MOST:
                found[each.key] = each.size
    return Orphans(found=tuple(found.items()), amount=amount, young=young, all=total, later=later)


def _is_later(key: str, head: Head) -> bool:
    """Whether no history that leads to this head has such a name.

    A push or a sweep that came to nothing has the number that is the next one in head.
    """
    checkpoint = keys.checkpoint_of(key)
    if checkpoint is not None:
        return keys.seq(checkpoint) > head.next_seq
    named = keys.CONDEMNED_PATTERN.fullmatch(key)
    return named is not None and int(named[1]) > head.sweep.generation + 1


def _is_ours(key: str) -> bool:
    if key.startswith((keys.CHUNKS, keys.PACKS)):
        return keys.DATA_PATTERN.fullmatch(key) is not None
    if key.startswith(keys.MANIFESTS):
        return keys.checkpoint_of(key) is not None
    return any(each.fullmatch(key) for each in (keys.CATALOG_PATTERN, keys.CONDEMNED_PATTERN))


def _batches(infos: Iterable[ObjectInfo]) -> Iterator[list[ObjectInfo]]:
    rest = iter(infos)
    while batch := list(islice(rest, _AT_ONCE)):
        yield batch
