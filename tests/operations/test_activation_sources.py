"""What an activated node goes on from: the bucket's latest, or what there is in place of it."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ckptsync.errors import (
    AccessDenied,
    CheckpointNotFound,
    CkptsyncError,
    Fenced,
    HeadLost,
    IntegrityError,
    Refused,
    RollbackDetected,
    TooStale,
    Unavailable,
    UnfitStore,
    WrongRepository,
)
from ckptsync.model import Role
from ckptsync.operations.pipeline import StandbySettings, Takeover
from ckptsync.operations.resolve import LATEST
from ckptsync.operations.roles import become
from ckptsync.operations.writing import create_repository
from ckptsync.repository import keys
from ckptsync.repository.head import Entry, Fork
from ckptsync.state.activation import Stage
from ckptsync.stores.base import Fetched, ObjectStore, Version
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, FaultyStore, LyingStore
from tests.operations.actors import Odd, Verdict, edit_head
from tests.operations.switchovers import takes
from tests.operations.takeovers import Node, Site, crashes
from tests.pipelines import contents, snapshot

LOCAL = Takeover(on_pull_failure="local")


def standing_by(site: Site, **settings: object) -> Node:
    """Host-b with these settings of its standby."""
    return replace(site.b, standby=StandbySettings(initially=True, **settings))  # type: ignore[arg-type]


def unreadable(store: ObjectStore, entry: Entry) -> Odd:
    """A checkpoint's manifest cannot be read now."""

    def decide(_number: int, call: Call) -> Verdict:
        gone = call.key == keys.manifest(entry.id)
        return Unavailable(store.name, "read", call.key, "503") if gone else None

    return Odd(store, decide)


@pytest.fixture
def site(disk: Path) -> Site:
    """Two checkpoints are in the bucket, nothing on the disk of host-b."""
    site = Site.at(disk)
    site.push_new(site.a)
    site.push_new(site.a)
    return site


# Nothing in the bucket


def test_on_an_empty_bucket_a_node_creates_the_repository_and_starts_fresh(disk: Path) -> None:
    site = Site.at(disk)

    report = site.b.activate(site.store)

    assert (report.role, report.checkpoint, report.left_behind) == (Role.PRIMARY, None, 0)
    assert site.head.latest is None
    assert (site.head.writer.node, site.head.writer.state) == ("host-b", "active")
    site.push_new(site.b)
    site.require_sound()


def test_where_one_is_required_an_empty_bucket_is_no_start(disk: Path) -> None:
    site = Site.at(disk)
    b = standing_by(site, required=True)

    with pytest.raises(CheckpointNotFound) as caught:
        b.activate(site.store)

    assert caught.value.exit_code == 10
    assert b.role is Role.ACTIVATION_FAILED
    assert site.b.activate(site.store).role is Role.PRIMARY, "it is not required any more"


@pytest.mark.parametrize("layout", ["directory", "feldera"])
def test_while_the_bucket_is_empty_read_bucket_gives_the_start(disk: Path, layout: str) -> None:
    seed, site = Site.at(disk / "seed", layout), Site.at(disk / "site", layout)
    origin = seed.push_new(seed.a)
    site.written.update(seed.written)
    untouched = snapshot(seed.store)

    report = site.b.activate(site.store, read_store=seed.store)

    assert (report.role, report.checkpoint) == (Role.PRIMARY, None)
    site.require_restored(site.b, origin.engine_id)
    assert snapshot(seed.store) == untouched
    pushed = site.push(site.b)
    assert pushed.engine_id == origin.engine_id
    site.push_new(site.b)
    site.require_sound()


def test_what_came_from_a_read_bucket_that_is_configured_no_more_is_not_kept(disk: Path) -> None:
    seed, site = Site.at(disk / "seed"), Site.at(disk / "site")
    seed.push_new(seed.a)
    assert site.b.poll(site.store, seed.store).warm is not None

    report = site.b.activate(site.store)

    assert (report.role, report.checkpoint) == (Role.PRIMARY, None)
    assert not site.b.root.exists(), "it starts fresh"
    with site.b.running(site.store) as pipeline:
        assert pipeline.state.warm.ids() == ()
    assert not [path for path in site.b.work.rglob("*") if path.is_file()]


def test_read_bucket_is_left_once_the_bucket_holds_a_checkpoint(site: Site, disk: Path) -> None:
    seed = Site.at(disk / "seed")
    for _ in range(3):
        seed.push_new(seed.a)

    report = site.b.activate(site.store, read_store=seed.store)

    assert report.checkpoint == site.acknowledged[-1].id


# An engine's id


def test_an_older_checkpoint_is_gone_on_from_where_the_configuration_asks_for_it(
    site: Site,
) -> None:
    first, second = site.acknowledged
    b = standing_by(site, start_from=first.engine_id)

    report = b.activate(site.store)

    assert (report.checkpoint, report.left_behind) == (first.id, 1)
    assert site.head.latest == first.id
    assert site.head.timelines[-1].parent == Fork(timeline=1, checkpoint=first.id)
    site.require_restored(b, first.engine_id)
    site.require_sound(lost=[second.id])
    pushed = site.push_new(b)
    assert pushed.timeline == report.timeline == 2
    site.require_sound(lost=[second.id])


def test_one_that_is_nowhere_fails_the_activation(site: Site) -> None:
    b = standing_by(site, start_from="step-99")

    with pytest.raises(CheckpointNotFound, match="'step-99'"):
        b.activate(site.store)

    assert b.role is Role.ACTIVATION_FAILED
    assert not b.root.exists()


def test_who_is_given_the_pipeline_goes_on_from_the_latest_whatever_it_was_to_begin_with(
    site: Site,
) -> None:
    first, _ = site.acknowledged
    site.a.start(site.store)
    site.b = standing_by(site, start_from=first.engine_id)
    site.b.poll(site.store)
    site.b.probe(site.store)
    site.b.beat(site.store)
    last = site.push_new(site.a)

    site.a.hand_over(site.store, "host-b", lambda _seconds: takes(site, site.b))

    assert site.head.latest == last.id
    site.require_restored(site.b, last.engine_id)
    site.require_sound()


def test_who_is_given_the_pipeline_remembers_that_over_a_crash(site: Site, disk: Path) -> None:
    """Once the epoch is taken, head tells no more that it was given."""
    first, last = site.acknowledged
    site.a.start(site.store)
    site.b = standing_by(site, start_from=first.engine_id)
    edit_head(
        site.store,
        writer=site.head.writer.model_copy(update={"state": "released", "released_to": "host-b"}),
    )

    def act(left: Site, store: ObjectStore) -> None:
        left.b.activate(store)

    for left in crashes(site, disk, act):
        left.b.activate(left.store)

        assert left.head.latest == last.id
        left.require_restored(left.b, last.engine_id)


def test_who_was_the_primary_before_goes_on_from_the_latest(site: Site) -> None:
    first, _ = site.acknowledged
    site.b.activate(site.store)
    last = site.push_new(site.b)
    site.a = replace(site.a, standby=StandbySettings(initially=True, start_from=first.engine_id))
    site.a.start(site.store)
    site.a.rejoin(site.store)
    staged = site.a.poll(site.store).staged
    assert staged is not None
    assert staged.entry.id == last.id

    report = site.a.activate(site.store, "back")

    assert (report.checkpoint, report.left_behind) == (last.id, 0)
    site.require_restored(site.a, last.engine_id)
    site.require_sound()


def test_who_creates_the_repository_begins_with_what_it_is_to_begin_with(disk: Path) -> None:
    site = Site.at(disk)
    seed = MemoryStore("s3://seed/orders")
    first, _ = site.a.push_new("step-1", seed), site.a.push_new("step-2", seed)
    b = standing_by(site, start_from=first.engine_id)
    b.probe(site.store)
    with b.running(site.store) as pipeline:
        create_repository(pipeline)  # and then the activation was interrupted

    b.activate(site.store, read_store=seed)

    assert [path.name for path in b.root.iterdir()] == [first.engine_id]


def test_one_that_retention_has_retired_is_live_again_once_it_is_gone_on_from(site: Site) -> None:
    """It is the latest then, and nobody deletes that."""
    third = site.push_new(site.a)
    first, second, _ = (
        each.model_copy(update={"state": state})
        for each, state in zip(site.head.checkpoints, ("live", "retired", "live"), strict=True)
    )
    edit_head(site.store, checkpoints=(first, second, third))
    b = standing_by(site, start_from=second.engine_id)

    report = b.activate(site.store)

    assert report.checkpoint == second.id
    site.require_restored(b, second.engine_id)
    assert site.head.latest == second.id
    assert site.head.timelines[1].parent == Fork(timeline=1, checkpoint=second.id)
    lost = [third.id]
    site.require_sound(lost=lost)
    pushed = site.push_new(b)
    site.require_sound(lost=lost)
    assert site.head.latest == pushed.id


def test_what_lies_on_a_way_that_was_left_counts_nobody_behind(site: Site) -> None:
    """It may have the greater number: host-a had gone back to the first one."""
    site.a.go_back_to("step-1", site.store)
    assert site.a.push(site.store).already_synced
    b = standing_by(site, start_from="step-2")

    report = b.activate(site.store)

    assert report.left_behind == 0
    assert report.checkpoint == site.acknowledged[1].id


# The latest cannot be had


def test_where_the_latest_cannot_be_had_the_activation_fails_and_is_tried_again(
    site: Site,
) -> None:
    latest = site.acknowledged[-1]

    with pytest.raises(Unavailable):
        site.b.activate(unreadable(site.store, latest))

    assert site.head.epoch == 2, "the epoch is taken: nothing is committed meanwhile"
    assert site.b.role is Role.ACTIVATION_FAILED
    marker = site.b.activation
    assert marker is not None
    assert (marker.stage, marker.checkpoint) == (Stage.FENCED, None)
    assert "503" in (marker.problem or "")
    assert not site.b.root.exists()
    with pytest.raises(Fenced):
        site.push_new(site.a)
    assert site.b.start(site.store) is Role.ACTIVATING

    report = site.b.activate(site.store)

    assert (report.role, report.checkpoint, report.epoch) == (Role.PRIMARY, latest.id, 3)
    assert [each.id for each in site.head.timelines] == [1, 2]


def test_by_configuration_the_newest_here_will_do_and_the_loss_is_on_record(site: Site) -> None:
    held = site.acknowledged[-1]
    site.b.poll(site.store)
    lost = site.push_new(site.a)
    b = replace(site.b, takeover=LOCAL)

    report = b.activate(unreadable(site.store, lost))

    assert (report.role, report.checkpoint, report.left_behind) == (Role.PRIMARY, held.id, 1)
    assert site.head.latest == held.id
    assert site.head.timelines[-1].parent == Fork(timeline=1, checkpoint=held.id)
    site.require_restored(b, held.engine_id)
    site.push_new(b)
    site.require_sound(lost=[lost.id])


@pytest.mark.parametrize("damage", ["manifest", "data"])
def test_a_damaged_latest_is_one_that_cannot_be_had(site: Site, damage: str) -> None:
    held = site.acknowledged[-1]
    site.b.poll(site.store)
    stored = set(snapshot(site.store))
    lost = site.push_new(site.a)
    new = sorted(set(snapshot(site.store)) - stored)
    key = keys.manifest(lost.id) if damage == "manifest" else new[0]
    site.store.put(key, b"rotten")
    site.acknowledged.clear()

    with pytest.raises(IntegrityError):
        site.copied_to(site.home / "strict").b.activate(site.store)
    b = replace(site.b, takeover=LOCAL)
    report = b.activate(site.store, force=True)

    assert (report.role, report.checkpoint) == (Role.PRIMARY, held.id)
    site.require_restored(b, held.engine_id)


def test_what_is_here_is_not_activated_if_it_is_too_old(site: Site) -> None:
    site.b.poll(site.store)
    lost = site.push_new(site.a)
    b = replace(site.b, takeover=replace(LOCAL, max_staleness=timedelta(minutes=15)))
    site.clock.passes(minutes=15, seconds=1)

    with pytest.raises(TooStale, match=r"step-2, was written .*15m") as caught:
        b.activate(unreadable(site.store, lost))

    assert caught.value.exit_code == 13
    assert b.role is Role.ACTIVATION_FAILED
    assert not b.root.exists()
    assert b.activate(site.store).checkpoint == lost.id


def test_a_host_that_has_nothing_cannot_go_on_without_the_bucket(site: Site) -> None:
    b = replace(site.b, takeover=LOCAL)

    with pytest.raises(CheckpointNotFound, match="this host has no complete checkpoint"):
        b.activate(unreadable(site.store, site.acknowledged[-1]))

    assert b.role is Role.ACTIVATION_FAILED


def test_what_lies_in_the_storage_will_do_where_nothing_is_warm(site: Site) -> None:
    """Host-a gave its pipeline away and got it back before it had polled even once."""
    site.b.activate(site.store)
    lost = site.push_new(site.b)
    a = replace(
        site.a,
        takeover=replace(LOCAL, max_staleness=timedelta(days=9999)),
        standby=StandbySettings(initially=True),
    )
    with a.running(site.store) as pipeline:
        become(pipeline, Role.STANDBY)
    before = contents(a.root)

    report = a.activate(unreadable(site.store, lost), force=True)

    assert (report.checkpoint, report.left_behind) == (site.acknowledged[1].id, 1)
    assert contents(a.root) == before
    site.push_new(a)
    site.require_sound(lost=[lost.id])


# A bucket that is not as it should be


class Replica(FaultyStore):
    """Says of head that the store itself brought it here."""

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        return replace(super().get(key, limit=limit, unless=unless), replica=key == keys.HEAD)


def test_a_replica_is_not_activated_before_it_is_detached(site: Site) -> None:
    bucket = snapshot(site.store)

    with pytest.raises(Refused, match="replica"):
        site.b.activate(Replica(site.store))

    assert snapshot(site.store) == bucket
    assert site.b.role is Role.STANDBY
    report = site.b.activate(Replica(site.store), detach_replica=True)
    assert (report.role, report.checkpoint) == (Role.PRIMARY, site.acknowledged[-1].id)


def test_a_store_that_ignores_conditions_fences_nobody(site: Site) -> None:
    bucket = snapshot(site.store)

    with pytest.raises(UnfitStore):
        site.b.activate(LyingStore(site.store))

    assert snapshot(site.store) == bucket
    assert site.b.role is Role.STANDBY


def _lose_head(site: Site) -> None:
    site.store.delete([keys.HEAD])


def _go_back(site: Site) -> None:
    head = site.store.get(keys.HEAD, limit=1 << 20).data
    site.push_new(site.a)
    site.b.poll(site.store)
    site.store.put(keys.HEAD, head)


def _lie(site: Site) -> None:
    site.store.put(keys.HEAD, b"{")


def _swap(site: Site) -> None:
    other = Site.at(site.home / "other")
    other.a = replace(other.a, pipeline="invoices")
    other.push_new(other.a)
    site.store.delete(list(snapshot(site.store)))
    for key, data in snapshot(other.store).items():
        site.store.put(key, data)


@pytest.mark.parametrize(
    ("meddle", "error"),
    [
        (_lose_head, HeadLost),
        (_go_back, RollbackDetected),
        (_lie, IntegrityError),
        (_swap, WrongRepository),
    ],
)
@pytest.mark.parametrize("takeover", [Takeover(), LOCAL], ids=["fail", "local"])
def test_no_order_activates_on_a_bucket_that_is_not_as_it_should_be(
    site: Site, meddle: object, error: type[CkptsyncError], takeover: Takeover
) -> None:
    site.b.poll(site.store)
    assert callable(meddle)
    meddle(site)
    bucket = snapshot(site.store)
    b = replace(site.b, takeover=takeover)

    with pytest.raises(error):
        b.activate(site.store, force=True)

    assert snapshot(site.store) == bucket
    assert b.role is Role.STANDBY
    assert not b.root.exists()


def test_a_denied_bucket_is_no_empty_bucket(site: Site) -> None:
    denied = AccessDenied(site.store.name, "read", keys.HEAD, "403")

    with pytest.raises(AccessDenied):
        standing_by(site, start_from=LATEST).activate(
            Odd(site.store, lambda _number, _call: denied)
        )

    assert site.b.role is Role.STANDBY
