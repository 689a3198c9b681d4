"""Files that wait in the work directory: for days, for several checkpoints, and through crashes."""

import errno
import os
import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ckptsync.errors import Cancelled, LocalDiskFull
from ckptsync.model import Engine, File
from ckptsync.sources import disk
from ckptsync.sources.digests import Digests
from ckptsync.sources.staged_files import StagedFiles
from ckptsync.sources.staging import Staging
from tests.sources.crashing import killed_at
from tests.sources.samples import digest_of, make_digests

MTIME = 1_700_000_000_123_456_789
ENGINE = Engine(layout="test", id="c", step=1)


def file_of(path: str, data: bytes, *, mode: int = 0o640, mtime_ns: int = MTIME) -> File:
    digest = digest_of(data).digest
    return File(path=path, size=len(data), mode=mode, mtime_ns=mtime_ns, digest=digest)


SHARED = os.urandom(200_000)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def digests(tmp_path: Path) -> Digests:
    return make_digests(tmp_path)


@pytest.fixture
def staged(work: Path, root: Path, digests: Digests) -> StagedFiles:
    return StagedFiles(work, root, digests)


def checkpoint(staged: StagedFiles, *files: File) -> Staging:
    return Staging(staged, engine=ENGINE, files=lambda: iter(files))


def write(staging: Staging, **data: bytes) -> None:
    for file in staging.files():
        if not staging.has_staged(file):
            with staging.create(file) as part:
                part.write_at(0, memoryview(data[file.path]))
                part.commit()


def names(work: Path) -> set[str]:
    return {path.name for path in (work / "files").rglob("*") if path.is_file()}


def dress(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_mode & 0o7777, facts.st_mtime_ns


def test_checkpoints_share_their_files(staged: StagedFiles, root: Path, work: Path) -> None:
    shared, one, two = file_of("s", SHARED), file_of("1", b"one"), file_of("2", b"two")
    write(checkpoint(staged, shared, one), s=SHARED, **{"1": b"one"})

    second = checkpoint(staged, shared, two)
    write(second, **{"2": b"two"})

    assert names(work) == {each.digest.hex() for each in (shared, one, two)}
    second.place(shared, root / "s")
    assert (root / "s").read_bytes() == SHARED


def test_what_no_checkpoint_needs_any_more_is_deleted(staged: StagedFiles, work: Path) -> None:
    shared, one, two = file_of("s", SHARED), file_of("1", b"one"), file_of("2", b"two")
    first, second = checkpoint(staged, shared, one), checkpoint(staged, shared, two)
    write(first, s=SHARED, **{"1": b"one"})
    write(second, **{"2": b"two"})

    staged.keep_only({shared.digest, two.digest})

    assert names(work) == {shared.digest.hex(), two.digest.hex()}
    assert not first.has_staged(one)
    assert all(map(second.has_staged, second.files()))


def test_nothing_is_staged_before_it_was_recovered(
    staged: StagedFiles, work: Path, root: Path, digests: Digests
) -> None:
    file = file_of("s", SHARED)
    write(checkpoint(staged, file), s=SHARED)

    again = StagedFiles(work, root, digests)
    assert file.digest not in again
    again.recover()
    assert file.digest in again


def test_recovering_tells_what_it_reads_and_can_be_stopped(
    staged: StagedFiles, work: Path, root: Path, digests: Digests
) -> None:
    file = file_of("s", SHARED)
    write(checkpoint(staged, file), s=SHARED)
    again, read = StagedFiles(work, root, digests), list[int]()

    def stop(moved: int) -> None:
        read.append(moved)
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        again.recover(progress=stop)

    assert 0 < sum(read) <= len(SHARED)
    assert file.digest not in again
    again.recover()
    assert file.digest in again


# Settling: what is staged only waits to be renamed


def test_after_settling_a_file_is_placed_by_nothing_but_a_rename(
    staged: StagedFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [file_of(f"{number}", SHARED, mtime_ns=MTIME + number) for number in range(3)]
    files += [file_of("other", b"other", mode=0o600)]
    staging = checkpoint(staged, *files)
    write(staging, **{"0": SHARED, "other": b"other"})
    staging.settle()

    def unexpected(*_args: Any) -> Any:
        raise AssertionError

    for name in ("fsync", "fchmod", "utime", "copy_file_range", "unlink"):
        monkeypatch.setattr(os, name, unexpected)
    monkeypatch.setattr(disk, "sync_filesystem", unexpected)
    for file in files:
        staging.place(file, root / file.path)

    assert {file.path: dress(root / file.path) for file in files} == {
        file.path: (file.mode, file.mtime_ns) for file in files
    }
    assert [(root / f"{number}").read_bytes() for number in range(3)] == [SHARED] * 3
    assert len({(root / file.path).stat().st_ino for file in files}) == 4


def test_a_shared_file_gets_the_mode_and_time_of_the_checkpoint_that_is_settled_last(
    staged: StagedFiles, root: Path
) -> None:
    older, newer = file_of("s", SHARED), file_of("s", SHARED, mode=0o600, mtime_ns=MTIME + 1)
    for file in (older, newer):
        write(checkpoint(staged, file), s=SHARED)
        checkpoint(staged, file).settle()

    checkpoint(staged, older).place(older, root / "s")

    assert dress(root / "s") == (0o640, MTIME), "whichever is published"


def test_copies_that_a_crash_left_are_verified_like_any_file(
    staged: StagedFiles, work: Path, root: Path, digests: Digests
) -> None:
    files = [file_of(f"{number}", SHARED) for number in range(4)]
    staging = checkpoint(staged, *files)
    write(staging, **{"0": SHARED})
    staging.settle()
    name = files[0].digest.hex()
    assert names(work) == {name, f"{name}.1", f"{name}.2", f"{name}.3"}
    (work / "files" / name[:2] / name).unlink()
    (work / "files" / name[:2] / f"{name}.2").write_bytes(b"rotten")

    again = StagedFiles(work, root, digests)
    again.recover()

    assert names(work) == {name, f"{name}.3"}
    staging = checkpoint(again, *files)
    for file in files:
        staging.place(file, root / file.path)
    assert {(root / file.path).read_bytes() for file in files} == {SHARED}


def test_a_kill_at_any_step_of_settling_leaves_what_can_be_settled_again(
    work: Path, root: Path, digests: Digests
) -> None:
    files = [file_of(f"{number}", SHARED, mtime_ns=MTIME + number) for number in range(3)]
    for number in count():
        staged = StagedFiles(work, root, digests)
        write(checkpoint(staged, *files), **{"0": SHARED})

        killed = killed_at(number, checkpoint(staged, *files).settle)

        again = StagedFiles(work, root, digests)
        again.recover()
        staging = checkpoint(again, *files)
        for file in files:
            staging.place(file, root / file.path)
            assert (root / file.path).read_bytes() == SHARED
            assert dress(root / file.path) == (file.mode, file.mtime_ns)
            (root / file.path).unlink()
        shutil.rmtree(work)
        if not killed:
            assert number >= 6
            return


# Adopting: what lies in the storage root is copied, so that it may go


def test_what_lies_right_in_the_root_is_copied_and_the_root_may_go(
    staged: StagedFiles, root: Path, tmp_path: Path
) -> None:
    one, other = file_of("one", SHARED), file_of("other", b"other")
    (root / "one").write_bytes(SHARED)
    (root / "other").write_bytes(b"rehto")
    staging = checkpoint(staged, one, other)

    staging.adopt()

    assert (staging.has_staged(one), staging.has_staged(other)) == (True, False)
    (root / "one").write_bytes(b"changed in place")
    staging.place(one, tmp_path / "placed")
    assert (tmp_path / "placed").read_bytes() == SHARED


def test_a_file_that_changes_while_it_is_copied_is_not_adopted(
    staged: StagedFiles, root: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of("s", SHARED)
    (root / "s").write_bytes(SHARED)
    copy_file = disk.copy_file

    def changing(source: Path, target: Path, **how: Any) -> None:
        with source.open("r+b") as opened:
            opened.write(b"changed")
        copy_file(source, target, **how)

    monkeypatch.setattr(disk, "copy_file", changing)
    staging = checkpoint(staged, file)

    staging.adopt()

    assert not staging.has_staged(file)
    assert names(work) == set()


def test_a_file_that_vanishes_while_it_is_read_is_not_there(
    staged: StagedFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of("s", SHARED)
    (root / "s").write_bytes(SHARED)
    of_path = Digests.of_path

    def vanishing(self: Digests, path: Path, **how: Any) -> Any:
        path.unlink()
        return of_path(self, path, **how)

    monkeypatch.setattr(Digests, "of_path", vanishing)

    assert not checkpoint(staged, file).has(file)


def test_a_copy_without_room_leaves_nothing_once_it_is_tidied_up(
    staged: StagedFiles, root: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_how: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = file_of("s", SHARED)
    (root / "s").write_bytes(SHARED)
    monkeypatch.setattr(disk, "copy", full)

    with pytest.raises(LocalDiskFull):
        checkpoint(staged, file).adopt()
    staged.keep_only(frozenset())

    assert names(work) == set()


def test_copying_tells_what_moved_and_can_be_stopped(
    staged: StagedFiles, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_args: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(disk, "ioctl", unsupported)
    file = file_of("s", SHARED)
    (root / "s").write_bytes(SHARED)
    moved: list[int] = []

    def stop(count: int) -> None:
        moved.append(count)
        raise Cancelled("stopped")

    assert checkpoint(staged, file).has(file), "it is read by now, so only the copy is left"
    with pytest.raises(Cancelled):
        checkpoint(staged, file).adopt(progress=stop)

    assert moved == [len(SHARED)]
    assert file.digest not in staged


def test_the_bytes_of_copies_are_known_before_they_are_made(staged: StagedFiles) -> None:
    files = [file_of(f"{number}", SHARED) for number in range(3)] + [file_of("x", b"x")]

    assert checkpoint(staged, *files).copied_bytes == 2 * len(SHARED)
