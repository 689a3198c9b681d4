"""A restored directory is compared with its manifest offline; every difference is named."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import Cancelled, IntegrityError, SourceError
from ckptsync.hashing import Hash
from ckptsync.model import ignore
from ckptsync.operations.target import descriptor_beside, manifest_beside
from ckptsync.operations.verify_directory import DirectoryReport, verify_directory
from ckptsync.repository import keys
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.feldera_engine import Engine
from tests.pipelines import CHUNK, Host, a_small_checkpoint, noise, wanted

FILES = a_small_checkpoint() | {"big": noise(2 * CHUNK + 1)}


@pytest.fixture
def restored(host: Host, bucket: MemoryStore, disk: Path) -> Path:
    host.checkpoint("ckpt-1", FILES, directories=("void",))
    host.push(bucket)
    host.restore(bucket, wanted(to=disk / "to"))
    return disk / "to"


@pytest.fixture
def restored_feldera(host: Host, bucket: MemoryStore, disk: Path) -> Path:
    feldera = replace(host, layout="feldera")
    with Engine(feldera.root) as engine:
        engine.checkpoint()
    feldera.push(bucket)
    feldera.restore(bucket, wanted(to=disk / "to"))
    return disk / "to"


def check(directory: Path, manifest: Path | None = None) -> DirectoryReport:
    return verify_directory(directory, manifest, progress=ignore)


def test_a_restored_directory_is_sound(restored: Path) -> None:
    moved: list[int] = []

    report = verify_directory(restored, None, progress=moved.append)

    assert report.sound
    assert report.problems == ()
    assert report.files == len(FILES)
    assert report.bytes == sum(moved) == sum(map(len, FILES.values()))


def test_a_repository_with_another_hash_needs_no_more(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    sha = replace(host, hash=Hash.SHA256)
    sha.push_new("ckpt-1", bucket)
    sha.restore(bucket, wanted(to=disk / "to"))

    assert check(disk / "to").sound
    (disk / "to/ckpt-1/one").write_bytes(b"?")
    assert not check(disk / "to").sound


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path, at: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def link(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def one_byte(path: Path) -> None:
    path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("path", "damage", "problems"),
    [
        ("one", Path.unlink, {"ckpt-1/one is missing"}),
        ("empty", Path.unlink, {"ckpt-1/empty is missing"}),
        ("empty", one_byte, {"ckpt-1/empty has 1 bytes, where 0 were pushed"}),
        ("below", truncate, {"ckpt-1/below has 4,094 bytes, where 4,095 were pushed"}),
        ("below", flip, {"ckpt-1/below holds other bytes than were pushed"}),
        ("chunk", flip, {"ckpt-1/chunk holds other bytes than were pushed"}),
        ("text", flip, {"ckpt-1/text holds other bytes than were pushed"}),
        (
            "big",
            lambda path: flip(path, CHUNK + 7),
            {
                "ckpt-1/big holds other bytes than were pushed, "
                "first between byte 4,194,304 and 8,388,608"
            },
        ),
        (
            "one",
            lambda path: path.chmod(0o755),
            {"ckpt-1/one has mode 0755, where 0644 was pushed"},
        ),
        (
            "one",
            lambda path: path.chmod(0o4644),
            {"ckpt-1/one has mode 4644, where 0644 was pushed"},
        ),
        ("new", one_byte, {"ckpt-1/new is not in the checkpoint"}),
        ("void/new", one_byte, {"ckpt-1/void/new is not in the checkpoint"}),
        ("void", Path.rmdir, {"ckpt-1/void/ is missing"}),
        ("vast", Path.mkdir, {"ckpt-1/vast/ is not in the checkpoint"}),
        ("../new", one_byte, {"new is not in the checkpoint"}),
        (
            "one",
            link,
            {"ckpt-1/one is not a regular file", "elsewhere is not in the checkpoint"},
        ),
        (
            "deep",
            shutil.rmtree,
            {"ckpt-1/deep/er/é is missing", "ckpt-1/deep/twin is missing"},
        ),
    ],
)
def test_every_difference_is_named(
    restored: Path, path: str, damage: Callable[[Path], None], problems: set[str]
) -> None:
    damage(restored / "ckpt-1" / path)

    report = check(restored)

    assert not report.sound
    assert set(report.problems) == problems


def test_a_name_that_is_no_text_is_shown_all_the_same(restored: Path) -> None:
    (restored / "ckpt-1" / "odd\udcff").touch()

    assert check(restored).problems == (r"ckpt-1/odd\xff is not in the checkpoint",)


def test_what_a_feldera_pull_derives_belongs_there(restored_feldera: Path) -> None:
    assert check(restored_feldera).sound


@pytest.mark.parametrize("name", ["checkpoints.feldera", "state.json"])
def test_what_a_feldera_pull_derives_is_checked(restored_feldera: Path, name: str) -> None:
    wrong = (f"{name} is not what follows from the checkpoint",)
    flip(restored_feldera / name)
    assert check(restored_feldera).problems == wrong

    (restored_feldera / name).unlink()
    assert check(restored_feldera).problems == wrong

    (restored_feldera / name).symlink_to("/etc/hostname")
    assert check(restored_feldera).problems == wrong


def test_a_copy_of_the_bucket_does_for_manifest_and_descriptor(
    host: Host, directory_bucket: LocalStore, disk: Path
) -> None:
    entry = host.push_new("ckpt-1", directory_bucket)
    shutil.copytree(host.root, disk / "copy", copy_function=shutil.copy2)

    assert check(disk / "copy", disk / "bucket" / keys.manifest(entry.id)).sound

    (disk / "kept").mkdir()
    shutil.copy(disk / "bucket" / keys.manifest(entry.id), disk / "kept" / "manifest")
    shutil.copy(disk / "bucket" / keys.DESCRIPTOR, disk / "kept")
    assert check(disk / "copy", disk / "kept" / "manifest").sound


def test_what_is_needed_to_verify_is_asked_for(restored: Path, disk: Path) -> None:
    with pytest.raises(SourceError, match="nowhere is not there"):
        check(restored, disk / "nowhere")
    manifest_beside(restored).unlink()
    with pytest.raises(SourceError, match=r"to\.manifest\.json\.zst is not there"):
        check(restored)
    descriptor_beside(restored).unlink()
    with pytest.raises(SourceError, match=r"to\.ckptsync\.json is not there"):
        check(restored)


def test_a_directory_that_is_not_there_is_said_to_be(restored: Path) -> None:
    shutil.rmtree(restored)
    descriptor_beside(restored).unlink()
    with pytest.raises(SourceError, match="to is not a directory"):
        check(restored)


def test_a_damaged_manifest_is_an_integrity_error(restored: Path) -> None:
    flip(manifest_beside(restored), 30)
    with pytest.raises(IntegrityError, match=r"manifest\.json\.zst"):
        check(restored)


def test_progress_may_end_the_run(restored: Path) -> None:
    def stop(_moved: int) -> None:
        raise Cancelled("stopped on request")

    with pytest.raises(Cancelled):
        verify_directory(restored, None, progress=stop)


def test_a_pull_in_place_is_said_to_leave_nothing_to_compare_with(
    bucket: MemoryStore, host: Host, other: Host
) -> None:
    host.push_new("ckpt-1", bucket)
    other.restore(bucket)

    with pytest.raises(SourceError) as raised:
        verify_directory(other.root, None, progress=ignore)

    assert "a pull in place does not" in str(raised.value.hint)
