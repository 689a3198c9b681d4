"""The places that a pull makes, and those that it never makes."""

import os
from pathlib import Path

import pytest

from ckptsync.errors import LocalDiskFull, SourceError, Vanished
from ckptsync.stores.memory import MemoryStore
from tests.limits import files_limited_to
from tests.pipelines import MIB, Host, contents, noise, wanted


class Unmounted(Host):
    """Its storage belongs on a disk that is not there."""

    @property
    def root(self) -> Path:
        return self.home / "unmounted" / "data"


@pytest.fixture
def filled(host: Host, bucket: MemoryStore) -> MemoryStore:
    host.checkpoint("ckpt-1", {"model": noise(2 * MIB), "inner/small": b"small"})
    host.push(bucket)
    return bucket


def places(directory: Path) -> list[str]:
    """All there is, but for our own database."""
    return sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if not path.name.startswith("state.sqlite")
    )


def require_no_place(host: Host, store: MemoryStore, to: Path | None, said: str) -> SourceError:
    with pytest.raises(SourceError, match=said) as raised:
        host.pull(store, wanted(to=to))
    assert not isinstance(raised.value, Vanished), "trying again would not help"
    assert raised.value.exit_code == 1
    assert raised.value.hint is not None
    return raised.value


def test_a_pull_never_makes_the_parent_of_its_target(filled: MemoryStore, other: Host) -> None:
    target = other.home / "unmounted" / "target"

    error = require_no_place(other, filled, target, "its parent directory is not there")

    assert error.hint == f"mount its disk, or create {target.parent}"
    assert places(other.home) == []


def test_a_pull_never_makes_the_parent_of_its_storage(filled: MemoryStore, disk: Path) -> None:
    host = Unmounted(home=disk / "host-c", node="host-c")

    error = require_no_place(host, filled, None, "its parent directory is not there")

    assert error.hint == f"mount its disk, or create {host.root.parent}"
    assert places(host.home) == []


def test_a_target_where_nothing_can_be_made_is_not_a_passing_failure(
    filled: MemoryStore, other: Host
) -> None:
    require_no_place(other, filled, Path("/proc/target"), "/proc takes no new files")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_pull_without_room_leaves_no_directory_behind(
    filled: MemoryStore, other: Host, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    facts = os.statvfs(other.home.parent)
    nearly_full = os.statvfs_result((*facts[:4], 3, *facts[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: nearly_full)

    with pytest.raises(LocalDiskFull):
        other.pull(filled, wanted(to=other.home / "target" if elsewhere else None))

    assert places(other.home) == []


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_limit_of_file_sizes_is_said_and_the_next_pull_without_it_restores(
    filled: MemoryStore, host: Host, other: Host, elsewhere: bool
) -> None:
    target = other.home / "target" if elsewhere else None

    with files_limited_to(1 * MIB):
        error = require_no_place(other, filled, target, "no file may be that large")
    assert error.hint is not None
    assert "ulimit -f" in error.hint
    assert "ckpt-1/model" in str(error)
    other.restore(filled, wanted(to=target))

    assert contents(target or other.root) == contents(host.root)


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_a_pull_makes_can_be_written_by_its_owner_alone(
    filled: MemoryStore, other: Host, elsewhere: bool, umask: int
) -> None:
    target = other.home / "target" if elsewhere else None
    before = os.umask(umask)
    try:
        other.restore(filled, wanted(to=target))
    finally:
        os.umask(before)

    root = target or other.root
    made = [root, root / "ckpt-1", root / "ckpt-1" / "inner"]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o755 & ~umask}
