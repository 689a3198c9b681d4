"""Disks that fill up, on either side: an error, and what was there stays."""

import errno
import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ckptsync.errors import (
    LocalDiskFull,
    StoreError,
)
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from tests.operations.invariants import require_sound
from tests.operations.victims import on_disk, require_refused
from tests.pipelines import (
    Host,
    a_small_checkpoint,
    wanted,
)


@pytest.fixture
def filled(host: Host, bucket: MemoryStore) -> MemoryStore:
    """A checkpoint with a pack, a raw and a compressed chunk."""
    host.checkpoint("ckpt-1", a_small_checkpoint())
    host.push(bucket)
    return bucket


def _full(fails_from: int, writes: list[int], call: Callable[..., Any]) -> Callable[..., Any]:
    def write(*args: Any, **kwargs: Any) -> Any:
        writes.append(1)
        if len(writes) > fails_from:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return call(*args, **kwargs)

    return write


def test_a_disk_that_fills_up_at_any_write_of_a_pull_keeps_what_was_there(
    filled: MemoryStore, disk: Path
) -> None:
    for number in count():
        victim = Host(home=disk / f"victim-{number}", parallel=1)
        victim.checkpoint("ckpt-0", {"mine": b"mine"})
        before, writes = on_disk(victim), list[int]()
        with pytest.MonkeyPatch.context() as patch:
            for name in ("pwrite", "posix_fallocate", "copy_file_range", "mkdir"):
                patch.setattr(os, name, _full(number, writes, getattr(os, name)))
            try:
                victim.pull(filled, wanted(force=True))
            except LocalDiskFull:
                assert len(writes) > number
            else:
                assert len(writes) == number >= 8
                return
        left = {path: value for path, value in on_disk(victim).items() if "quarantine" not in path}
        assert left == before, "the staging area is removed, the old checkpoint stays"

        victim.restore(filled, wanted(force=True))


def test_a_disk_without_room_is_noticed_before_the_first_byte(
    filled: MemoryStore, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = os.statvfs(disk)
    nearly_full = os.statvfs_result((*facts[:4], 3, *facts[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: nearly_full)

    error = require_refused(Host(home=disk / "victim"), filled, LocalDiskFull)

    assert "bytes free" in str(error)


def test_a_bucket_whose_disk_fills_up_at_any_write_keeps_what_was_there(
    host: Host, directory_bucket: LocalStore, disk: Path
) -> None:
    host.push_new("ckpt-1", directory_bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint(2))
    committed = require_sound(directory_bucket)
    write, seen = os.write, list[str]()
    for number in count():
        copy, writes = host.copied_to(disk / f"host-{number}"), list[int]()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", _full(number, writes, write))
            try:
                copy.push(directory_bucket)
            except StoreError as error:
                seen.append(str(error))
            else:
                break
        assert require_sound(directory_bucket, since=committed) == committed
        assert not list((disk / "bucket" / ".ckptsync.tmp").iterdir())
    assert len(seen) == number >= 4
    assert all("no space left" in error for error in seen)
    after = require_sound(directory_bucket, since=committed)
    assert after is not None
    assert after.engine_ids == ("ckpt-1", "ckpt-2")
