"""What a push does not store twice: what the parent holds, and what a failed push has stored."""

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import (
    Busy,
    CannotTell,
    Unavailable,
)
from ckptsync.hashing import Hash
from ckptsync.repository import catalog, keys
from ckptsync.repository.files import Packed
from ckptsync.repository.objects import Codec
from ckptsync.repository.register import SWAPS
from ckptsync.repository.repository import read_head
from ckptsync.state.journal import UploadJournal
from ckptsync.stores.base import Body, Expect, ObjectStore, Version
from ckptsync.stores.memory import MemoryStore
from tests.fakes.feldera_engine import Engine
from tests.fakes.stores import Call, Crash, FaultyStore
from tests.operations.actors import Odd, edit_head
from tests.operations.invariants import require_sound
from tests.operations.looks import data_puts, manifest_of, require_restores
from tests.operations.races import fail_at_the_manifest
from tests.pipelines import (
    CHUNK,
    KIB,
    MIB,
    PACK_BELOW,
    Host,
    a_small_checkpoint,
    contents,
    noise,
    snapshot,
)


def test_unchanged_content_is_not_stored_again(host: Host, bucket: MemoryStore) -> None:
    host.checkpoint("ckpt-1", a_small_checkpoint())
    first = host.push(bucket)
    shutil.copytree(host.root / "ckpt-1", host.root / "ckpt-2")

    second = host.push(bucket)

    assert first.entry.new_bytes > 0
    assert second.entry.new_bytes == 0
    assert manifest_of(bucket, 0).objects == manifest_of(bucket, 1).objects


def test_a_renamed_file_is_not_stored_again(host: Host, bucket: MemoryStore, disk: Path) -> None:
    files = a_small_checkpoint()
    host.checkpoint("ckpt-1", files)
    host.push(bucket)
    host.checkpoint("ckpt-2", {f"renamed/{name}": data for name, data in files.items()})

    assert host.push(bucket).entry.new_bytes == 0
    require_restores(bucket, host, "ckpt-2", disk)


def test_only_the_chunks_that_changed_are_stored(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    data = noise(3 * CHUNK)
    host.checkpoint("ckpt-1", {"big": data})
    host.push(bucket)
    host.checkpoint("ckpt-2", {"big": data[:-1] + b"x", "other": noise(CHUNK, "other")})

    assert host.push(bucket).entry.new_bytes == 2 * CHUNK
    require_restores(bucket, host, "ckpt-2", disk)


@pytest.mark.parametrize("size", [1, 100, 511, 513])
def test_tiny_files_that_did_not_change_are_not_stored_again(
    host: Host, bucket: MemoryStore, size: int
) -> None:
    """Their tar headers outweigh them, which does not make their pack a sparse one."""
    files = {f"{number}": noise(size, number) for number in range(50)}
    host.checkpoint("ckpt-1", files)
    host.push(bucket)
    host.checkpoint("ckpt-2", files)

    assert host.push(bucket).entry.new_bytes == 0


@pytest.mark.parametrize(("wanted_still", "rewritten"), [(60, False), (40, True)])
def test_a_pack_of_which_little_is_still_wanted_is_written_anew(
    host: Host, bucket: MemoryStore, disk: Path, wanted_still: int, rewritten: bool
) -> None:
    files = {f"{number:03}": noise(3 * KIB, number) for number in range(200)}
    host.checkpoint("ckpt-1", files)
    host.push(bucket)
    host.checkpoint("ckpt-2", dict(list(files.items())[:wanted_still]))

    entry = host.push(bucket).entry

    assert (entry.new_bytes > 0) is rewritten
    old, new = (set(manifest_of(bucket, number).objects) for number in (0, 1))
    assert (old & new == set()) is rewritten
    require_restores(bucket, host, "ckpt-2", disk)


def test_shared_files_and_those_that_die_with_the_checkpoint_never_share_a_pack(
    host: Host, bucket: MemoryStore
) -> None:
    feldera = replace(host, layout="feldera")
    with Engine(feldera.root, seed=7) as engine:
        engine.checkpoint()
        engine.checkpoint()
    feldera = replace(feldera, pack_below=64 * KIB)  # batches are packed too

    feldera.push(bucket)

    manifest = manifest_of(bucket)
    homes: dict[bool, set[int]] = {True: set(), False: set()}
    for entry in manifest.files:
        if isinstance(entry.location, Packed):
            homes["/" in entry.path].add(entry.location.object)
    assert homes[True]
    assert homes[False]
    assert not homes[True] & homes[False]


def test_small_files_beyond_a_packs_size_fill_several(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    big = replace(host, pack_below=2 * MIB)
    big.checkpoint("ckpt-1", {f"{number}": noise(MIB + number, number) for number in range(10)})

    big.push(bucket)

    stored = manifest_of(bucket).objects
    assert len(stored) >= 3
    assert all(each.codec is Codec.PACK and each.size <= CHUNK for each in stored)
    require_restores(bucket, big, "ckpt-1", disk)


def test_what_verify_found_damaged_is_stored_again(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.checkpoint("ckpt-1", a_small_checkpoint())
    host.push(bucket)
    rotten = [stored.key for stored in manifest_of(bucket).objects[:2]]
    head = edit_head(bucket)
    bad = head.checkpoints[0].model_copy(update={"state": "bad", "damaged": tuple(rotten)})
    edit_head(bucket, checkpoints=(bad,), latest=None)
    for key in rotten:
        bucket.put(key, b"rotten")
    host.checkpoint("ckpt-2", a_small_checkpoint())

    host.push(bucket)

    assert not set(rotten) & {stored.key for stored in manifest_of(bucket).objects}
    require_restores(bucket, host, "ckpt-2", disk)


def test_a_damaged_object_is_not_referred_to_although_the_parent_has_it_too(
    host: Host, bucket: MemoryStore
) -> None:
    for number in (1, 2):
        host.checkpoint(f"ckpt-{number}", a_small_checkpoint())
        host.push(bucket)
    rotten = [stored.key for stored in manifest_of(bucket).objects]
    first, second = edit_head(bucket).checkpoints
    bad = first.model_copy(update={"state": "bad", "damaged": tuple(rotten)})
    edit_head(bucket, checkpoints=(bad, second))
    host.checkpoint("ckpt-3", a_small_checkpoint())

    host.push(bucket)

    assert not set(rotten) & {stored.key for stored in manifest_of(bucket).objects}


def test_a_parent_whose_manifest_is_damaged_only_costs_uploads(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.push_new("ckpt-1", bucket)
    (manifest,) = [info.key for info in bucket.walk(keys.MANIFESTS)]
    bucket.put(manifest, b"rotten")
    with host.running(bucket) as pipeline, pipeline.state.database.transaction() as transaction:
        transaction.execute("DELETE FROM manifest")
    host.checkpoint("ckpt-2", a_small_checkpoint("ckpt-1"))

    assert host.push(bucket).entry.new_bytes > 0
    require_restores(bucket, host, "ckpt-2", disk)


def test_what_is_damaged_of_a_parent_in_a_catalog_page_is_stored_again(
    host: Host, bucket: MemoryStore, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        host.push_new(f"ckpt-{number}", bucket)
    rotten = [stored.key for stored in manifest_of(bucket, 0).objects]
    host.go_back_to("ckpt-1", bucket)
    first, *others = read_head(bucket).head.checkpoints
    bad = first.model_copy(update={"state": "bad", "damaged": tuple(rotten)})
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 1)
    spilled = catalog.spill(edit_head(bucket, checkpoints=(bad, *others)), Hash.BLAKE3)
    assert spilled is not None
    assert spilled.head.entry(bad.id) is None
    bucket.put(spilled.key, spilled.data)
    edit_head(bucket, checkpoints=spilled.head.checkpoints, pages=spilled.head.pages)
    for key in rotten:
        bucket.put(key, b"rotten")
    host.checkpoint("ckpt-4", a_small_checkpoint("ckpt-1"))

    host.push(bucket)

    manifest = manifest_of(bucket)
    assert manifest.header.parent == bad.id
    assert not set(rotten) & {stored.key for stored in manifest.objects}
    require_restores(bucket, host, "ckpt-4", disk)


def alter_the_cached_manifests(host: Host, bucket: MemoryStore) -> None:
    """One byte in the middle of each, as a disk does."""
    with host.running(bucket) as pipeline, pipeline.state.database.transaction() as transaction:
        for number, data in transaction.execute("SELECT number, data FROM manifest").fetchall():
            altered = bytearray(data)
            altered[len(data) // 2] ^= 1
            transaction.execute(
                "UPDATE manifest SET data = ? WHERE number = ?", (bytes(altered), number)
            )


def test_a_cached_manifest_that_was_altered_costs_a_push_nothing_but_its_fetching(
    host: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    alter_the_cached_manifests(host, bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint("ckpt-1"))
    store = FaultyStore(bucket)

    assert host.push(store).entry.new_bytes == 0

    fetched = [call.key for call in store.calls if call.method == "get"]
    assert keys.manifest(manifest_of(bucket, 0).checkpoint) in fetched


def test_a_cached_manifest_that_was_altered_is_not_what_a_pull_restores(
    host: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    before = contents(host.root)
    alter_the_cached_manifests(host, bucket)
    shutil.rmtree(host.root)

    host.restore(bucket)

    assert contents(host.root) == before


# Trying again


def test_nothing_is_uploaded_twice_after_a_failed_push(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.checkpoint("ckpt-1", {f"{number}": noise(PACK_BELOW, number) for number in range(20)})
    uploads: Counter[bytes] = Counter()

    for _ in range(3):
        fail_at_the_manifest(host, bucket)
    last = FaultyStore(bucket)
    host.push(last)

    uploads.update(
        data for key, data in snapshot(bucket).items() if key.startswith((keys.CHUNKS, keys.PACKS))
    )
    assert len(uploads) == 20
    assert set(uploads.values()) == {1}
    assert data_puts(last) == []
    require_restores(bucket, host, "ckpt-1", disk)


def test_a_push_that_failed_in_the_middle_goes_on_from_there(
    host: Host, bucket: MemoryStore
) -> None:
    host = replace(host, parallel=1)
    host.checkpoint("ckpt-1", {f"{number}": noise(PACK_BELOW, number) for number in range(20)})
    chunks = 0

    def decide(_number: int, call: Call) -> Unavailable | None:
        nonlocal chunks
        chunks += call.key.startswith(keys.CHUNKS)
        return Unavailable(bucket.name, "write", call.key, "503") if chunks > 12 else None

    with pytest.raises(Unavailable):
        host.push(Odd(bucket, decide))
    again = FaultyStore(bucket)
    host.push(again)

    assert len(data_puts(again)) == 8


def test_of_what_a_failed_push_stored_only_what_was_removed_since_is_uploaded_again(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.checkpoint("ckpt-1", {f"{number}": noise(PACK_BELOW, number) for number in range(9)})
    first = data_puts(fail_at_the_manifest(host, bucket))
    assert len(first) == 9
    bucket.delete(first[:4])
    bucket.put(first[4], b"cut short")

    again = FaultyStore(bucket)
    host.push(again)

    assert len(data_puts(again)) == 5
    stored = {each.key for each in manifest_of(bucket).objects}
    assert stored == {*first[5:], *data_puts(again)}
    require_restores(bucket, host, "ckpt-1", disk)


def test_a_pack_that_a_failed_push_wrote_anew_is_not_written_once_more(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    files = {f"{number:03}": noise(3 * KIB, number) for number in range(200)}
    host.checkpoint("ckpt-1", files)
    host.push(bucket)
    host.checkpoint("ckpt-2", dict(list(files.items())[:40]))

    rewritten = data_puts(fail_at_the_manifest(host, bucket))
    then = data_puts(fail_at_the_manifest(host, bucket))
    last = FaultyStore(bucket)
    host.push(last)

    assert rewritten
    assert then == data_puts(last) == []
    assert {each.key for each in manifest_of(bucket).objects} == set(rewritten)
    require_restores(bucket, host, "ckpt-2", disk)


class DiesAfterItsSwap(FaultyStore):
    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        version = super().put(key, body, expect=expect)
        if key == keys.HEAD:
            raise Crash
        return version


def uploads_noted(host: Host, bucket: ObjectStore) -> set[str]:
    with host.running(bucket) as pipeline:
        me = pipeline.state.identity.remembered()
        return set(UploadJournal(pipeline.state.database, me.repository_id or "").sizes())


@pytest.mark.parametrize("again", [True, False])
def test_uploads_of_a_push_that_committed_before_it_died_count_as_own_no_more(
    host: Host, bucket: MemoryStore, *, again: bool
) -> None:
    """Whether the next one pushes the same checkpoint, or fails with another one."""
    host.push_new("ckpt-1", bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint(2))
    with pytest.raises(Crash):
        host.push(DiesAfterItsSwap(bucket))
    committed = uploads_noted(host, bucket)
    assert committed

    if again:
        assert host.push(bucket).already_synced
        assert not uploads_noted(host, bucket)
        return
    host.checkpoint("ckpt-3", a_small_checkpoint(3))
    uploads = data_puts(fail_at_the_manifest(host, bucket))
    assert uploads_noted(host, bucket) == set(uploads)
    assert not committed & set(uploads)


def test_what_the_parent_refers_to_is_no_own_upload_of_who_has_pulled_since(
    host: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint(2))
    with pytest.raises(Crash):
        host.push(DiesAfterItsSwap(bucket))
    committed = uploads_noted(host, bucket)
    shutil.rmtree(host.root)
    host.restore(bucket)
    assert uploads_noted(host, bucket) == committed
    host.checkpoint("ckpt-3", a_small_checkpoint(3))

    fail_at_the_manifest(host, bucket)

    assert not committed & uploads_noted(host, bucket)


def test_pushing_the_same_checkpoint_again_does_nothing(host: Host, bucket: MemoryStore) -> None:
    entry = host.push_new("ckpt-1", bucket)
    stored = snapshot(bucket)

    again = host.push(bucket)

    assert again.already_synced
    assert again.entry == entry
    assert snapshot(bucket) == stored


def test_a_store_that_never_answers_a_swap_ends_the_push(host: Host, bucket: MemoryStore) -> None:
    host.push_new("ckpt-1", bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint(2))
    swap = Call("put", keys.HEAD)
    silent = Odd(
        bucket,
        lambda _, call: (
            Unavailable(bucket.name, "write", keys.HEAD, "timed out") if call == swap else None
        ),
    )

    with pytest.raises(CannotTell, match="timed out"):
        host.push(silent)

    assert silent.calls.count(swap) == SWAPS
    assert host.push(bucket).entry.engine_id == "ckpt-2"


def test_a_checkpoint_that_changes_while_it_is_read_is_never_committed(
    host: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    path = host.checkpoint("ckpt-2", a_small_checkpoint(2)) / "chunk"
    committed = require_sound(bucket)

    def scribble(_number: int, call: Call) -> None:
        if call.key.startswith((keys.CHUNKS, keys.PACKS)):
            path.write_bytes(os.urandom(PACK_BELOW + 1))

    with pytest.raises(Busy, match="changed 10 times") as caught:
        host.push(Odd(bucket, scribble))

    assert caught.value.exit_code == 5
    assert require_sound(bucket, since=committed) == committed
