import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckptsync.errors import LocalDiskFull, SourceError, Vanished
from ckptsync.model import Engine, File
from ckptsync.sources import disk
from ckptsync.sources.digests import Digests
from ckptsync.sources.staged_files import StagedFiles
from ckptsync.sources.staging import Staging
from tests.limits import files_limited_to
from tests.sources.samples import digest_of, make_digests

ENGINE = Engine(layout="test", id="c1", step=1)
MTIME = 1_700_000_000_123_456_789


def file_of(path: str, data: bytes, *, mode: int = 0o640) -> File:
    return File(path=path, size=len(data), mode=mode, mtime_ns=MTIME, digest=digest_of(data).digest)


BIG = os.urandom(3 << 20)
DATA = {"c1/one": b"one", "c1/twin": b"one", "c1/two": b"two", "c1/big": BIG, "c1/none": b""}
FILES = {path: file_of(path, data) for path, data in DATA.items()}


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


@pytest.fixture
def staging(staged: StagedFiles) -> Staging:
    return staging_in(staged)


def staging_in(staged: StagedFiles, *files: File) -> Staging:
    """Of those files, or of all."""
    return Staging(staged, engine=ENGINE, files=lambda: iter(files or FILES.values()))


def write(staging: Staging, path: str) -> None:
    with staging.create(FILES[path]) as staged:
        staged.write_at(0, memoryview(DATA[path]))
        staged.commit()


def parts(work: Path) -> list[str]:
    return sorted(path.name for path in work.rglob("*") if path.is_file())


def test_a_committed_file_is_there_and_takes_its_place(staging: Staging, tmp_path: Path) -> None:
    write(staging, "c1/two")
    assert staging.has(FILES["c1/two"])

    staging.place(FILES["c1/two"], tmp_path / "placed")

    facts = (tmp_path / "placed").stat()
    assert (tmp_path / "placed").read_bytes() == b"two"
    assert (facts.st_mode & 0o7777, facts.st_mtime_ns) == (0o640, MTIME)
    assert not staging.has(FILES["c1/two"])


def test_a_file_that_was_not_committed_leaves_nothing(staging: Staging, work: Path) -> None:
    with staging.create(FILES["c1/two"]) as staged:
        staged.write_at(0, memoryview(b"tw"))

    assert not staging.has(FILES["c1/two"])
    assert parts(work) == []


def test_pieces_may_come_from_many_threads_in_any_order(staging: Staging, tmp_path: Path) -> None:
    piece = 1 << 18
    with staging.create(FILES["c1/big"]) as staged:
        threads = [
            threading.Thread(target=staged.write_at, args=(at, memoryview(BIG)[at : at + piece]))
            for at in reversed(range(0, len(BIG), piece))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        staged.commit()

    staging.place(FILES["c1/big"], tmp_path / "placed")
    assert (tmp_path / "placed").read_bytes() == BIG


def test_one_staged_file_serves_every_file_of_its_digest(
    staging: Staging, tmp_path: Path, work: Path
) -> None:
    write(staging, "c1/one")
    assert staging.has(FILES["c1/twin"])

    staging.place(FILES["c1/one"], tmp_path / "one")
    staging.place(FILES["c1/twin"], tmp_path / "twin")

    assert (tmp_path / "one").read_bytes() == (tmp_path / "twin").read_bytes() == b"one"
    assert (tmp_path / "one").stat().st_ino != (tmp_path / "twin").stat().st_ino
    assert parts(work) == [], "the last one is moved, not copied"


def test_what_was_not_settled_is_synced_before_it_is_placed(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(disk, "sync_filesystem", synced.append)
    write(staging, "c1/two")
    write(staging, "c1/none")

    staging.place(FILES["c1/two"], tmp_path / "two")
    staging.place(FILES["c1/none"], tmp_path / "none")

    assert synced == [staging.work], "once, and a power cut leaves no hole"


def test_special_permissions_are_dropped(staged: StagedFiles, root: Path) -> None:
    file = file_of("c1/x", b"one", mode=0o6755)
    staging = staging_in(staged, file)
    with staging.create(file) as part:
        part.write_at(0, memoryview(b"one"))
        part.commit()

    staging.place(file, root / "x")

    assert (root / "x").stat().st_mode & 0o7777 == 0o755


def test_what_lies_right_in_the_root_need_not_be_staged(
    staging: Staging, root: Path, tmp_path: Path
) -> None:
    (root / "c1").mkdir()
    (root / "c1" / "two").write_bytes(b"two")
    (root / "c1" / "one").write_bytes(b"eno")
    assert staging.has(FILES["c1/two"])
    assert not staging.has(FILES["c1/one"])

    staging.place(FILES["c1/two"], tmp_path / "placed")

    assert (tmp_path / "placed").read_bytes() == b"two"
    assert (root / "c1" / "two").exists(), "copied, not moved"


def test_a_change_after_a_file_was_seen_in_place_is_noticed(staging: Staging, root: Path) -> None:
    (root / "c1").mkdir()
    (root / "c1" / "two").write_bytes(b"two")
    assert staging.has(FILES["c1/two"])
    os.utime(root / "c1" / "two", ns=(MTIME, MTIME))
    (root / "c1" / "two").write_bytes(b"owt")

    assert not staging.has(FILES["c1/two"])


def test_a_file_that_is_nowhere_cannot_be_placed(staging: Staging, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="c1/two is neither staged"):
        staging.place(FILES["c1/two"], tmp_path / "placed")


def test_the_next_run_uses_what_a_crash_left_and_verifies_it(
    staging: Staging, work: Path, root: Path, digests: Digests
) -> None:
    write(staging, "c1/one")
    write(staging, "c1/two")
    write(staging, "c1/big")
    damaged = next(path for path in work.rglob("*") if path.is_file() and path.stat().st_size > 9)
    with damaged.open("r+b") as file:
        file.write(b"damaged")
    staging.create(FILES["c1/none"])  # as a crash leaves it
    (work / "files" / "aa").mkdir(exist_ok=True)
    (work / "files" / "aa" / "of-another-checkpoint").write_bytes(b"other")

    recovered = StagedFiles(work, root, digests)
    recovered.recover()
    again = staging_in(recovered)

    assert [path for path in DATA if again.has(FILES[path])] == ["c1/one", "c1/twin", "c1/two"]
    assert len(parts(work)) == 2
    again.place(FILES["c1/two"], root / "two")
    assert (root / "two").read_bytes() == b"two"


def test_the_next_run_uses_what_a_crashed_publish_had_moved(
    staging: Staging, work: Path, root: Path, digests: Digests
) -> None:
    write(staging, "c1/two")
    (work / "assembling" / "c1").mkdir(parents=True)
    staging.place(FILES["c1/two"], work / "assembling" / "c1" / "two.part")

    recovered = StagedFiles(work, root, digests)
    recovered.recover()
    again = staging_in(recovered)

    assert not (work / "assembling").exists()
    again.place(FILES["c1/two"], root / "two")
    assert (root / "two").read_bytes() == b"two"


def test_without_block_sharing_and_copy_file_range_files_are_still_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_args: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "copy_file_range", unsupported)
    monkeypatch.setattr(disk, "ioctl", unsupported)
    (tmp_path / "whole").write_bytes(BIG)

    disk.copy_file(tmp_path / "whole", tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == BIG


def test_a_copy_that_ends_early_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").write_bytes(BIG)
    monkeypatch.setattr(os, "copy_file_range", lambda *_args: 0)

    with pytest.raises(OSError, match="the copy ended after 0 bytes"):
        disk.copy_file(tmp_path / "whole", tmp_path / "copy")


def test_nothing_is_written_through_a_planted_symlink(
    staging: Staging, work: Path, tmp_path: Path
) -> None:
    name = FILES["c1/two"].digest.hex()
    (work / "files" / name[:2]).mkdir()
    (work / "files" / name[:2] / f"{name}.part").symlink_to(tmp_path / "victim")

    with pytest.raises(SourceError):
        staging.create(FILES["c1/two"])

    assert not (tmp_path / "victim").exists()


def test_the_work_directory_is_private(staging: Staging, work: Path) -> None:
    write(staging, "c1/two")

    modes = {path.stat().st_mode & 0o777 for path in [work, *work.rglob("*")] if path.is_dir()}
    assert modes == {0o700}


def test_the_root_is_made_when_publishing_begins_and_not_before(
    work: Path, root: Path, digests: Digests
) -> None:
    root.rmdir()
    staging = staging_in(StagedFiles(work, root, digests))
    write(staging, "c1/two")
    assert not root.exists()

    staging.begin()

    assert list(root.iterdir()) == []


@pytest.mark.parametrize("missing", ["root", "work"])
def test_what_should_hold_root_or_work_is_never_made(
    tmp_path: Path, digests: Digests, missing: str
) -> None:
    places = {name: tmp_path / name for name in ("root", "work")}
    places[missing] = tmp_path / "unmounted" / missing

    with pytest.raises(SourceError, match="its parent directory is not there") as raised:
        StagedFiles(places["work"], places["root"], digests)

    assert not isinstance(raised.value, Vanished), "it will not come back by itself"
    assert raised.value.hint == f"mount its disk, or create {tmp_path / 'unmounted'}"
    assert not any((tmp_path / name).exists() for name in ("root", "work", "unmounted"))


def test_where_nothing_can_be_made_it_says_so(digests: Digests) -> None:
    with pytest.raises(SourceError, match="/proc takes no new files") as raised:
        StagedFiles(Path("/proc/work"), Path("/proc/root"), digests)

    assert not isinstance(raised.value, Vanished)
    assert raised.value.hint is not None


def test_discarding_leaves_only_the_quarantine(
    staged: StagedFiles, staging: Staging, work: Path
) -> None:
    write(staging, "c1/two")
    (work / "quarantine").mkdir()

    staged.discard()

    assert [path.name for path in work.iterdir()] == ["quarantine"]
    assert not staging.has(FILES["c1/two"])


def test_discarding_leaves_no_directory_that_was_made_for_it(
    work: Path, root: Path, digests: Digests
) -> None:
    StagedFiles(work, root, digests).discard()
    assert not work.exists()

    work.mkdir(mode=0o700)
    StagedFiles(work, root, digests).discard()
    assert list(work.iterdir()) == [], "another's directory stays"


def test_a_staged_file_is_read_wherever_it_is(staging: Staging, root: Path) -> None:
    write(staging, "c1/one")
    (root / "c1").mkdir()
    (root / "c1" / "two").write_bytes(b"two")
    (root / "c1" / "big").write_bytes(bytes(len(BIG)))

    assert staging.read(FILES["c1/twin"]) == b"one"
    assert staging.read(FILES["c1/two"]) == b"two"
    with pytest.raises(SourceError, match="neither staged"):
        staging.read(FILES["c1/big"])


def test_a_limit_of_file_sizes_is_told_from_a_full_disk(staging: Staging, work: Path) -> None:
    with files_limited_to(4096):
        with pytest.raises(SourceError, match=rf"{len(BIG):,} bytes of c1/big") as reserved:
            staging.create(FILES["c1/big"])
        with staging.create(FILES["c1/two"]) as staged, pytest.raises(SourceError) as written:
            staged.write_at(4096, memoryview(b"x"))

    for raised in (reserved, written):
        assert "no file may be that large" in str(raised.value)
        assert raised.value.hint is not None
        assert "ulimit -f" in raised.value.hint
    assert parts(work) == []


def test_another_filesystem_is_an_error_that_names_the_setting(
    root: Path, digests: Digests
) -> None:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere,
        pytest.raises(SourceError, match="on another filesystem") as raised,
    ):
        StagedFiles(Path(elsewhere), root, digests)

    assert raised.value.hint is not None
    assert "work_path" in raised.value.hint


def test_a_full_disk_says_what_was_needed(
    staging: Staging, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)

    with pytest.raises(LocalDiskFull, match=rf"c1/big \({len(BIG):,} bytes\)"):
        staging.create(FILES["c1/big"])

    assert parts(work) == []


def test_space_is_checked_before_it_is_used(tmp_path: Path) -> None:
    disk.require_space(tmp_path, 1)
    with pytest.raises(LocalDiskFull, match=f"filesystem of {tmp_path} has .* free"):
        disk.require_space(tmp_path, 1 << 60)


def test_a_file_is_replaced_whole_and_keeps_the_mode(tmp_path: Path) -> None:
    (tmp_path / "aside").write_bytes(b"left by a crash")
    (tmp_path / "target").write_bytes(b"old")

    disk.replace_file(tmp_path / "target", b"new", aside=tmp_path / "aside", mode=0o600)

    assert (tmp_path / "target").read_bytes() == b"new"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "aside").exists()


def test_directories_are_exchanged_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()

    assert disk.exchange(tmp_path / "one", tmp_path / "other")

    assert (tmp_path / "one" / "other").exists()
    with pytest.raises(FileNotFoundError):
        disk.exchange(tmp_path / "one", tmp_path / "absent")


def test_the_list_of_files_may_be_read_many_times(staged: StagedFiles) -> None:
    calls = 0

    def files() -> Iterator[File]:
        nonlocal calls
        calls += 1
        return iter(FILES.values())

    staging = Staging(staged, engine=ENGINE, files=files)
    assert list(staging.files()) == list(staging.files()) == list(FILES.values())
    assert calls == 3
