"""Which checkpoint may follow which, and where a timeline forks."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import (
    LineageRegression,
)
from ckptsync.repository.head import Fork
from ckptsync.repository.repository import read_head
from ckptsync.stores.memory import MemoryStore
from tests.fakes.feldera_engine import Engine
from tests.operations.invariants import require_sound
from tests.operations.looks import manifest_of, require_entries, require_restores
from tests.pipelines import (
    PACK_BELOW,
    Host,
    a_small_checkpoint,
    contents,
    noise,
    wanted,
)


def test_an_older_checkpoint_is_not_put_on_top_of_a_newer_one(
    host: Host, bucket: MemoryStore
) -> None:
    host.push_new("ckpt-5", bucket)
    shutil.rmtree(host.root)
    host.checkpoint("ckpt-3", a_small_checkpoint(3))

    with pytest.raises(LineageRegression, match="at step 3, before step 5") as caught:
        host.push(bucket)
    assert caught.value.exit_code == 13
    assert caught.value.hint is not None

    forked = host.push(bucket, new_timeline=True).entry
    assert (forked.timeline, forked.step) == (2, "3")
    host.checkpoint("ckpt-4", a_small_checkpoint(4))
    assert host.push(bucket).entry.timeline == 2
    assert require_sound(bucket) is not None


def test_a_pipeline_that_started_anew_is_not_put_on_top_of_its_former_life(
    host: Host, bucket: MemoryStore
) -> None:
    feldera = replace(host, layout="feldera")
    with Engine(feldera.root, seed=1) as engine:
        engine.checkpoint()
    feldera.push(bucket)
    shutil.rmtree(feldera.root)
    with Engine(feldera.root, seed=2) as engine:
        for _ in range(30):  # long enough that its steps catch up
            engine.checkpoint()

    with pytest.raises(LineageRegression, match="another life"):
        feldera.push(bucket)

    assert feldera.push(bucket, new_timeline=True).entry.timeline == 2


def test_after_going_back_the_next_push_forks_there(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    for number in (1, 2, 3):
        host.push_new(f"ckpt-{number}", bucket)
    first, _, third = require_entries(bucket)
    host.go_back_to("ckpt-1", bucket)
    host.checkpoint("ckpt-4", a_small_checkpoint(4))

    fork = host.push(bucket).entry

    head = read_head(bucket).head
    assert head.latest == fork.id
    timeline = head.timelines[-1]
    assert timeline.parent is not None
    assert timeline.parent.checkpoint == first
    assert manifest_of(bucket).header.parent == first
    assert third in [entry.id for entry in head.checkpoints], "what was left behind stays"
    require_restores(bucket, host, "ckpt-4", disk)


def test_after_going_back_a_name_that_is_used_again_is_pushed(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    """A trainer counts on from where it is, so it gives names that the bucket has already."""
    for number in (1, 2, 3):
        host.push_new(f"ckpt-{number}", bucket)
    host.go_back_to("ckpt-1", bucket)
    host.checkpoint("ckpt-2", a_small_checkpoint("another second"))

    report = host.push(bucket)

    assert not report.already_synced
    assert report.entry.timeline == 2
    fresh = replace(host, home=disk / "fresh")
    fresh.restore(bucket)
    assert contents(fresh.root / "ckpt-2") == contents(host.root / "ckpt-2")
    assert host.push(bucket).already_synced


def test_a_name_that_was_written_anew_is_pushed_again(
    host: Host, bucket: MemoryStore, disk: Path
) -> None:
    host.push_new("ckpt-1", bucket)
    (host.root / "ckpt-1" / "chunk").write_bytes(noise(PACK_BELOW, "retrained"))

    report = host.push(bucket)

    assert not report.already_synced
    assert report.entry.new_bytes == PACK_BELOW
    fresh = replace(host, home=disk / "fresh")
    fresh.restore(bucket)
    assert contents(fresh.root / "ckpt-1") == contents(host.root / "ckpt-1")


def test_what_was_gone_back_to_counts_as_pushed(host: Host, bucket: MemoryStore) -> None:
    for number in (1, 2):
        host.push_new(f"ckpt-{number}", bucket)
    host.go_back_to("ckpt-1", bucket)

    report = host.push(bucket)

    assert report.already_synced
    assert report.entry.engine_id == "ckpt-1"


def test_pushing_what_was_gone_back_to_makes_it_the_latest_again(
    host: Host, bucket: MemoryStore, other: Host
) -> None:
    first = host.push_new("ckpt-1", bucket)
    host.push_new("ckpt-2", bucket)
    host.go_back_to("ckpt-1", bucket)

    host.push(bucket)

    head = read_head(bucket).head
    timeline = head.timelines[-1]
    assert (head.latest, head.timeline, timeline.id) == (first.id, 2, 2)
    assert timeline.parent == Fork(timeline=1, checkpoint=first.id)
    assert other.restore(bucket).entry == first
    assert require_sound(bucket) is not None
    host.push(bucket)
    assert read_head(bucket).head == head, "once is enough"
    assert host.push_new("ckpt-3", bucket).timeline == 2


def test_a_checkpoint_of_a_timeline_that_was_left_is_not_pushed_twice(
    host: Host, bucket: MemoryStore
) -> None:
    """Its step is above that of the latest, as if it were new."""
    first, _, third = [host.push_new(f"ckpt-{number}", bucket) for number in (1, 2, 3)]
    host.go_back_to("ckpt-1", bucket)
    host.push(bucket)
    assert read_head(bucket).head.latest == first.id
    before = require_entries(bucket)
    host.go_back_to("ckpt-3", bucket)

    report = host.push(bucket)

    assert report.already_synced
    assert report.entry == third
    assert require_entries(bucket) == before
    assert read_head(bucket).head.latest == third.id


def test_a_pull_from_the_seed_after_going_back_is_not_going_back(
    host: Host, other: Host, bucket: MemoryStore
) -> None:
    seed = MemoryStore("s3://seed/orders")
    other.push_new("ckpt-9", seed)
    for number in (1, 2):
        host.push_new(f"ckpt-{number}", bucket)
    latest = read_head(bucket).head.latest
    host.go_back_to("ckpt-1", bucket)
    shutil.rmtree(host.root)
    host.restore(bucket, wanted("ckpt-9"), read_store=seed)

    entry = host.push(bucket).entry

    assert (entry.engine_id, entry.timeline) == ("ckpt-9", 1)
    assert manifest_of(bucket).header.parent == latest


def test_pulling_the_latest_does_not_fork(host: Host, bucket: MemoryStore) -> None:
    for number in (1, 2):
        host.push_new(f"ckpt-{number}", bucket)
    host.go_back_to("ckpt-2", bucket)
    host.checkpoint("ckpt-3", a_small_checkpoint(3))

    assert host.push(bucket).entry.timeline == 1
