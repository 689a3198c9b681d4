"""A bucket on a disk that fails to sync: what can be read back is not yet committed."""

import errno
import os
from pathlib import Path

import pytest

from ckptsync.errors import Undurable
from ckptsync.repository import keys
from ckptsync.stores.local import LocalStore
from tests.operations.invariants import require_sound
from tests.pipelines import Host, a_small_checkpoint


@pytest.mark.parametrize("first", [True, False])
def test_a_head_that_was_swapped_but_not_synced_is_not_acknowledged(
    host: Host, directory_bucket: LocalStore, disk: Path, first: bool
) -> None:
    if not first:
        host.push_new("ckpt-1", directory_bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint(2))
    root, fsync, rename = disk / "bucket", os.fsync, os.rename
    renamed: list[str] = []

    def renaming(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        renamed.append(new)

    def failing(descriptor: int) -> None:
        if os.path.samestat(os.fstat(descriptor), root.stat()) and renamed[-1:] == [keys.HEAD]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", renaming)
        patch.setattr(os, "fsync", failing)
        with pytest.raises(Undurable, match=r"head\.json"):
            host.push(directory_bucket)

    host.push(directory_bucket)
    host.checkpoint("ckpt-3", a_small_checkpoint(3))
    host.push(directory_bucket)
    seen = require_sound(directory_bucket)
    assert seen is not None
    assert seen.engine_ids[-2:] == ("ckpt-2", "ckpt-3")
