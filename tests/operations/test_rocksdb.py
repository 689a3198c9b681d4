"""Checkpoints of a real RocksDB that goes on writing, pushed and opened again elsewhere."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from rocksdict import AccessType, Checkpoint, Options, Rdict

from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.s3 import S3Store
from tests.operations.invariants import require_sound
from tests.pipelines import KIB, Host, noise, wanted
from tests.servers import S3Server

_CHECKPOINTS: Final = 4
_KEYS: Final = 3000


@pytest.fixture(params=["local", "s3"])
def bucket_of_any_kind(
    request: pytest.FixtureRequest, directory_bucket: LocalStore
) -> Iterator[ObjectStore]:
    if request.param == "local":
        yield directory_bucket
        return
    server: S3Server = request.getfixturevalue("moto")
    store = S3Store(server.options("rocksdb"))
    yield store
    store.close()


class Database:
    """A RocksDB with a thread that changes it all the time."""

    def __init__(self, path: Path, *, compacting: bool = True) -> None:
        options = Options()
        options.create_if_missing(True)
        options.set_disable_auto_compactions(not compacting)
        options.set_write_buffer_size(64 * KIB)  # small, for many files
        self._rocks = Rdict(str(path), options)
        self._stop = threading.Event()
        self._rounds = 0
        self._pausing = threading.Lock()
        self._writer = threading.Thread(target=self._write)

    @contextmanager
    def writing(self) -> Iterator[None]:
        self._writer.start()
        try:
            yield
        finally:
            self._stop.set()
            self._writer.join()
            self._rocks.close()

    def checkpoint(self, path: Path) -> dict[str, bytes]:
        """Make one while the database is in use; what it holds."""
        with self._pausing:
            held = {str(key): value for key, value in self._rocks.items()}
            Checkpoint(self._rocks).create_checkpoint(str(path))
        return held

    def let_it_write(self) -> None:
        """Wait for some more changes."""
        until = self._rounds + 2000
        while self._rounds < until:
            self._writer.join(0.001)
            assert self._writer.is_alive()

    def _write(self) -> None:
        while not self._stop.is_set():
            with self._pausing:
                key = (self._rounds * 7919) % _KEYS
                if self._rounds % 11 == 10:
                    self._rocks.delete(f"{key}")
                else:
                    self._rocks[f"{key}"] = noise(100, self._rounds)
            self._rounds += 1


def held_by(path: Path) -> dict[str, bytes]:
    """Opening it adds a log file to the directory."""
    rocks = Rdict(str(path), access_type=AccessType.read_only())
    try:
        return {str(key): value for key, value in rocks.items()}
    finally:
        rocks.close()


def test_every_checkpoint_opens_elsewhere_with_every_key(
    host: Host, other: Host, bucket_of_any_kind: ObjectStore
) -> None:
    host.root.mkdir(parents=True)
    database = Database(host.home / "live")
    expected: dict[str, dict[str, bytes]] = {}
    with database.writing():
        for number in range(1, _CHECKPOINTS + 1):
            database.let_it_write()
            name = f"ckpt-{number}"
            expected[name] = database.checkpoint(host.root / name)
            host.push(bucket_of_any_kind)

    for name, held in expected.items():
        assert len(held) > 1000
        other.restore(bucket_of_any_kind, wanted(name, to=other.home / name))
        assert held_by(other.home / name / name) == held


def test_files_shared_by_hard_links_are_stored_once(
    host: Host, directory_bucket: LocalStore
) -> None:
    host.root.mkdir(parents=True)
    database = Database(host.home / "live", compacting=False)
    linked: Counter[int] = Counter()
    with database.writing():
        for number in range(1, _CHECKPOINTS + 1):
            database.let_it_write()
            database.checkpoint(host.root / f"ckpt-{number}")
            host.push(directory_bucket)
            tables = (host.root / f"ckpt-{number}").glob("*.sst")
            linked.update(path.stat().st_ino for path in tables)

    assert max(linked.values()) > 1, "no table was ever in two checkpoints"
    seen = require_sound(directory_bucket)
    assert seen is not None
    with_repetition = sum(entry.bytes for entry in seen.entries)
    stored = sum(entry.new_bytes for entry in seen.entries)
    objects: Counter[bytes] = Counter()
    for prefix in ("chunks/", "packs/"):
        for info in directory_bucket.walk(prefix):
            objects[directory_bucket.get(info.key, limit=info.size).data] += 1
    assert set(objects.values()) == {1}
    assert stored < with_repetition
