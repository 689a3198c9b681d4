"""Prunes, pushes, pulls and takeovers that get in each other's way, at every call of each."""

from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import Busy, CheckpointNotFound, CkptsyncError, Fenced, Unavailable
from ckptsync.operations import orphans
from ckptsync.operations.prune import PruneReport
from ckptsync.operations.push import PushReport
from ckptsync.repository import keys
from ckptsync.repository.head import Entry
from ckptsync.stores.base import ObjectStore
from tests.operations.actors import Odd, take_over
from tests.operations.forgetting import entries_of
from tests.operations.prunings import (
    AFTER_EVERYTHING,
    Sleeping,
    Yard,
    at_the_manifest,
    keys_in,
    meddled,
    states,
    with_everything,
)
from tests.pipelines import contents, wanted

DAY: Final = timedelta(days=1)


@pytest.fixture
def yard(disk: Path) -> Yard:
    return with_everything(disk / "yard")


@pytest.fixture
def pushing(disk: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """Three checkpoints, and a fourth of which a failed try has stored all data two days ago.

    The oldest was retired then, so that it may be forgotten; the second is to be retired. Who
    sweeps spares nothing for being written since the last commit, as others than us may not.
    """
    monkeypatch.setattr(orphans, "_before", lambda _pipeline, _head, _index, now: now - DAY)
    yard = Yard.at(disk / "yard")
    yard.push_many(3)
    yard.host.prune(yard.store)
    yard.write("ckpt-0004")
    with pytest.raises(Unavailable):
        yard.host.push(Odd(yard.store, at_the_manifest))
    yard.clock.passes(days=2)
    return yard


def push(yard: Yard, store: ObjectStore) -> PushReport:
    return yard.host.push(store)


def sweep_by_the_other(yard: Yard, store: ObjectStore | None = None) -> PruneReport:
    """It does not know what host-a has uploaded and means to use."""
    return yard.other.prune(store or yard.store, orphans=True, insist=True)


def require_settled(yard: Yard) -> None:
    yard.require_sound()
    yard.require_all_restore()
    yard.settle()
    yard.require_sound()
    yard.require_tidy()


@pytest.mark.parametrize("who", ["host", "other"])
def test_a_prune_by_another_node_at_any_call_of_a_prune_does_no_harm(
    disk: Path, yard: Yard, who: str
) -> None:
    """Whoever of them does it."""
    busy = 0
    first, second = ("host", "other") if who == "host" else ("other", "host")

    def act(left: Yard, store: ObjectStore) -> PruneReport:
        report: PruneReport = getattr(left, first).prune(store)
        return report

    def meddle(left: Yard) -> PruneReport:
        report: PruneReport = getattr(left, second).prune(left.store)
        return report

    for left, outcome in meddled(yard, disk, act, meddle):
        busy += isinstance(outcome, Busy)
        assert isinstance(outcome, PruneReport | Busy), repr(outcome)
        assert states(left.store) == AFTER_EVERYTHING
        require_settled(left)

    assert busy <= 12, "it is only where one reads what the other has forgotten meanwhile"


def test_a_sweep_that_sleeps_for_a_week_before_it_deletes_harms_no_push(
    disk: Path, pushing: Yard
) -> None:
    """One that began before it was condemned, and those that were made meanwhile."""
    uploaded_again = 0
    sleeping: dict[Path, Sleeping] = {}

    def fall_asleep(left: Yard) -> None:
        sleeping[left.home] = Sleeping(left.store)
        sweep_by_the_other(left, sleeping[left.home])

    for left, outcome in meddled(pushing, disk, push, fall_asleep):
        assert isinstance(outcome, PushReport), outcome
        sleeper = sleeping[left.home]
        uploaded_again += any(key.startswith(keys.CHUNKS) for key in sleeper.doomed)
        for number in range(5, 8):
            left.push_new(f"ckpt-{number:04}", hours=56)
        seen = left.require_sound()

        sleeper.wake()

        left.require_sound(since=seen)
        require_settled(left)

    assert uploaded_again >= 3, "no sweep ever met an upload of the push"


def test_a_sweep_at_any_call_of_a_push_that_holds_old_uploads_deletes_nothing_that_is_committed(
    disk: Path, pushing: Yard
) -> None:
    for left, outcome in meddled(pushing, disk, push, sweep_by_the_other):
        assert isinstance(outcome, PushReport), outcome
        assert outcome.entry.engine_id == "ckpt-0004"
        require_settled(left)


def test_a_push_that_holds_old_uploads_at_any_call_of_a_sweep_commits_nothing_that_is_deleted(
    disk: Path, pushing: Yard
) -> None:
    refused = 0
    before_ = set(keys_in(pushing.store))

    for left, outcome in meddled(
        pushing, disk, sweep_by_the_other, lambda each: push(each, each.store)
    ):
        assert isinstance(outcome, PruneReport), outcome
        assert left.head.latest == entries_of(left.store)[-1].id
        assert entries_of(left.store)[-1].engine_id == "ckpt-0004"
        chunks = {key for key in keys_in(left.store) if key.startswith(keys.CHUNKS)}
        refused += not chunks <= before_
        require_settled(left)

    assert refused >= 2, "the sweep never came first"


def test_a_prune_at_any_call_of_a_push_does_no_harm(disk: Path, yard: Yard) -> None:
    yard.write("ckpt-0010")

    for left, outcome in meddled(yard, disk, push, lambda each: each.other.prune(each.store)):
        assert isinstance(outcome, PushReport), outcome
        assert states(left.store) == {**AFTER_EVERYTHING, "ckpt-0010": "live"}
        require_settled(left)


def test_a_push_at_any_call_of_a_prune_does_no_harm(disk: Path, yard: Yard) -> None:
    yard.write("ckpt-0010")

    def act(left: Yard, store: ObjectStore) -> PruneReport:
        return left.other.prune(store)

    for left, outcome in meddled(yard, disk, act, lambda each: push(each, each.store)):
        assert isinstance(outcome, PruneReport), outcome
        assert states(left.store)["ckpt-0010"] == "live"
        require_settled(left)


@pytest.mark.parametrize("scheduled", [False, True], ids=["by hand", "scheduled"])
def test_a_takeover_at_any_call_of_a_prune_ends_one_that_nobody_asked_for(
    disk: Path, yard: Yard, scheduled: bool
) -> None:
    """By hand one goes on that has begun: anybody may prune. It does no harm."""
    ended = 0
    revisions: dict[Path, int] = {}

    def taken_over(left: Yard) -> None:
        revisions[left.home] = take_over(left.store).revision

    def act(left: Yard, store: ObjectStore) -> PruneReport:
        return left.host.prune(store, scheduled=scheduled)

    for left, outcome in meddled(yard, disk, act, taken_over):
        seen = left.require_sound()
        if scheduled and seen.head.sweep.generation == 0:
            ended += 1
            assert isinstance(outcome, Fenced), outcome
        else:
            assert isinstance(outcome, PruneReport if scheduled else PruneReport | Fenced), outcome
        if scheduled or isinstance(outcome, Fenced):
            assert seen.head.revision == revisions[left.home], "it wrote after that"
        left.require_all_restore()

    assert ended >= 20 if scheduled else not ended


@pytest.fixture
def pulled(disk: Path) -> tuple[Yard, Entry]:
    """A checkpoint that may be forgotten at once, and four that are newer."""
    yard = Yard.at(disk / "yard")
    entries = yard.push_many(5)
    yard.host.prune(yard.store)
    assert states(yard.store)["ckpt-0001"] == "retired"
    return yard, entries[0]


def require_whole_or_untouched(yard: Yard, outcome: object) -> None:
    """What a pull by host-b that ended so has left on its disk."""
    root = yard.other.root
    found = {path.name: dict(contents(path)) for path in root.iterdir()} if root.exists() else {}
    if isinstance(outcome, CkptsyncError):
        assert isinstance(outcome, CheckpointNotFound | Busy), repr(outcome)
        assert found == {}
    else:
        assert len(found) == 1
        assert found == {name: yard.written[name] for name in found}


def test_a_retired_checkpoint_that_goes_at_any_call_of_its_pull_is_restored_or_refused(
    disk: Path, pulled: tuple[Yard, Entry]
) -> None:
    yard, entry = pulled
    kinds: set[str] = set()

    def act(left: Yard, store: ObjectStore) -> object:
        return left.other.restore(store, wanted(entry.id))

    def sweep_it(left: Yard) -> None:
        left.clock.passes(hours=25)
        left.host.prune(left.store)
        assert "ckpt-0001" not in states(left.store)

    for left, outcome in meddled(yard, disk, act, sweep_it):
        require_whole_or_untouched(left, outcome)
        kinds.add(type(outcome).__name__)

    assert kinds == {"Restored", "CheckpointNotFound", "Forgotten"}


def test_a_latest_that_is_displaced_and_swept_at_any_call_of_its_pull_is_no_harm(
    disk: Path, pulled: tuple[Yard, Entry]
) -> None:
    """For days nothing moves in the pull, and meanwhile the bucket is another."""
    yard, _entry = pulled

    def act(left: Yard, store: ObjectStore) -> object:
        return left.other.restore(store)

    def go_on(left: Yard) -> None:
        for number in range(6, 10):
            left.push_new(f"ckpt-{number:04}", hours=30)
            left.host.prune(left.store)
        assert "ckpt-0005" not in states(left.store)

    for left, outcome in meddled(yard, disk, act, go_on):
        require_whole_or_untouched(left, outcome)


@pytest.mark.parametrize("checkpoint", ["ckpt-0002", "ckpt-0005"])
def test_a_prune_that_only_retires_what_is_pulled_stops_no_pull(
    disk: Path, checkpoint: str
) -> None:
    yard = Yard.at(disk / "yard")
    yard.push_many(5)

    def act(left: Yard, store: ObjectStore) -> object:
        return left.other.restore(store, wanted(checkpoint))

    def retire_it(left: Yard) -> None:
        for number in range(6, 9):
            left.push_new(f"ckpt-{number:04}")
        left.host.prune(left.store)
        assert states(left.store)[checkpoint] == "retired"

    for left, outcome in meddled(yard, disk, act, retire_it):
        assert not isinstance(outcome, CkptsyncError), outcome
        require_whole_or_untouched(left, outcome)
