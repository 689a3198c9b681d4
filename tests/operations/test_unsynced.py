"""Whether there is something to push, and what counts as being in the bucket already."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import LineageRegression
from ckptsync.operations.unsynced import unsynced
from ckptsync.repository import keys
from ckptsync.sources import pin
from ckptsync.sources.base import PinnedFile
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import FaultyStore
from tests.operations.looks import require_entries
from tests.pipelines import Host, a_small_checkpoint, contents, noise


def due(host: Host, store: ObjectStore) -> bool:
    """Whether a daemon would push now."""
    with host.running(store) as pipeline:
        return unsynced(pipeline) is not None


def slip_in(host: Host, name: str) -> None:
    """Replace a file of a checkpoint by one of the same size that bears the same time."""
    target = host.root / name / "one"
    facts, aside = target.stat(), host.home / "aside"
    aside.write_bytes(noise(1, "slipped in"))
    os.utime(aside, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    aside.replace(target)


def touch(host: Host, name: str) -> None:
    """Change the time of a directory, as a file does that came and went."""
    (host.root / name / "scratch").touch()
    (host.root / name / "scratch").unlink()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files of a checkpoint that were read; none is chosen by chance."""
    paths: list[str] = []
    read_into = pin.OpenFiles.read_into

    def noted(self: pin.OpenFiles, file: PinnedFile, start: int, into: memoryview) -> None:
        paths.append(file.path)
        read_into(self, file, start, into)

    monkeypatch.setattr(pin.OpenFiles, "read_into", noted)
    monkeypatch.setattr("ckptsync.sources.digests.RECHECK_ONE_IN", 1 << 60)
    return paths


def test_what_was_pushed_or_restored_last_is_not_due(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-3", bucket)
    other.restore(bucket)

    assert not due(host, bucket)
    assert not due(other, bucket)
    host.checkpoint("ckpt-4", a_small_checkpoint(4))
    assert due(host, bucket)


def test_a_name_that_is_used_again_after_going_back_is_due(host: Host, bucket: MemoryStore) -> None:
    for name in ("ckpt-3", "ckpt-5"):
        host.push_new(name, bucket)
    host.go_back_to("ckpt-3", bucket)
    host.checkpoint("ckpt-5", a_small_checkpoint("another life"))

    assert due(host, bucket)

    assert not host.push(bucket).already_synced
    assert not due(host, bucket)


def written_anew(host: Host, name: str) -> None:
    shutil.rmtree(host.root / name)
    host.checkpoint(name, a_small_checkpoint("written anew"))


@pytest.mark.parametrize("rewrite", [written_anew, slip_in])
def test_a_name_that_was_written_anew_under_the_old_times_is_due_and_pushed(
    host: Host, bucket: MemoryStore, disk: Path, rewrite: Callable[[Host, str], None]
) -> None:
    first = host.push_new("epoch-5", bucket)

    rewrite(host, "epoch-5")

    assert due(host, bucket)
    report = host.push(bucket)
    assert not report.already_synced
    assert require_entries(bucket) == (first.id, report.entry.id)
    fresh = replace(host, home=disk / "fresh")
    fresh.restore(bucket)
    assert contents(fresh.root / "epoch-5") == contents(host.root / "epoch-5")
    assert not due(host, bucket)
    assert host.push(bucket).entry == report.entry


def test_what_was_restored_and_changed_then_is_pushed(host: Host, bucket: MemoryStore) -> None:
    host.push_new("epoch-5", bucket)
    host.go_back_to("epoch-5", bucket)
    slip_in(host, "epoch-5")

    assert not host.push(bucket).already_synced


def test_one_that_was_only_touched_is_compared_once_and_not_read(
    host: Host, bucket: MemoryStore, read: list[str]
) -> None:
    entry = host.push_new("epoch-5", bucket)
    read.clear()
    touch(host, "epoch-5")
    assert due(host, bucket)
    store = FaultyStore(bucket)

    report = host.push(store)

    assert (report.already_synced, report.entry) == (True, entry)
    assert read == []
    assert len([call for call in store.calls if call.method != "now"]) <= 5
    assert not due(host, bucket), "its new time is known now"


def test_an_older_one_that_is_asked_for_by_name_is_compared(
    host: Host, bucket: MemoryStore, read: list[str]
) -> None:
    first = host.push_new("ckpt-1", bucket)
    host.push_new("ckpt-2", bucket)
    read.clear()

    report = host.push(bucket, engine_id="ckpt-1")
    assert (report.already_synced, report.entry) == (True, first)
    assert read == []
    assert not due(host, bucket)

    slip_in(host, "ckpt-1")
    with pytest.raises(LineageRegression):
        host.push(bucket, engine_id="ckpt-1")


def test_what_cannot_be_compared_is_pushed(host: Host, bucket: MemoryStore) -> None:
    entry = host.push_new("epoch-5", bucket)
    touch(host, "epoch-5")
    with host.running(bucket) as pipeline:
        pipeline.state.manifests.clear()
    bucket.delete([keys.manifest(entry.id)])

    assert not host.push(bucket).already_synced


def test_a_host_without_its_memory_reads_what_it_finds_under_a_known_name(
    host: Host, bucket: MemoryStore, read: list[str]
) -> None:
    entry = host.push_new("epoch-5", bucket)
    with host.running(bucket) as pipeline:
        pipeline.state.identity.vacated()
        pipeline.state.stat_cache.clear()
        pipeline.state.manifests.clear()
    read.clear()
    assert due(host, bucket)

    report = host.push(bucket)

    assert (report.already_synced, report.entry) == (True, entry)
    assert set(read) == {f"epoch-5/{path}" for path in a_small_checkpoint() if path != "empty"}
    assert not due(host, bucket)
