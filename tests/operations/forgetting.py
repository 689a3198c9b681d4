"""Buckets as retention and sweeps leave them: checkpoints retired, forgotten, moved into pages."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final

from ckptsync.hashing import Hash
from ckptsync.model import CheckpointId
from ckptsync.repository import catalog, keys, pages
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository.catalog import CatalogPage
from ckptsync.repository.head import Entry
from ckptsync.repository.repository import Repository, read_head
from ckptsync.stores.base import ObjectStore
from tests.operations.actors import Sweeper, edit_head

LONG: Final = timedelta(days=2)


def repository_of(store: ObjectStore) -> Repository:
    return Repository(store=store, descriptor=descriptors.read(store))


def entries_of(store: ObjectStore) -> list[Entry]:
    """All that head names, oldest first."""
    return list(repository_of(store).entries(read_head(store).head))[::-1]


def retire(store: ObjectStore, *doomed: CheckpointId) -> None:
    """Two days ago, so that they may be forgotten."""
    changes = {"state": "retired", "retired_at": store.now() - LONG}
    _edit(store, doomed, lambda entry: entry.model_copy(update=changes))


def mark_bad(store: ObjectStore, bad: CheckpointId) -> None:
    """As if what no other checkpoint refers to had been found damaged."""
    repository = repository_of(store)
    objects = {
        entry.id: {each.key for each in repository.manifest(entry).objects}
        for entry in entries_of(store)
    }
    others = (held for id, held in objects.items() if id != bad)
    damaged = tuple(sorted(objects[bad].difference(*others)))
    changes = {"state": "bad", "retired_at": None, "damaged": damaged}
    _edit(store, {bad}, lambda entry: entry.model_copy(update=changes))


def forget(store: ObjectStore, *doomed: CheckpointId, sweep: bool = True) -> None:
    """Take them out of head, and delete what only they refer to."""
    _edit(store, doomed, lambda _entry: None)
    if sweep:
        Sweeper(store=store).sweep()


def into_pages(store: ObjectStore, size: int = 2) -> None:
    """Move everything that lies in head into pages, latest too."""
    head = read_head(store).head
    spilled = list(head.pages)
    for start in range(0, len(head.checkpoints), size):
        record = CatalogPage(
            repository_id=head.repository_id, entries=head.checkpoints[start : start + size]
        )
        page, data = catalog.page_of(record, Hash.BLAKE3)
        store.put(page.key, data)
        spilled.append(page)
    edit_head(store, checkpoints=(), pages=tuple(spilled))


def replace_pages(store: ObjectStore) -> None:
    """Write every page anew under another name, and delete the old ones."""
    head = read_head(store).head
    renewed = []
    for page in head.pages:
        data = store.get(page.key, limit=catalog.STORED_LIMIT).data
        renewed.append(page.model_copy(update={"key": keys.catalog()}))
        store.put(renewed[-1].key, data)
    edit_head(store, pages=tuple(renewed))
    store.delete(page.key for page in head.pages)


def _edit(store: ObjectStore, ids: Collection[CheckpointId], edit: pages.Edit) -> None:
    head = read_head(store).head
    edited = pages.edited(repository_of(store), head, ids, edit).head
    edit_head(store, checkpoints=edited.checkpoints, pages=edited.pages)
