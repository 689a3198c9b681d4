"""What a test asks of a bucket or a store after a push."""

import shutil
from dataclasses import replace
from pathlib import Path

from ckptsync.repository import keys
from ckptsync.repository.manifest import Manifest
from ckptsync.repository.repository import Repository, look
from ckptsync.stores.base import ObjectStore
from tests.fakes.stores import FaultyStore
from tests.operations.invariants import require_sound
from tests.pipelines import (
    Host,
    contents,
    wanted,
)


def repository_in(store: ObjectStore) -> Repository:
    """Of a bucket that holds checkpoints."""
    found = look(store)
    assert isinstance(found, tuple), "the bucket is empty"
    return found[0]


def manifest_of(store: ObjectStore, number: int = -1) -> Manifest:
    """Of the newest checkpoint, or of another."""
    repository = repository_in(store)
    return repository.manifest(repository.head().head.checkpoints[number])


def puts(store: FaultyStore) -> list[str]:
    return [call.key for call in store.calls if call.method == "put"]


def data_puts(store: FaultyStore) -> list[str]:
    """Chunks and packs that were written."""
    return [key for key in puts(store) if key.startswith((keys.CHUNKS, keys.PACKS))]


def require_restores(store: ObjectStore, origin: Host, name: str, disk: Path) -> None:
    fresh = replace(origin, home=disk / f"restored-{name}")
    fresh.restore(store, wanted(name))
    assert contents(fresh.root / name) == contents(origin.root / name)
    shutil.rmtree(fresh.home)


def require_entries(store: ObjectStore) -> tuple[str, ...]:
    seen = require_sound(store)
    assert seen is not None
    return tuple(entry.id for entry in seen.entries)
