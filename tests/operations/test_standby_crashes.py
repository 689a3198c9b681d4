"""Standbys that die, or whose disk is full, in the middle of a poll or an activation."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import structlog

from ckptsync.errors import EngineRunning, LocalDiskFull
from ckptsync.model import ignore
from ckptsync.sources import publish as publishing
from ckptsync.sources.directory import Directory
from ckptsync.sources.quarantine import Quarantine
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Crash, FaultyStore
from tests.operations.standbys import activate, asked, fetched, poll, require_ready, standing_by
from tests.pipelines import Host, a_small_checkpoint, contents, noise


@pytest.fixture
def polled_once(host: Host, other: Host, bucket: MemoryStore) -> MemoryStore:
    """The other holds the first checkpoint; the second waits in the bucket."""
    host.push_new("ckpt-1", bucket)
    poll(other, bucket)
    new = {f"new-{number}": noise(9000, number) for number in range(3)}
    host.checkpoint("ckpt-2", {**a_small_checkpoint("ckpt-1"), **new})
    host.push(bucket)
    return bucket


@pytest.mark.parametrize("crash_after", [False, True], ids=["before the call", "after the call"])
def test_a_crash_at_any_call_of_a_poll_loses_nothing_of_what_was_held(
    host: Host, other: Host, polled_once: MemoryStore, disk: Path, crash_after: bool
) -> None:
    first, second = (contents(host.root / f"ckpt-{number}") for number in (1, 2))
    for number in count():
        left = other.copied_to(disk / f"crash-{number}")
        store = FaultyStore(polled_once, crash_at=number, crash_after=crash_after)
        try:
            poll(left, store)
        except Crash:
            require_ready(left, "ckpt-1", first)
            poll(left, polled_once)
            require_ready(left, "ckpt-2", second)
        else:
            assert number == len(store.calls) >= 4
            return


def _full(fails_from: int, writes: list[int], call: Callable[..., Any]) -> Callable[..., Any]:
    def write(*args: Any, **kwargs: Any) -> Any:
        writes.append(1)
        if len(writes) > fails_from:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return call(*args, **kwargs)

    return write


def staged(host: Host) -> set[str]:
    return {path.name for path in (host.work / "files").rglob("*") if path.is_file()}


def test_a_disk_that_fills_up_at_any_write_of_a_poll_keeps_what_was_held_and_nothing_else(
    host: Host, other: Host, polled_once: MemoryStore, disk: Path
) -> None:
    first, second = (contents(host.root / f"ckpt-{number}") for number in (1, 2))
    before = staged(other)
    for number in count():
        left = replace(other.copied_to(disk / f"full-{number}"), parallel=1)
        writes: list[int] = []
        with standing_by(left, polled_once) as standby:
            standby.newest()
            with pytest.MonkeyPatch.context() as patch:
                for name in ("pwrite", "posix_fallocate", "copy_file_range", "mkdir"):
                    patch.setattr(os, name, _full(number, writes, getattr(os, name)))
                try:
                    standby.poll(progress=ignore)
                except LocalDiskFull:
                    assert len(writes) > number
                else:
                    assert len(writes) == number >= 2
                    return
            assert staged(left) == before, "what was being staged is removed"
            require_ready(left, "ckpt-1", first)
            standby.poll(progress=ignore)
        require_ready(left, "ckpt-2", second)


def test_a_disk_without_room_is_noticed_before_the_first_byte(
    host: Host, other: Host, polled_once: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = os.statvfs(other.home)
    nearly_full = os.statvfs_result((*facts[:4], 1, *facts[5:]))
    store = FaultyStore(polled_once)
    with standing_by(other, store) as standby:
        standby.newest()
        monkeypatch.setattr(os, "statvfs", lambda _path: nearly_full)
        with pytest.raises(LocalDiskFull, match="bytes free"):
            standby.poll(progress=ignore)
        assert fetched(asked(store)) == []
        assert standby.warm is not None
        monkeypatch.undo()

        assert standby.poll(progress=ignore).staged is not None


def test_the_room_that_copies_of_a_file_will_take_is_asked_for_beforehand(
    host: Host, other: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.checkpoint("ckpt-1", {f"{number}": noise(100_000) for number in range(5)})
    host.push(bucket)
    facts = os.statvfs(other.home.parent)
    room = os.statvfs_result((*facts[:4], 300_000 // facts.f_frsize, *facts[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: room)
    other.home.mkdir()

    with pytest.raises(LocalDiskFull, match="504,096 are needed"):
        poll(other, bucket)


# What lies in the storage


def test_what_the_storage_holds_is_copied_and_not_fetched(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    """A standby that was primary before a switchover."""
    host.push_new("ckpt-1", bucket)
    other.restore(bucket)
    (other.root / "ckpt-1").rename(other.root / "ckpt-2")
    host.checkpoint("ckpt-2", {**a_small_checkpoint("ckpt-1"), "new": noise(9000, "new")})
    host.push(bucket)
    store = FaultyStore(bucket)

    polled = poll(other, store)

    assert polled.fetched == 9000
    assert len(fetched(asked(store))) == 1
    require_ready(other, "ckpt-2", contents(host.root / "ckpt-2"))


def test_a_poll_changes_nothing_in_the_storage(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    other.restore(bucket)
    before = {path: path.lstat() for path in other.root.rglob("*")}
    host.push_new("ckpt-2", bucket)
    with standing_by(other, bucket) as standby:
        standby.poll(progress=ignore)

    now = {path: path.lstat() for path in other.root.rglob("*")}
    assert [(facts.st_ino, facts.st_ctime_ns) for facts in now.values()] == [
        (facts.st_ino, facts.st_ctime_ns) for facts in before.values()
    ]


# Publishing that is refused, or interrupted


def test_an_engine_that_runs_keeps_the_checkpoint_held(
    host: Host, other: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.push_new("ckpt-1", bucket)
    store = FaultyStore(bucket)
    with standing_by(other, store) as standby:
        standby.poll(progress=ignore)
        with monkeypatch.context() as patch:
            patch.setattr(Directory, "engine_running", lambda _self: True)
            with pytest.raises(EngineRunning):
                activate(standby, store)
        assert standby.warm is not None
        assert not other.root.exists()
        asked(store)

        activate(standby, store)

    assert fetched(asked(store)) == []
    assert contents(other.root / "ckpt-1") == contents(host.root / "ckpt-1")


def test_a_publication_that_fails_half_way_is_finished_by_the_same_process(
    host: Host, other: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was moved already is found where it is, and nothing is fetched again."""
    host.push_new("ckpt-1", bucket)
    store = FaultyStore(bucket)

    def full(*_args: object) -> None:
        raise LocalDiskFull("no space left on the disk")

    for place, name in ((publishing, "_make"), (Quarantine, "sync")):
        with standing_by(other, store) as standby:
            standby.poll(progress=ignore)
            asked(store)
            with monkeypatch.context() as patch:
                patch.setattr(place, name, full)
                with pytest.raises(LocalDiskFull):
                    activate(standby, store)

            activate(standby, store)

        assert fetched(asked(store)) == []
        assert contents(other.root / "ckpt-1") == contents(host.root / "ckpt-1")
        shutil.rmtree(other.root)


def test_what_a_crash_of_a_publication_left_can_be_published_without_the_bucket(
    host: Host, other: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.push_new("ckpt-0", bucket)
    poll(other, bucket)
    host.push_new("ckpt-1", bucket)

    def die(*_args: object) -> None:
        raise Crash

    monkeypatch.setattr(Quarantine, "sync", die)
    with standing_by(other, bucket) as standby:
        standby.poll(progress=ignore)
        with pytest.raises(Crash):
            activate(standby, bucket)
    monkeypatch.undo()
    assert (other.root / "ckpt-1").exists()

    with standing_by(other, MemoryStore("s3://away")) as standby:
        with structlog.testing.capture_logs() as logs:
            warm = standby.newest()
        assert logs == [], "nothing is missing that should be there"
        assert warm is not None
        assert warm.entry.engine_id == "ckpt-1"
        standby.publish(warm)

    assert contents(other.root / "ckpt-1") == contents(host.root / "ckpt-1")
    assert not list(other.work.rglob("*"))
