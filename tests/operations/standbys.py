"""Standbys to test with, and what would be found in the storage if one were activated now."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ckptsync.errors import NotModified
from ckptsync.model import ignore
from ckptsync.operations.standby import Poll, Standby
from ckptsync.operations.warm import WarmCheckpoint
from ckptsync.repository.repository import HeadAt, Repository, look
from ckptsync.stores.base import Fetched, ObjectStore, Version
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import FaultyStore
from tests.pipelines import Host, contents


class Replica(MemoryStore):
    """Holds what the store itself copied from elsewhere, and says so; data may be late."""

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        return replace(super().get(key, limit=limit, unless=unless), replica=True)


class Counting(FaultyStore):
    """Counts the answers that say that nothing has changed."""

    unchanged = 0

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        try:
            return super().get(key, limit=limit, unless=unless)
        except NotModified:
            self.unchanged += 1
            raise


@contextmanager
def standing_by(
    host: Host, store: ObjectStore, read_store: ObjectStore | None = None
) -> Iterator[Standby]:
    """The life of one process."""
    with host.running(store, read_store) as pipeline:
        yield Standby(pipeline)


def poll(host: Host, store: ObjectStore, read_store: ObjectStore | None = None) -> Poll:
    """In a process of its own."""
    with standing_by(host, store, read_store) as standby:
        return standby.poll(progress=ignore)


def asked(store: FaultyStore) -> list[str]:
    """What a store was asked since this was called last."""
    calls = [f"{call.method} {call.key}" for call in store.calls]
    store.calls.clear()
    return calls


def fetched(calls: list[str]) -> list[str]:
    return [call for call in calls if call.startswith("read_into ")]


def repository_and_head(store: ObjectStore) -> tuple[Repository, HeadAt]:
    """Of a bucket that holds checkpoints."""
    found = look(store)
    assert isinstance(found, tuple), "the bucket is empty"
    return found


def activate(standby: Standby, store: ObjectStore) -> WarmCheckpoint:
    """The last pull of exactly what head calls the latest, and its publication."""
    repository, at = repository_and_head(store)
    assert at.head.latest is not None
    entry = repository.find(at.head, at.head.latest)
    assert entry is not None
    warm = standby.stage(repository, entry, read_only=False, progress=ignore)
    standby.publish(warm)
    return warm


@contextmanager
def activated_copy(host: Host) -> Iterator[tuple[Host, WarmCheckpoint | None]]:
    """What a new process would publish now, without any bucket and without the storage."""
    copy = host.copied_to(host.home.with_name(f"{host.home.name}-activated"))
    shutil.rmtree(copy.root, ignore_errors=True)
    with standing_by(copy, MemoryStore("s3://away")) as standby:
        warm = standby.newest()
        if warm is not None:
            standby.publish(warm)
    yield copy, warm
    shutil.rmtree(copy.home)


def require_ready(host: Host, name: str | None, content: object = None) -> None:
    """That this checkpoint, of the layout `directory`, is what a new process would publish."""
    with activated_copy(host) as (copy, warm):
        assert (None if warm is None else warm.entry.engine_id) == name
        if name is not None:
            assert contents(copy.root / name) == content
            assert sorted(path.name for path in copy.root.iterdir()) == [name]
            assert not list(copy.work.rglob("*")), "something is left staged"
