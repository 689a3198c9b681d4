"""Files that change without a trace in their times: the stat cache is wrong, and a push finds out.

Hard links, as a database makes them for its checkpoints: of these a change of ctime says nothing.
"""

import os
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ckptsync.repository import keys
from ckptsync.stores.memory import MemoryStore
from tests.operations.looks import require_restores
from tests.pipelines import CHUNK, PACK_BELOW, Host, noise

SIZES = {"a": 100, "b": 200, "c": PACK_BELOW, "d": CHUNK + PACK_BELOW}


@pytest.fixture
def pushed(host: Host, bucket: MemoryStore) -> Host:
    """A host whose files are all in the cache, and in a second checkpoint that is not pushed."""
    files = {name: noise(size, name) for name, size in SIZES.items()}
    first = host.checkpoint("ckpt-1", files)
    for name in files:
        os.link(first / name, host.home / name)
    host.push(bucket)
    second = host.root / "ckpt-2"
    second.mkdir()
    for name in files:
        os.link(first / name, second / name)
    return host


def change_without_a_trace(path: Path, at: int = 0) -> None:
    facts = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"changed")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def disprovals(logs: Iterable[Mapping[str, object]]) -> list[object]:
    return [log["path"] for log in logs if log["event"] == "statcache.mismatch"]


@pytest.mark.parametrize("rechecked", range(len(SIZES)))
def test_nothing_is_committed_that_a_disproved_cache_said(
    pushed: Host,
    bucket: MemoryStore,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    rechecked: int,
) -> None:
    for name in SIZES:
        change_without_a_trace(pushed.root / "ckpt-2" / name)
    asked = 0

    def chance(_one_in: int) -> int:
        nonlocal asked
        asked += 1
        return asked - 1 - rechecked

    monkeypatch.setattr(random, "randrange", chance)
    with capture_logs() as logs:
        entry = pushed.push(bucket).entry

    assert entry.engine_id == "ckpt-2"
    assert disprovals(logs) == [f"ckpt-2/{list(SIZES)[rechecked]}"]
    require_restores(bucket, pushed, "ckpt-2", disk)


def never_rechecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "randrange", lambda _one_in: 1)


def forget_what_is_stored(host: Host, bucket: MemoryStore) -> None:
    """The parent's manifest is gone, from the bucket and from this node."""
    (manifest,) = [info.key for info in bucket.walk(keys.MANIFESTS)]
    bucket.put(manifest, b"rotten")
    with host.running(bucket) as pipeline, pipeline.state.database.transaction() as transaction:
        transaction.execute("DELETE FROM manifest")


@pytest.mark.parametrize(("name", "at"), [("a", 0), ("c", 0), ("d", 0), ("d", CHUNK)])
def test_a_file_that_is_read_for_another_reason_disproves_the_cache_too(
    pushed: Host,
    bucket: MemoryStore,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    at: int,
) -> None:
    never_rechecked(monkeypatch)
    change_without_a_trace(pushed.root / "ckpt-2" / name, at)
    forget_what_is_stored(pushed, bucket)

    with capture_logs() as logs:
        pushed.push(bucket)

    assert disprovals(logs) == [f"ckpt-2/{name}"]
    require_restores(bucket, pushed, "ckpt-2", disk)


def test_a_change_that_shows_says_nothing_of_the_cache(
    pushed: Host, bucket: MemoryStore, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_rechecked(monkeypatch)
    path = pushed.root / "ckpt-2" / "a"
    forget_what_is_stored(pushed, bucket)
    read, changes = os.preadv, [b"changed"]

    def meanwhile(descriptor: int, buffers: list[memoryview], start: int) -> int:
        if changes and os.fstat(descriptor).st_ino == path.stat().st_ino:
            with path.open("r+b") as file:
                file.write(changes.pop())
        return read(descriptor, buffers, start)

    monkeypatch.setattr(os, "preadv", meanwhile)
    with capture_logs() as logs:
        pushed.push(bucket)

    assert changes == []
    assert disprovals(logs) == []
    assert [log["event"] for log in logs].count("push.vanished") == 1
    require_restores(bucket, pushed, "ckpt-2", disk)
