"""Looking through a whole bucket for what nothing refers to."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Final

from ckptsync.model import Progress
from ckptsync.repository import keys
from ckptsync.state.index import Index
from ckptsync.stores.base import ObjectInfo, ObjectStore

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
    """What no checkpoint, and nothing that this node knows of, explains."""

    found: Sequence[tuple[str, int]]
    """(key, size) of those that may go."""
    amount: Amount
    """Of all that may go, found again by the next look where it is more than `found`."""
    young: Amount
    """Of those less than a day old."""
    all: Amount
    """Of everything that was listed."""


def look_for_orphans(
    store: ObjectStore,
    index: Index,
    *,
    explained: Collection[str],
    now: datetime,
    progress: Progress,
) -> Orphans:
    """List everything but head, descriptor and heartbeats, against an index of some head.

    What was committed since that head, and is long there, looks like an orphan: bring the index up
    again before anything is made of them. `explained` are keys of which it is known why nothing
    refers to them. What has no name that ckptsync gives is left alone, and not counted.

    Raises StoreError also where a listing fails half-way; Cancelled by progress.
    """
    found: dict[str, int] = {}
    amount = young = total = NOTHING
    listed = chain.from_iterable(store.walk(place) for place in _PLACES)
    for batch in _batches(each for each in listed if _is_ours(each.key)):
        progress(0)
        for each in batch:
            total = total.plus(1, each.size)
        free = set(index.unused([each.key for each in batch]))
        free -= index.waiting(free)
        for each in batch:
            if each.key not in free or each.key in explained:
                continue
            if each.modified > now - ORPHAN_GRACE:
                young = young.plus(1, each.size)
            elif each.key not in found:
                amount = amount.plus(1, each.size)
                if len(found) < _MOST:
                    found[each.key] = each.size
    return Orphans(found=tuple(found.items()), amount=amount, young=young, all=total)


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
