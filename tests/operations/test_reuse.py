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
from ckptsync.repository import keys
from ckptsync.repository.files import Packed
from ckptsync.repository.objects import Codec
from ckptsync.repository.register import SWAPS
from ckptsync.stores.memory import MemoryStore
from tests.fakes.feldera_engine import Engine
from tests.fakes.stores import Call, FaultyStore
from tests.operations.actors import Odd, edit_head
from tests.operations.invariants import require_sound
from tests.operations.looks import manifest_of, puts, require_restores
from tests.pipelines import (
    CHUNK,
    KIB,
    MIB,
    PACK_BELOW,
    Host,
    a_small_checkpoint,
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


# Trying again


def test_nothing_is_uploaded_twice_after_a_failed_push(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.checkpoint("ckpt-1", {f"{number}": noise(PACK_BELOW, number) for number in range(20)})
    uploads: Counter[bytes] = Counter()

    def decide(_number: int, call: Call) -> Unavailable | None:
        if call.key.startswith(keys.MANIFESTS) and call.method == "put":
            return Unavailable(bucket.name, "write", call.key, "503")
        return None

    for _ in range(3):
        with pytest.raises(Unavailable):
            host.push(Odd(bucket, decide))
    last = FaultyStore(bucket)
    host.push(last)

    uploads.update(
        data for key, data in snapshot(bucket).items() if key.startswith((keys.CHUNKS, keys.PACKS))
    )
    assert len(uploads) == 20
    assert set(uploads.values()) == {1}
    assert not [key for key in puts(last) if key.startswith((keys.CHUNKS, keys.PACKS))]
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

    assert len([key for key in puts(again) if key.startswith(keys.CHUNKS)]) == 8


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
