"""Whether objects are in the store with the size that they were stored with."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ckptsync.errors import NotFound
from ckptsync.model import Progress
from ckptsync.operations.transfers import Transfers
from ckptsync.repository import keys
from ckptsync.repository.objects import StoredObject
from ckptsync.stores.base import ObjectStore

GONE: Final = "is gone"
LISTED: Final = 1000
"""Keys that one LIST request brings at most; a stat brings one."""

Sized = tuple[str, int]
"""A key and its size in bytes."""


def absent(
    store: ObjectStore,
    objects: Iterable[StoredObject],
    *,
    parallel: int,
    stop: threading.Event,
    progress: Progress,
) -> Mapping[Sized, str]:
    """What is wrong with those that are not there with their size.

    A listing only ever clears objects: what it lacks is asked for by name, and reported only
    after the store's own definite answer. Raises StoreError, Cancelled.
    """
    unseen = {(stored.key, stored.size) for stored in objects}
    for prefix in (keys.CHUNKS, keys.PACKS):
        unseen -= _listed(store, prefix, unseen, progress)
    faults: dict[Sized, str] = {}

    def asking(wanted: Sized) -> Callable[[memoryview], None]:
        def task(_buffer: memoryview) -> None:
            progress(0)
            if fault := _fault(store, wanted):
                faults[wanted] = fault

        return task

    with Transfers(parallel=parallel, buffer_size=0, stop=stop) as transfers:
        for wanted in sorted(unseen):
            transfers.submit(transfers.borrow(), asking(wanted))
        transfers.drain()
    return faults


def _listed(
    store: ObjectStore, prefix: str, unseen: Iterable[Sized], progress: Progress
) -> set[Sized]:
    """Those found by listing; it is given up where asking one by one takes no more requests."""
    wanted = {each for each in unseen if each[0].startswith(prefix)}
    budget = LISTED * (len(wanted) - 1)
    found: set[Sized] = set()
    if budget > 0:
        for count, info in enumerate(store.walk(prefix), start=1):
            progress(0)
            if (info.key, info.size) in wanted:
                found.add((info.key, info.size))
            if count >= budget or len(found) == len(wanted):
                break
    return found


def _fault(store: ObjectStore, wanted: Sized) -> str | None:
    key, size = wanted
    try:
        found = store.stat(key).size
    except NotFound:
        return GONE
    return None if found == size else f"has {found:,} bytes, where {size:,} were stored"
