"""What prune does to head, what it refuses, and on whose behalf it may do it at all."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ckptsync.errors import (
    CheckpointNotFound,
    CkptsyncError,
    Diverged,
    Fenced,
    ForeignWriter,
    Refused,
    RollbackDetected,
    Stopped,
)
from ckptsync.model import Role
from ckptsync.operations import heartbeat, roles
from ckptsync.operations.preview import preview
from ckptsync.repository.retention import Policy
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import FaultyStore
from tests.operations.actors import edit_head, take_over
from tests.operations.forgetting import entries_of, into_pages, mark_bad
from tests.operations.prunings import (
    KEEP_TWO,
    Yard,
    states,
    with_everything,
)
from tests.pipelines import copy_of, snapshot, wanted


@pytest.fixture
def yard(disk: Path) -> Yard:
    return with_everything(disk / "yard")


@pytest.fixture
def small(disk: Path) -> Yard:
    """Five checkpoints; three of them are to be retired."""
    yard = Yard.at(disk / "yard")
    yard.push_many(5)
    return yard


# What goes, and when


def test_what_the_rules_no_longer_keep_is_retired_then_forgotten_a_day_later(small: Yard) -> None:
    report = small.host.prune(small.store)

    assert [each[5:13] for each in report.retired] == ["00000001", "00000002", "00000003"]
    assert (report.live, report.waiting, list(report.forgotten)) == (2, 3, [])
    small.require_all_restore()

    small.clock.passes(hours=23.9)
    assert small.host.prune(small.store).idle

    small.clock.passes(hours=0.2)
    report = small.host.prune(small.store)
    assert (report.live, report.waiting, len(report.forgotten)) == (2, 0, 3)
    assert states(small.store) == {"ckpt-0004": "live", "ckpt-0005": "live"}
    small.require_all_restore()
    small.require_tidy()


def test_a_second_prune_writes_nothing(small: Yard) -> None:
    small.host.prune(small.store)
    store = FaultyStore(small.store)

    report = small.host.prune(store)

    assert report.idle
    assert not [call for call in store.calls if call.method in ("put", "delete")]


def test_a_more_generous_policy_brings_the_retired_ones_back(small: Yard) -> None:
    small.host.prune(small.store)
    generous = replace(small.host, retention=Policy(min_count=4, min_age=timedelta(0)))

    report = generous.prune(small.store)

    assert [each[5:13] for each in report.revived] == ["00000002", "00000003"]
    assert set(states(small.store).values()) == {"live", "retired"}
    small.require_sound()


def test_what_a_heartbeat_names_stays_for_two_hours(small: Yard) -> None:
    first = entries_of(small.store)[0]
    with small.other.running(small.store) as pipeline:
        heartbeat.beat(pipeline, warm=first.id)

    small.host.prune(small.store)
    assert states(small.store)["ckpt-0001"] == "live"

    small.clock.passes(hours=2)
    small.host.prune(small.store)
    assert states(small.store)["ckpt-0001"] == "retired"


def test_bad_ones_go_only_by_an_order(small: Yard) -> None:
    mark_bad(small.store, entries_of(small.store)[1].id)
    small.host.prune(small.store)
    small.clock.passes(days=40)
    small.host.prune(small.store)
    assert states(small.store)["ckpt-0002"] == "bad"

    report = small.host.prune(small.store, bad=True)

    assert len(report.forgotten) == 1
    assert "ckpt-0002" not in states(small.store)
    small.require_sound()
    small.settle()
    small.require_tidy()


def test_a_standby_may_prune_by_hand(small: Yard) -> None:
    report = small.other.prune(small.store)

    assert len(report.retired) == 3
    assert small.host.push_new("ckpt-9", small.store).engine_id == "ckpt-9"


def test_a_preview_tells_what_a_prune_then_does_and_changes_nothing(yard: Yard) -> None:
    before = snapshot(yard.store)
    store = FaultyStore(yard.store)
    with yard.host.running(store) as pipeline:
        told = preview(pipeline)
    assert {call.method for call in store.calls} <= {"get", "walk", "now"}
    assert snapshot(yard.store) == before

    report = yard.host.prune(yard.store)

    assert sorted(told.plan.retire) == report.retired
    assert sorted(told.plan.revive) == report.revived
    assert sorted(told.plan.forget) == report.forgotten
    assert told.refusal is None
    assert [each.checkpoint.seq for each in told.verdicts] == list(range(9, 0, -1))


def test_a_preview_tells_of_what_would_be_refused(disk: Path) -> None:
    yard = with_many(disk, 23)

    with yard.host.running(yard.store) as pipeline:
        told = preview(pipeline)

    assert isinstance(told.refusal, Refused)
    assert len(told.plan.retire) == 21


# Much at once


def with_many(disk: Path, number: int) -> Yard:
    yard = Yard.at(disk / "yard")
    yard.push_many(number, hours=0)
    yard.clock.passes(hours=2)
    return yard


def test_a_first_prune_of_more_than_twenty_wants_a_yes(disk: Path) -> None:
    yard = with_many(disk, 23)
    before = snapshot(yard.store)

    for scheduled in (False, True):
        with pytest.raises(Refused) as caught:
            yard.host.prune(yard.store, scheduled=scheduled)
        assert caught.value.exit_code == 13
        assert "21 checkpoints would go at once" in str(caught.value)
        assert snapshot(yard.store) == before

    assert len(yard.host.prune(yard.store, insist=True).retired) == 21


def test_a_first_prune_of_twenty_wants_none(disk: Path) -> None:
    yard = with_many(disk, 22)

    assert len(yard.host.prune(yard.store).retired) == 20


def test_many_go_without_a_yes_by_the_rules_of_the_last_time(disk: Path) -> None:
    yard = Yard.at(disk / "yard")
    yard.push_many(2)
    yard.host.prune(yard.store)
    for number in range(3, 27):
        yard.push_new(f"ckpt-{number:04}", hours=0)
    yard.clock.passes(hours=2)

    assert len(yard.host.prune(yard.store).retired) == 24


def test_a_policy_that_was_changed_wants_a_yes_again(disk: Path) -> None:
    yard = with_many(disk, 30)
    generous = replace(yard.host, retention=Policy(min_count=30, min_age=timedelta(hours=1)))
    generous.prune(yard.store)

    with pytest.raises(Refused, match="min_count 30"):
        yard.host.prune(yard.store)

    yard.host.prune(yard.store, insist=True)
    yard.host.prune(yard.store)
    assert yard.head.policy == KEEP_TWO.record()


# Whose job it is


def test_a_standby_does_not_prune_unasked(small: Yard) -> None:
    before = snapshot(small.store)

    with pytest.raises(ForeignWriter):
        small.other.prune(small.store, scheduled=True)

    assert snapshot(small.store) == before


def test_a_released_node_does_not_prune_unasked_but_may_by_hand(small: Yard) -> None:
    head = small.head
    writer = head.writer.model_copy(update={"state": "released", "released_to": "host-b"})
    edit_head(small.store, writer=writer)
    before = snapshot(small.store)

    with pytest.raises(Fenced):
        small.host.prune(small.store, scheduled=True)
    assert snapshot(small.store) == before

    assert small.host.prune(small.store).retired


@pytest.mark.parametrize(
    ("role", "error"),
    [
        (Role.FENCED, Fenced),
        (Role.STOPPED, Stopped),
        (Role.DIVERGED, Diverged),
        (Role.UNFENCED, Diverged),
    ],
)
@pytest.mark.parametrize("scheduled", [False, True], ids=["by hand", "scheduled"])
def test_a_node_that_waits_for_its_operator_prunes_nothing(
    small: Yard, role: Role, error: type[CkptsyncError], scheduled: bool
) -> None:
    with small.host.running(small.store) as pipeline:
        roles.become(pipeline, role, reason="a test")
    before = snapshot(small.store)
    store = FaultyStore(small.store)

    with pytest.raises(error) as caught:
        small.host.prune(store, scheduled=scheduled, insist=True)

    assert caught.value.exit_code == 11
    assert snapshot(small.store) == before
    assert store.calls == []


def test_a_bucket_that_went_back_is_pruned_by_nobody_who_knows_better(small: Yard) -> None:
    older = copy_of(small.store) if isinstance(small.store, MemoryStore) else None
    assert older is not None
    small.push_new("ckpt-0006")

    with pytest.raises(RollbackDetected) as caught:
        small.host.prune(older, insist=True)

    assert caught.value.exit_code == 11


def test_an_empty_bucket_is_nothing_to_prune(disk: Path) -> None:
    yard = Yard.at(disk / "yard")

    report = yard.host.prune(yard.store)
    with yard.host.running(yard.store) as pipeline:
        found = preview(pipeline)

    assert report.idle
    assert report.live == 0
    assert found.verdicts == ()
    assert found.refusal is None
    assert yard.host.unkeep(yard.store, "x").checkpoint is None
    with pytest.raises(CheckpointNotFound):
        yard.host.keep(yard.store, "latest")
    assert snapshot(yard.store) == {}


def test_a_primary_that_was_displaced_tidies_nothing_up(small: Yard) -> None:
    take_over(small.store)
    before = snapshot(small.store)

    for act in (
        lambda: small.host.prune(small.store),
        lambda: small.host.keep(small.store, "latest"),
        lambda: small.host.unkeep(small.store, "x"),
    ):
        with pytest.raises(Fenced):
            act()

    with small.host.running(small.store) as pipeline:
        assert isinstance(preview(pipeline).refusal, Fenced)
    assert snapshot(small.store) == before


def test_a_preview_finds_the_orphans_that_a_prune_then_deletes(small: Yard) -> None:
    orphans = small.leave_orphans()
    small.clock.passes(hours=25)
    before = snapshot(small.store)

    with small.host.running(small.store) as pipeline:
        found = preview(pipeline, orphans=True)
    assert snapshot(small.store) == before
    report = small.host.prune(small.store, orphans=True)

    assert found.orphans is not None
    assert report.swept.orphans is not None
    assert found.orphans.amount == report.swept.orphans.amount
    assert found.orphans.amount.objects == len(orphans)


def test_pruning_changes_nothing_on_the_disk_of_the_engine(small: Yard) -> None:
    small.host.restore(small.store, wanted("ckpt-0002"))
    before = {path.name for path in small.host.root.iterdir()}

    small.host.prune(small.store)

    assert {path.name for path in small.host.root.iterdir()} == before


def test_a_primary_that_went_back_to_a_retired_checkpoint_goes_on_from_there(small: Yard) -> None:
    small.host.prune(small.store)
    assert states(small.store)["ckpt-0002"] == "retired"
    small.host.go_back_to("ckpt-0002", small.store)

    again = small.host.push(small.store)
    small.clock.passes(hours=1)
    entry = small.push_new("ckpt-0002b")

    assert entry.timeline == 2
    seen = small.require_sound()
    assert seen.head.latest == entry.id
    assert again.entry.engine_id == "ckpt-0002"
    into_pages(small.store)
    small.host.prune(small.store)
    small.settle()
    small.require_sound()
    small.require_all_restore()
    small.require_tidy()


def test_what_was_held_against_a_scheduled_prune_is_asked_about_once_an_hour(small: Yard) -> None:
    edit_head(small.store, policy={"rebuilt": True})
    with pytest.raises(Refused):
        small.host.prune(small.store, scheduled=True)

    store = FaultyStore(small.store)
    assert small.host.prune(store, scheduled=True).put_off
    assert store.calls == []

    small.clock.passes(hours=1)
    with pytest.raises(Refused):
        small.host.prune(small.store, scheduled=True)
    assert small.host.prune(small.store, insist=True).retired
    assert not small.host.prune(small.store, scheduled=True).put_off
