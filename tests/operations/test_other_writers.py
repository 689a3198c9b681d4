"""Others who write to the bucket, or replace it, while a push is under way."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ckptsync.errors import (
    Busy,
    Fenced,
    ForeignWriter,
    HeadLost,
    RollbackDetected,
    WrongRepository,
)
from ckptsync.operations.resolve import Fresh
from ckptsync.repository import keys
from ckptsync.repository.repository import read_head
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, FaultyStore
from tests.operations.actors import (
    Odd,
    edit_head,
    take_over,
    write_as_a_clone,
)
from tests.operations.invariants import require_sound
from tests.operations.races import (
    SWAP,
    at_each_call,
    attempt,
    fail_at_the_manifest,
    snapshot_with_probes,
)
from tests.pipelines import Host, a_small_checkpoint, copy_of, snapshot, wanted


def test_after_a_takeover_at_any_call_nothing_of_ours_is_committed(
    about_to_push: Host, bucket: MemoryStore, disk: Path
) -> None:
    for host, store, outcome in at_each_call(about_to_push, bucket, disk, take_over):
        assert isinstance(outcome, Fenced), outcome
        assert outcome.exit_code == 11
        assert "host-b" in str(outcome)
        seen = require_sound(store)
        assert seen is not None
        assert seen.engine_ids == ("ckpt-1",)
        calls = FaultyStore(store)
        assert isinstance(attempt(host, calls), Fenced)
        assert {call.method for call in calls.calls} == {"get"}, "a fenced node writes nothing"


def test_the_epoch_that_a_fenced_node_is_told_is_the_last_that_it_held(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    for epoch in (2, 3):
        take_over(bucket)
        with pytest.raises(
            Fenced, match=f"took over at epoch {epoch}; this node last wrote at epoch 1$"
        ):
            about_to_push.push(bucket)


def test_of_two_that_create_at_once_the_loser_is_not_told_of_a_takeover(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    other.checkpoint("ckpt-1", a_small_checkpoint(1))

    def create_first(_number: int, call: Call) -> None:
        if call == SWAP and keys.HEAD not in snapshot(bucket):
            host.push_new("ckpt-1", bucket)

    for store in (Odd(bucket, create_first), bucket):
        with pytest.raises(ForeignWriter, match="written by node 'host-a'") as caught:
            other.push(store)
        assert caught.value.exit_code == 11
        assert "took over" not in str(caught.value)
    seen = require_sound(bucket)
    assert seen is not None
    assert seen.engine_ids == ("ckpt-1",)


@pytest.mark.parametrize("act", [Host.push, Host.pull])
def test_a_repository_that_another_node_creates_while_we_look_is_not_a_lost_one(
    host: Host,
    other: Host,
    bucket: MemoryStore,
    act: Callable[[Host, ObjectStore], object],
) -> None:
    other.checkpoint("ckpt-1", a_small_checkpoint(1))

    def create_first(_number: int, call: Call) -> None:
        if call == Call("walk", keys.MANIFESTS):
            host.push_new("ckpt-1", bucket)

    with pytest.raises(Busy, match="has just created it") as caught:
        act(other, Odd(bucket, create_first))

    assert caught.value.exit_code == 5


def test_a_writer_that_was_released_is_fenced(about_to_push: Host, bucket: MemoryStore) -> None:
    writer = read_head(bucket).head.writer
    edit_head(
        bucket, writer=writer.model_copy(update={"state": "released", "released_to": "host-b"})
    )

    with pytest.raises(Fenced, match="'released' to node 'host-b'"):
        about_to_push.push(bucket)


def test_a_clone_that_writes_in_our_name_at_any_call_is_noticed(
    about_to_push: Host, bucket: MemoryStore, disk: Path
) -> None:
    for _host, store, outcome in at_each_call(about_to_push, bucket, disk, write_as_a_clone):
        assert isinstance(outcome, ForeignWriter), outcome
        assert outcome.exit_code == 11
        seen = require_sound(store)
        assert seen is not None
        assert seen.engine_ids == ("ckpt-1",)


def test_a_host_that_remembers_nothing_does_not_write(
    about_to_push: Host, bucket: MemoryStore, other: Host
) -> None:
    stored = snapshot_with_probes(bucket)
    other.checkpoint("ckpt-2", a_small_checkpoint(2))

    with pytest.raises(ForeignWriter) as caught:
        other.push(bucket)

    assert caught.value.exit_code == 11
    assert snapshot_with_probes(bucket) == stored


def test_a_bucket_that_goes_back_in_time_at_any_call_is_noticed(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.push_new("ckpt-1", bucket)
    backup = copy_of(bucket)
    host.push_new("ckpt-2", bucket)
    host.checkpoint("ckpt-3", a_small_checkpoint(3))

    def restore(store: MemoryStore) -> None:
        store._objects = dict(backup._objects)

    for _host, store, outcome in at_each_call(host, bucket, disk, restore):
        assert isinstance(outcome, RollbackDetected), outcome
        assert outcome.exit_code == 11
        seen = require_sound(store)
        assert seen is not None
        assert seen.engine_ids == ("ckpt-1",)


def test_going_back_is_noticed_even_where_no_checkpoint_is_missing(
    about_to_push: Host, bucket: MemoryStore, disk: Path
) -> None:
    """What an operator said since the backup is undone too."""
    backup = copy_of(bucket)
    edit_head(bucket)
    with about_to_push.running(bucket) as pipeline:
        pipeline.register().read()

    def restore(store: MemoryStore) -> None:
        store._objects.update(backup._objects)

    for _host, store, outcome in at_each_call(about_to_push, bucket, disk, restore):
        assert isinstance(outcome, RollbackDetected), outcome
        seen = require_sound(store)
        assert seen is not None
        assert seen.engine_ids == ("ckpt-1",)


def test_a_head_deleted_at_any_call_is_lost_and_never_made_anew(
    about_to_push: Host, bucket: MemoryStore, disk: Path
) -> None:
    for host, store, outcome in at_each_call(
        about_to_push, bucket, disk, lambda store: store.delete([keys.HEAD])
    ):
        for each in (outcome, attempt(host, FaultyStore(store))):
            assert isinstance(each, HeadLost), each
            assert each.exit_code == 12
        assert keys.HEAD not in snapshot(store)


def test_a_bucket_that_was_emptied_is_not_taken_for_a_new_one(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    bucket.delete([info.key for info in bucket.walk("")])

    with pytest.raises(HeadLost):
        about_to_push.push(bucket)

    assert not list(bucket.walk(""))


@pytest.mark.parametrize("keep_descriptor", [False, True])
@pytest.mark.parametrize("filled_seed", [False, True])
@pytest.mark.parametrize("wished", ["plain", "latest", "an id", "an id of the seed", "elsewhere"])
def test_from_a_bucket_that_was_emptied_nothing_is_pulled_and_nothing_is_begun_anew(
    host: Host,
    other: Host,
    bucket: MemoryStore,
    wished: str,
    filled_seed: bool,
    keep_descriptor: bool,
) -> None:
    host.push_new("ckpt-1", bucket)
    seed = MemoryStore("s3://seed/orders")
    if filled_seed:
        other.push_new("ckpt-9", seed)
    shutil.rmtree(host.root)
    kept = {keys.DESCRIPTOR} if keep_descriptor else set[str]()
    bucket.delete([info.key for info in bucket.walk("") if info.key not in kept])
    wishes = {
        "plain": wanted(explicit=False),
        "latest": wanted(),
        "an id": wanted("ckpt-1"),
        "an id of the seed": wanted("ckpt-9"),
        "elsewhere": wanted(to=host.home / "elsewhere"),
    }

    with pytest.raises(HeadLost) as caught:
        host.pull(bucket, wishes[wished], read_store=seed)

    assert caught.value.exit_code == 12
    assert not host.root.exists()
    assert not (host.home / "elsewhere").exists()


def test_a_bucket_in_which_nothing_was_ever_committed_is_no_lost_one(
    host: Host, bucket: MemoryStore
) -> None:
    host.checkpoint("ckpt-1", a_small_checkpoint())
    fail_at_the_manifest(host, bucket)
    assert read_head(bucket).head.latest is None
    shutil.rmtree(host.root)

    assert isinstance(host.pull(bucket, wanted(explicit=False)), Fresh)


def test_an_empty_repository_in_the_place_of_ours_is_no_reason_to_begin_anew(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-1", bucket)
    shutil.rmtree(host.root)
    replaced = MemoryStore(bucket.name)
    other.checkpoint("ckpt-1", a_small_checkpoint())
    fail_at_the_manifest(other, replaced)

    with pytest.raises(WrongRepository):
        host.pull(replaced, wanted(explicit=False))


def test_of_a_bucket_that_went_back_only_what_is_asked_for_by_name_is_pulled(
    host: Host, bucket: MemoryStore
) -> None:
    first = host.push_new("ckpt-1", bucket)
    backup = copy_of(bucket)
    host.push_new("ckpt-2", bucket)
    shutil.rmtree(host.root)
    elsewhere = host.home / "elsewhere"

    for wish in (wanted(explicit=False), wanted()):
        with pytest.raises(RollbackDetected) as caught:
            host.pull(backup, wish)
        assert caught.value.exit_code == 11
        assert not host.root.exists()

    assert host.restore(backup, wanted(to=elsewhere)).entry == first
    assert host.restore(backup, wanted("ckpt-1")).entry == first


def test_another_pipelines_bucket_is_left_as_it_is(
    about_to_push: Host, bucket: MemoryStore, disk: Path
) -> None:
    stored = snapshot_with_probes(bucket)
    stranger = Host(home=disk / "stranger", pipeline="payments")
    stranger.checkpoint("ckpt-9", a_small_checkpoint(9))

    with pytest.raises(WrongRepository, match="belongs to pipeline 'orders'") as caught:
        stranger.push(bucket)

    assert caught.value.exit_code == 2
    assert snapshot_with_probes(bucket) == stored


def test_another_pipelines_descriptor_alone_is_left_as_it_is(
    about_to_push: Host, bucket: MemoryStore, disk: Path
) -> None:
    half = MemoryStore()
    half.put(keys.DESCRIPTOR, snapshot(bucket)[keys.DESCRIPTOR])
    stored = snapshot_with_probes(half)
    stranger = Host(home=disk / "stranger", pipeline="payments")
    stranger.checkpoint("ckpt-9", a_small_checkpoint(9))

    with pytest.raises(WrongRepository):
        stranger.push(half)

    assert snapshot_with_probes(half) == stored


def test_a_bucket_that_was_another_repository_for_a_while_is_usable_again(
    about_to_push: Host, bucket: MemoryStore, other: Host
) -> None:
    """A head that is not ours must not count as seen: its revisions are higher."""
    foreign = MemoryStore(bucket.name)
    for number in range(1, 5):
        other.push_new(f"ckpt-{number}", foreign)
    stored = snapshot_with_probes(foreign)
    with pytest.raises(WrongRepository) as caught:
        about_to_push.push(foreign)
    assert caught.value.exit_code == 2
    assert snapshot_with_probes(foreign) == stored

    report = about_to_push.push(bucket)

    assert report.entry.engine_id == "ckpt-2"
