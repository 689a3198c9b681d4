"""Pull --to: a directory that appears whole, in its own place, or not at all."""

import os
from pathlib import Path

import pytest

from ckptsync.errors import Busy, Refused, SourceError
from ckptsync.operations.target import Target
from ckptsync.state.lock import PipelineLock
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.local import LocalStore
from tests.pipelines import Host, a_small_checkpoint, contents, wanted


def everything_under(top: Path) -> list[str]:
    """Names of all but our own database and its home, which any pull makes."""
    found = {path.relative_to(top).as_posix() for path in top.rglob("*")}
    return sorted(path for path in found if path != "host-b" and "sqlite" not in path)


def test_a_restore_elsewhere_leaves_the_storage_alone(
    two_pushed: ObjectStore, host: Host, other: Host
) -> None:
    other.checkpoint("ckpt-7", {"a": b"a"})
    before = contents(other.root)
    target = other.home / "restored"

    report = other.restore(two_pushed, wanted(to=target))

    assert report.target == target
    assert contents(target / "ckpt-2") == contents(host.root / "ckpt-2")
    assert contents(other.root) == before
    assert sorted(path.name for path in other.home.iterdir() if "state" not in path.name) == [
        "data",
        "restored",
        "restored.ckptsync.json",
        "restored.manifest.json.zst",
    ]


def test_a_restore_elsewhere_is_no_going_back(two_pushed: ObjectStore, host: Host) -> None:
    host.restore(two_pushed, wanted("ckpt-1", to=host.home / "restored"))
    host.checkpoint("ckpt-3", a_small_checkpoint(3))

    assert host.push(two_pushed).entry.timeline == 1


@pytest.mark.parametrize("obstacle", ["a file", "a full directory", "a link"])
def test_a_restore_elsewhere_replaces_nothing(
    two_pushed: ObjectStore, other: Host, disk: Path, obstacle: str
) -> None:
    target = disk / "target"
    if obstacle == "a file":
        target.write_bytes(b"mine")
    elif obstacle == "a full directory":
        (target / "mine").mkdir(parents=True)
    else:
        target.symlink_to("/nowhere")

    with pytest.raises(Refused):
        other.pull(two_pushed, wanted(to=target))

    assert sorted(path.name for path in disk.glob("*target*")) == ["target"]
    assert os.path.lexists(target)


def test_a_restore_into_an_empty_directory_is_allowed(
    two_pushed: ObjectStore, host: Host, other: Host, disk: Path
) -> None:
    (disk / "target").mkdir()

    other.pull(two_pushed, wanted(to=disk / "target"))

    assert contents(disk / "target" / "ckpt-2") == contents(host.root / "ckpt-2")


def test_another_pipelines_checkpoint_may_be_restored_elsewhere(
    two_pushed: ObjectStore, host: Host, disk: Path
) -> None:
    stranger = Host(home=disk / "stranger", pipeline="payments")

    stranger.pull(two_pushed, wanted(to=disk / "target"))

    assert contents(disk / "target" / "ckpt-2") == contents(host.root / "ckpt-2")


# Where nothing can be put


@pytest.mark.parametrize("within", ["the storage", "its work directory", "a bucket", "a seed"])
@pytest.mark.parametrize("way", ["straight", "through a link"])
def test_nothing_is_restored_where_only_engine_and_ckptsync_write(
    host: Host, directory_bucket: LocalStore, disk: Path, within: str, way: str
) -> None:
    host.push_new("ckpt-1", directory_bucket)
    host.restore(directory_bucket)
    (disk / "seed").mkdir()
    places = {
        "the storage": host.root,
        "its work directory": host.work,
        "a bucket": disk / "bucket",
        "a seed": disk / "seed",
    }
    place = places[within]
    if way == "through a link":
        place = disk / "link"
        place.symlink_to(places[within])
    before = everything_under(disk)

    with pytest.raises(Refused, match="lies within") as caught:
        host.pull(
            directory_bucket, wanted(to=place / "target"), read_store=LocalStore(disk / "seed")
        )

    assert caught.value.exit_code == 13
    assert everything_under(disk) == before


def test_nothing_is_restored_onto_a_mount_point(
    two_pushed: ObjectStore, other: Host, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = disk / "target"
    target.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == target)
    before = everything_under(disk)

    with pytest.raises(Refused, match="mount point"):
        other.pull(two_pushed, wanted(to=target))

    assert everything_under(disk) == before


@pytest.mark.parametrize("companion", ["target.manifest.json.zst", "target.ckptsync.json"])
def test_what_belongs_to_an_earlier_restore_is_not_replaced(
    two_pushed: ObjectStore, other: Host, disk: Path, companion: str
) -> None:
    (disk / companion).write_bytes(b"of an earlier one")
    before = everything_under(disk)

    with pytest.raises(Refused, match="companion"):
        other.pull(two_pushed, wanted(to=disk / "target"))

    assert everything_under(disk) == before
    assert (disk / companion).read_bytes() == b"of an earlier one"


# What others do there


def home_of(target: Path) -> Path:
    """Where a directory is put together before it appears."""
    return target.with_name(f".ckptsync-{target.name}")


def test_two_do_not_restore_into_one_directory_at_once(
    two_pushed: ObjectStore, host: Host, other: Host, disk: Path
) -> None:
    target = disk / "target"
    lock = home_of(target) / "lock"
    with PipelineLock(lock):
        with pytest.raises(Busy) as caught:
            other.pull(two_pushed, wanted(to=target))
        assert lock.exists(), "its holder goes on"

    assert caught.value.exit_code == 5
    other.restore(two_pushed, wanted(to=target))
    assert contents(target / "ckpt-2") == contents(host.root / "ckpt-2")


def test_a_directory_that_appears_while_we_wait_for_our_turn_is_not_replaced(
    two_pushed: ObjectStore, other: Host, disk: Path
) -> None:
    """Neither are its companions, which may be those of another checkpoint."""
    ours = Target.elsewhere(disk / "target", outside=())
    other.restore(two_pushed, wanted(to=disk / "target"))
    before = everything_under(disk)

    with pytest.raises(Refused, match="meanwhile"), ours.held():
        raise AssertionError("two had it at once")

    assert everything_under(disk) == before


@pytest.mark.parametrize("home", ["a link", "open to all", "a file"])
def test_a_place_that_others_could_exchange_files_in_is_refused(
    two_pushed: ObjectStore, other: Host, disk: Path, home: str
) -> None:
    target, mine = disk / "target", disk / "mine"
    (mine / "work" / "files").mkdir(parents=True)
    (mine / "work" / "files" / "precious").write_bytes(b"precious")
    if home == "a link":
        home_of(target).symlink_to(mine)
    elif home == "a file":
        home_of(target).write_bytes(b"")
    else:
        home_of(target).mkdir()
        home_of(target).chmod(0o777)
    before = everything_under(disk)

    with pytest.raises(SourceError):
        other.pull(two_pushed, wanted(to=target))

    assert everything_under(disk) == before


@pytest.mark.parametrize("planted", ["", "files", "assembling"])
@pytest.mark.parametrize("place", ["the storage", "elsewhere"])
def test_a_link_in_the_work_directory_leads_nobody_to_delete_what_lies_behind_it(
    two_pushed: ObjectStore, other: Host, disk: Path, planted: str, place: str
) -> None:
    target, mine = disk / "target", disk / "mine"
    (mine / "files" / "00").mkdir(parents=True)
    for path in ("precious", "files/00/precious", "files/precious"):
        (mine / path).write_bytes(b"precious")
    other.home.mkdir(exist_ok=True)
    work = other.work if place == "the storage" else home_of(target) / "work"
    link = work / planted
    for directory in reversed(link.parents):
        directory.mkdir(mode=0o700, exist_ok=True)
    link.symlink_to(mine)
    before = contents(mine)

    with pytest.raises(SourceError):
        other.pull(two_pushed, wanted(to=target if place == "elsewhere" else None))

    assert contents(mine) == before
    assert not target.exists()
    assert not list(other.root.glob("*"))
