"""Names that hold checkpoints back from retention: given, taken away, run out."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from ckptsync.errors import (
    CheckpointNotFound,
    CkptsyncError,
    ConfigError,
    Diverged,
    Fenced,
    IntegrityError,
    Refused,
    Stopped,
    Unavailable,
)
from ckptsync.model import Role
from ckptsync.operations import roles
from ckptsync.operations.keep import KeptAs
from ckptsync.repository import keys
from ckptsync.stores.base import ObjectStore
from tests.fakes.stores import Call, FaultyStore
from tests.operations.actors import LOST, Late, Odd, Verdict
from tests.operations.forgetting import entries_of, into_pages, mark_bad
from tests.operations.prunings import Yard, crashes, meddled, states
from tests.pipelines import snapshot


@pytest.fixture(params=["in head", "in pages"])
def yard(disk: Path, request: pytest.FixtureRequest) -> Yard:
    """Five checkpoints, three of them retired."""
    yard = Yard.at(disk / "yard")
    yard.push_many(5)
    if request.param == "in pages":
        into_pages(yard.store)
    yard.host.prune(yard.store)
    return yard


def keep_the_first(yard: Yard, store: ObjectStore) -> KeptAs:
    return yard.host.keep(store, "ckpt-0001", name="audit")


def names(yard: Yard) -> dict[str, str]:
    """What each name keeps."""
    return {name: keep.checkpoint for name, keep in yard.head.keeps.items()}


def test_keep_brings_a_retired_one_back_and_holds_it_for_years(yard: Yard) -> None:
    kept = keep_the_first(yard, yard.store)

    assert kept.revived
    assert not kept.already
    assert kept.entry.state == "live"
    assert kept.entry.retired_at is None
    assert states(yard.store)["ckpt-0001"] == "live"
    for _ in range(4):
        yard.clock.passes(days=400)
        yard.host.prune(yard.store, orphans=True)
        yard.require_sound()
    assert states(yard.store) == dict.fromkeys(("ckpt-0001", "ckpt-0004", "ckpt-0005"), "live")
    yard.require_all_restore()
    yard.require_tidy()


def test_once_it_is_let_go_it_goes_like_any_other(yard: Yard) -> None:
    first = keep_the_first(yard, yard.store).entry
    yard.clock.passes(days=400)
    yard.host.prune(yard.store)

    assert yard.host.unkeep(yard.store, "audit").checkpoint == first.id

    assert yard.host.prune(yard.store).retired == [first.id]
    yard.clock.passes(hours=25)
    assert yard.host.prune(yard.store).forgotten == [first.id]


def test_a_name_that_runs_out_protects_until_then_and_is_tidied_away(yard: Yard) -> None:
    until = yard.clock.time + timedelta(days=10)
    yard.host.keep(yard.store, "ckpt-0001", name="drill", until=until)
    yard.clock.passes(days=9.9)
    yard.host.prune(yard.store)
    assert states(yard.store)["ckpt-0001"] == "live"

    yard.clock.passes(days=0.2)
    report = yard.host.prune(yard.store)

    assert len(report.retired) == 1
    yard.clock.passes(hours=25)
    yard.host.prune(yard.store)
    assert "ckpt-0001" not in states(yard.store)
    assert yard.head.keeps == {}


def test_one_checkpoint_may_have_several_names(yard: Yard) -> None:
    keep_the_first(yard, yard.store)
    second = yard.host.keep(yard.store, "ckpt-0001", name="other")
    assert not second.already
    assert not second.revived

    yard.host.unkeep(yard.store, "audit")
    yard.clock.passes(days=9)
    yard.host.prune(yard.store)

    assert states(yard.store)["ckpt-0001"] == "live"
    assert set(names(yard)) == {"other"}


def test_without_a_name_it_is_called_by_its_id(yard: Yard) -> None:
    kept = yard.host.keep(yard.store, "latest")

    assert names(yard) == {kept.entry.id: kept.entry.id}
    assert yard.host.keep(yard.store, kept.entry.id).already


def test_the_same_again_is_said_to_be_so_and_writes_nothing(yard: Yard) -> None:
    keep_the_first(yard, yard.store)
    before = snapshot(yard.store)

    again = keep_the_first(yard, yard.store)

    assert again.already
    assert snapshot(yard.store) == before


def test_the_same_name_for_longer_replaces_what_it_said(yard: Yard) -> None:
    until = yard.clock.time + timedelta(days=1)
    yard.host.keep(yard.store, "ckpt-0001", name="audit", until=until)

    assert not keep_the_first(yard, yard.store).already

    assert yard.head.keeps["audit"].until is None


def test_a_name_that_keeps_another_is_refused_until_that_has_run_out(yard: Yard) -> None:
    until = yard.clock.time + timedelta(days=1)
    yard.host.keep(yard.store, "ckpt-0005", name="audit", until=until)
    before = snapshot(yard.store)

    with pytest.raises(Refused) as caught:
        keep_the_first(yard, yard.store)

    assert caught.value.exit_code == 13
    assert snapshot(yard.store) == before
    yard.clock.passes(days=1)
    assert keep_the_first(yard, yard.store).revived


def test_what_was_found_damaged_is_not_kept(yard: Yard) -> None:
    mark_bad(yard.store, entries_of(yard.store)[0].id)
    before = snapshot(yard.store)

    with pytest.raises(Refused, match="found damaged") as caught:
        keep_the_first(yard, yard.store)

    assert caught.value.exit_code == 13
    assert snapshot(yard.store) == before


def test_a_time_that_has_passed_by_the_clock_of_the_store_is_refused(yard: Yard) -> None:
    """Whoever asked has looked at another clock."""
    before = snapshot(yard.store)

    with pytest.raises(Refused, match="has passed"):
        yard.host.keep(yard.store, "ckpt-0001", name="audit", until=yard.clock.time)

    assert snapshot(yard.store) == before


@pytest.mark.parametrize("name", ["", ".hidden", "a b", "a/b", "é", "a\n", "x" * 65, "-x"])
def test_what_is_no_name_is_refused_whoever_asks(yard: Yard, name: str) -> None:
    before = snapshot(yard.store)

    with pytest.raises(ConfigError, match="is no name") as caught:
        yard.host.keep(yard.store, "ckpt-0001", name=name)

    assert caught.value.exit_code == 2
    assert snapshot(yard.store) == before


def test_what_is_not_there_is_not_kept(yard: Yard) -> None:
    before = snapshot(yard.store)

    with pytest.raises(CheckpointNotFound):
        yard.host.keep(yard.store, "ckpt-0099")

    assert snapshot(yard.store) == before


def test_letting_go_of_a_name_that_nothing_has_changes_nothing(yard: Yard) -> None:
    before = snapshot(yard.store)

    assert yard.host.unkeep(yard.store, "nobody").checkpoint is None

    assert snapshot(yard.store) == before


def test_a_standby_may_keep_too(yard: Yard) -> None:
    assert yard.other.keep(yard.store, "ckpt-0001", name="audit").revived
    assert yard.push_new("ckpt-0006").engine_id == "ckpt-0006"
    yard.require_sound()


@pytest.mark.parametrize(
    ("role", "error"),
    [
        (Role.FENCED, Fenced),
        (Role.STOPPED, Stopped),
        (Role.DIVERGED, Diverged),
        (Role.UNFENCED, Diverged),
    ],
)
def test_a_node_that_waits_for_its_operator_keeps_and_lets_go_nothing(
    yard: Yard, role: Role, error: type[CkptsyncError]
) -> None:
    keep_the_first(yard, yard.store)
    with yard.host.running(yard.store) as pipeline:
        roles.become(pipeline, role, reason="a test")
    before = snapshot(yard.store)

    with pytest.raises(error):
        yard.host.keep(yard.store, "ckpt-0002")
    with pytest.raises(error):
        yard.host.unkeep(yard.store, "audit")

    assert snapshot(yard.store) == before


def test_in_a_damaged_page_nothing_is_looked_for(disk: Path) -> None:
    yard = Yard.at(disk / "yard")
    yard.push_many(3)
    into_pages(yard.store)
    yard.store.put(yard.head.pages[0].key, b"rot")

    with pytest.raises(IntegrityError):
        yard.host.keep(yard.store, "ckpt-0001")


# Replies that are lost, crashes, others


def test_a_keep_whose_reply_is_lost_is_reported_as_done_and_not_as_there_before(
    yard: Yard,
) -> None:
    odd = Odd(yard.store, _lost_at_the_swap)

    kept = keep_the_first(yard, odd)

    assert kept.revived
    assert not kept.already
    assert sum(call == _SWAP for call in odd.calls) == 1
    assert set(names(yard)) == {"audit"}


def test_a_keep_that_is_carried_out_late_is_reported_as_done(yard: Yard) -> None:
    kept = keep_the_first(yard, Late(yard.store))

    assert kept.revived
    assert not kept.already
    assert states(yard.store)["ckpt-0001"] == "live"
    yard.require_sound()


@pytest.mark.parametrize("make", [Late, lambda store: Odd(store, _lost_at_the_swap)])
def test_an_unkeep_whose_reply_is_lost_or_late_tells_what_was_kept(
    yard: Yard, make: Callable[[ObjectStore], ObjectStore]
) -> None:
    first = keep_the_first(yard, yard.store).entry

    let_go = yard.host.unkeep(make(yard.store), "audit")

    assert let_go.checkpoint == first.id
    assert yard.head.keeps == {}


_SWAP = Call("put", keys.HEAD)


def _lost_at_the_swap(_number: int, call: Call) -> Verdict:
    return LOST if call == _SWAP else None


def test_a_crash_at_any_call_of_a_keep_leaves_it_done_or_undone(yard: Yard, disk: Path) -> None:
    crashed = 0

    for left in crashes(yard, disk, keep_the_first):
        crashed += 1
        left.require_sound()
        assert (states(left.store)["ckpt-0001"] == "live") == ("audit" in names(left))

        keep_the_first(left, left.store)

        assert states(left.store)["ckpt-0001"] == "live"
        left.settle()
        left.require_sound()
        left.require_all_restore()
        left.require_tidy()

    assert crashed >= 5


def test_a_keep_of_what_is_forgotten_meanwhile_tells_that_it_is_gone(
    yard: Yard, disk: Path
) -> None:
    gone = 0

    def forget(left: Yard) -> None:
        left.clock.passes(hours=25)
        left.other.prune(left.store)
        assert "ckpt-0001" not in states(left.store)

    for left, outcome in meddled(yard, disk, keep_the_first, forget):
        left.require_sound()
        gone += 1
        assert isinstance(outcome, CheckpointNotFound), repr(outcome)
        assert "audit" not in names(left)

    assert gone >= 5


def test_a_keep_at_any_call_of_the_prune_that_would_forget_it_holds_or_is_too_late(
    yard: Yard, disk: Path
) -> None:
    held = late = 0
    yard.clock.passes(hours=25)
    told: dict[Path, KeptAs | CkptsyncError] = {}

    def keep(left: Yard) -> None:
        try:
            told[left.home] = left.other.keep(left.store, "ckpt-0001", name="audit")
        except CheckpointNotFound as error:
            told[left.home] = error

    for left, outcome in meddled(yard, disk, lambda each, store: each.host.prune(store), keep):
        assert not isinstance(outcome, CkptsyncError), repr(outcome)
        left.require_sound()
        if isinstance(told[left.home], KeptAs):
            held += 1
            left.settle()
            assert states(left.store)["ckpt-0001"] == "live"
            left.require_all_restore()
        else:
            late += 1
            assert "ckpt-0001" not in states(left.store)
            assert "audit" not in names(left)

    assert held >= 5
    assert late >= 2


def test_a_keep_without_the_store_is_no_keep(yard: Yard) -> None:
    store = FaultyStore(yard.store, fail_at={0: Unavailable("s3", "read", "head.json", "503")})

    with pytest.raises(Unavailable):
        keep_the_first(yard, store)

    assert names(yard) == {}
