"""Pull: what is fetched, what is kept, and where it appears."""

import os
import threading
from dataclasses import replace

import pytest

from ckptsync.errors import (
    Unavailable,
)
from ckptsync.operations.pull import Restored
from ckptsync.repository import keys
from ckptsync.sources.staged_file import StagedFile
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, FaultyStore
from tests.operations.actors import Odd
from tests.pipelines import (
    CHUNK,
    PACK_BELOW,
    Host,
    a_small_checkpoint,
    contents,
    noise,
    snapshot,
    wanted,
)


def fetches(store: FaultyStore) -> list[str]:
    return [call.key for call in store.calls if call.method == "read_into"]


# What is restored


def test_the_latest_comes_back_byte_for_byte(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    before = snapshot(two_pushed)

    report = other.restore(two_pushed)

    assert report.entry.engine_id == "ckpt-2"
    assert report.source == two_pushed.name
    assert report.target == other.root
    assert contents(other.root) == {
        path: value for path, value in contents(host.root).items() if path.startswith("ckpt-2/")
    }
    assert snapshot(two_pushed) == before, "a pull writes nothing"


def test_the_bytes_reported_as_fetched_are_those_that_were_not_there(
    two_pushed: ObjectStore, other: Host
) -> None:
    first = other.restore(two_pushed, wanted("ckpt-1"))
    (other.root / "ckpt-1").rename(other.root / "ckpt-2")  # most of it lies where it belongs

    second = other.restore(two_pushed, wanted("ckpt-2", force=True))

    assert first.fetched == sum(map(len, a_small_checkpoint().values())) - 700 + PACK_BELOW + 9
    assert second.fetched == PACK_BELOW + 9


def test_progress_adds_up_to_the_size_of_the_checkpoint(
    two_pushed: ObjectStore, other: Host
) -> None:
    moved: list[int] = []

    report = other.pull(two_pushed, progress=moved.append)

    assert isinstance(report, Restored)
    assert sum(moved) == report.entry.bytes


def test_a_checkpoint_that_is_there_already_is_not_fetched_again(
    two_pushed: ObjectStore, other: Host
) -> None:
    other.restore(two_pushed)
    before = contents(other.root)
    asked = FaultyStore(two_pushed)

    report = other.restore(asked)

    assert report.fetched == 0
    assert fetches(asked) == []
    assert contents(other.root) == before


def test_a_file_that_was_altered_on_the_disk_is_fetched_anew(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    other.restore(two_pushed)
    path = other.root / "ckpt-2" / "chunk"
    facts = path.stat()
    path.write_bytes(b"x" * PACK_BELOW)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    report = other.restore(two_pushed, wanted(force=True))

    assert report.fetched == PACK_BELOW
    assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")


def test_what_a_failed_pull_fetched_is_not_fetched_again(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.checkpoint("ckpt-1", {f"{number}": noise(CHUNK + number, number) for number in range(6)})
    host.push(bucket)
    other = replace(other, parallel=1)
    reads = 0

    def decide(_number: int, call: Call) -> Unavailable | None:
        nonlocal reads
        reads += call.method == "read_into"
        return Unavailable(bucket.name, "read", call.key, "503") if reads > 7 else None

    with pytest.raises(Unavailable):
        other.pull(Odd(bucket, decide))
    assert not list(other.root.glob("*"))
    again = FaultyStore(bucket)
    report = other.restore(again)

    assert len(fetches(again)) == 11 - 7, "two chunks a file, but for the first"
    assert report.fetched < report.entry.bytes / 2
    assert contents(other.root) == contents(host.root)


def test_a_staged_file_that_was_damaged_meanwhile_is_fetched_again(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    def decide(_number: int, call: Call) -> Unavailable | None:
        missing = call.key.startswith(keys.PACKS) and call.method == "read_into"
        return Unavailable(two_pushed.name, "read", call.key, "503") if missing else None

    with pytest.raises(Unavailable):
        other.pull(Odd(two_pushed, decide))
    staged = [path for path in (other.work / "files").rglob("*") if path.is_file()]
    assert staged
    for path in staged:
        path.write_bytes(b"scrawl")

    other.restore(two_pushed)

    assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")


def test_a_read_that_outlives_a_failure_writes_into_no_other_file(
    host: Host, other: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file must not be closed while a thread is about to write into it by its descriptor."""
    host.checkpoint("ckpt-1", {f"{number}": noise(PACK_BELOW, number) for number in range(9)})
    host.push(bucket)
    failed, closed = threading.Event(), threading.Event()
    reading: list[str] = []
    early: list[bool] = []

    def decide(_number: int, call: Call) -> Unavailable | None:
        if call.method != "read_into":
            return None
        reading.append(call.key)
        if len(reading) == 1:  # this one is slow, and then succeeds
            failed.wait(10)
            early.append(closed.wait(0.2))
            return None
        failed.set()
        return Unavailable(bucket.name, "read", call.key, "503")

    abandon = StagedFile._abandon

    def note(self: StagedFile) -> None:
        closed.set()
        abandon(self)

    monkeypatch.setattr(StagedFile, "_abandon", note)

    with pytest.raises(Unavailable):
        other.pull(Odd(bucket, decide))

    assert early == [False], "the file was closed under the thread that reads for it"
