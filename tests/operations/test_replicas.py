"""Replicas, where a head may arrive before what it names; and pages that are read or gone."""

from dataclasses import replace

import pytest

from ckptsync.errors import (
    IntegrityError,
)
from ckptsync.repository import catalog, keys
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import FaultyStore
from tests.operations.actors import edit_head
from tests.pipelines import Host, contents, copy_of, snapshot, wanted


def test_a_replica_whose_newest_is_incomplete_gives_the_newest_complete_one(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    for number in (1, 2):
        host.push_new(f"ckpt-{number}", bucket)
    before = snapshot(bucket)
    host.push_new("ckpt-3", bucket)
    arrived_last = snapshot(bucket).keys() - before.keys()
    assert len(arrived_last) >= 3

    for key in sorted(arrived_last):
        replica = copy_of(bucket)
        replica.delete([key])

        asked = FaultyStore(replica)
        restored = other.restore(MemoryStore(), wanted(force=True), read_store=asked)

        assert restored.entry.engine_id == "ckpt-2", key
        assert contents(other.root / "ckpt-2") == contents(host.root / "ckpt-2")
        assert not (other.root / "ckpt-3").exists()
        assert {call.method for call in asked.calls} <= {"get", "read_into"}, "it is only read"


def test_a_replica_with_nothing_complete_is_an_error(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    bucket.delete([info.key for info in bucket.walk("packs/")])

    with pytest.raises(IntegrityError):
        other.pull(MemoryStore(), read_store=bucket)

    assert not list(other.root.glob("*"))


def test_the_bucket_itself_never_falls_back_to_an_older_checkpoint(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    """There, what is missing is damage, and the operator must choose."""
    for number in (1, 2):
        host.push_new(f"ckpt-{number}", bucket)
    manifests = sorted(info.key for info in bucket.walk(keys.MANIFESTS))
    bucket.delete(manifests[1:])

    with pytest.raises(IntegrityError) as caught:
        other.pull(bucket)

    assert caught.value.exit_code == 12, "not 10, which says that there is none"
    assert not list(other.root.glob("*"))


def test_pulling_the_latest_reads_no_catalog_page(
    host: Host, other: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 4)
    monkeypatch.setattr(catalog, "SPILL", 2)
    for number in range(1, 8):
        host.push_new(f"ckpt-{number}", bucket)
    assert len(edit_head(bucket).pages) == 2

    another = replace(other, home=other.home / "another")
    for each, store, read_store in (
        (other, FaultyStore(bucket), None),
        (another, MemoryStore(), FaultyStore(bucket)),
    ):
        each.restore(store, wanted(force=True), read_store=read_store)
        asked = read_store or store
        assert isinstance(asked, FaultyStore)
        assert not [call for call in asked.calls if call.key.startswith("catalog/")]


def test_an_older_checkpoint_is_found_in_its_catalog_page(
    host: Host, other: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 4)
    monkeypatch.setattr(catalog, "SPILL", 2)
    for number in range(1, 8):
        host.push_new(f"ckpt-{number}", bucket)

    assert other.restore(bucket, wanted("ckpt-1")).entry.engine_id == "ckpt-1"


def test_a_catalog_page_that_is_gone_is_damage_and_not_absence(
    host: Host, other: Host, bucket: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 4)
    monkeypatch.setattr(catalog, "SPILL", 2)
    for number in range(1, 6):
        host.push_new(f"ckpt-{number}", bucket)
    bucket.delete([info.key for info in bucket.walk("catalog/")])

    with pytest.raises(IntegrityError) as caught:
        other.pull(bucket, wanted("ckpt-1"))

    assert caught.value.exit_code == 12
