"""Sweeps, and findings of damage, while a push is under way."""

from pathlib import Path

import pytest

from ckptsync.errors import (
    Busy,
    Unavailable,
)
from ckptsync.operations.push import PushReport
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository import keys
from ckptsync.repository.head import Sweep
from ckptsync.repository.repository import Repository, read_head
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call
from tests.operations.actors import (
    Odd,
    Sweeper,
    edit_head,
)
from tests.operations.invariants import require_sound
from tests.operations.races import at_each_call, unavailable
from tests.pipelines import Host


@pytest.mark.parametrize("unreadable", [False, True], ids=["readable lists", "unreadable lists"])
def test_a_sweep_at_any_call_of_a_push_deletes_nothing_that_is_committed(
    about_to_push: Host, bucket: MemoryStore, disk: Path, unreadable: bool
) -> None:
    uploaded_again = 0

    def sweep(store: MemoryStore) -> None:
        nonlocal uploaded_again
        sweeper = Sweeper(store=store, unreadable=unreadable)
        sweeper.sweep()
        uploaded_again += bool(sweeper.condemned)

    for _host, store, outcome in at_each_call(about_to_push, bucket, disk, sweep):
        assert isinstance(outcome, PushReport)
        seen = require_sound(store, lists_lost=unreadable)
        assert seen is not None
        assert seen.engine_ids == ("ckpt-1", "ckpt-2")

    assert uploaded_again >= 3, "no sweep ever met an upload of the push"


def test_an_upload_left_by_a_failed_push_and_swept_since_is_uploaded_again(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    with pytest.raises(Unavailable):
        about_to_push.push(
            Odd(bucket, lambda _, call: unavailable(call) if call.key.startswith("man") else None)
        )
    sweeper = Sweeper(store=bucket)
    sweeper.sweep()
    assert sweeper.condemned

    about_to_push.push(bucket)

    assert require_sound(bucket) is not None


def test_uploads_older_than_the_lists_that_are_kept_count_as_condemned(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    with pytest.raises(Unavailable):
        about_to_push.push(
            Odd(bucket, lambda _, call: unavailable(call) if call.key.startswith("man") else None)
        )
    Sweeper(store=bucket).sweep()
    head = read_head(bucket).head
    edit_head(bucket, sweep=Sweep(generation=head.sweep.generation))

    about_to_push.push(bucket)

    assert require_sound(bucket) is not None


def test_a_push_whose_uploads_are_swept_every_time_gives_up_and_commits_nothing(
    about_to_push: Host, bucket: MemoryStore
) -> None:
    committed = require_sound(bucket)

    def decide(_number: int, call: Call) -> None:
        if call.key.startswith(keys.MANIFESTS):
            Sweeper(store=bucket).sweep()

    with pytest.raises(Busy) as caught:
        about_to_push.push(Odd(bucket, decide))

    assert caught.value.exit_code == 5
    seen = require_sound(bucket, since=committed)
    assert seen is not None
    assert seen.engine_ids == ("ckpt-1",)
    assert about_to_push.push(bucket).entry.engine_id == "ckpt-2"


def test_a_parent_that_is_marked_damaged_meanwhile_is_planned_around(
    about_to_push: Host, bucket: MemoryStore, disk: Path
) -> None:
    """What verify found rotten is stored again, whenever it says so."""

    def mark(store: MemoryStore) -> None:
        head = read_head(store).head
        repository = Repository(store=store, descriptor=descriptors.read(store))
        for entry in head.checkpoints:
            damaged = tuple(stored.key for stored in repository.manifest(entry).objects)
            bad = entry.model_copy(update={"state": "bad", "damaged": damaged})
            edit_head(store, checkpoints=(bad,), latest=None)
            store.delete(damaged)

    for _host, store, outcome in at_each_call(about_to_push, bucket, disk, mark):
        assert isinstance(outcome, PushReport)
        assert require_sound(store) is not None
