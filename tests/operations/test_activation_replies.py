"""Swaps of an activation whose answer gets lost, comes late, or never comes."""

from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import (
    AccessDenied,
    CannotTell,
    CkptsyncError,
    Contention,
    Fenced,
    PreconditionFailed,
    Unavailable,
)
from ckptsync.model import Role
from ckptsync.repository import keys
from ckptsync.state.activation import Stage
from ckptsync.stores.base import ObjectStore
from tests.fakes.stores import Call
from tests.operations.actors import LOST, Late, Odd, Stored, Verdict
from tests.operations.races import READ, SWAP, unavailable
from tests.operations.takeovers import Site

CLAIM, CONFIRM = 0, 1
_SWAPS: Final = pytest.mark.parametrize("swap", [CLAIM, CONFIRM], ids=["claim", "confirm"])
_REFUSED: Final = PreconditionFailed("s3://dr/orders", "replace", keys.HEAD, "it has changed")
_RACING: Final = Contention("s3://dr/orders", "replace", keys.HEAD, "409")


@pytest.fixture
def site(disk: Path) -> Site:
    site = Site.at(disk)
    site.push_new(site.a)
    site.b.probe(site.store)
    return site


def odd(
    store: ObjectStore, swap: int, verdict: Verdict, *, then: CkptsyncError | None = None
) -> Odd:
    """One swap of head is answered like that; after it `then` is the answer to everything."""
    swaps = 0

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swaps
        if call == SWAP:
            swaps += 1
            return verdict if swaps == swap + 1 else None if swaps <= swap else then
        return then if swaps > swap else None

    return Odd(store, decide)


def require_taken_over(site: Site) -> None:
    assert site.b.role is Role.PRIMARY
    assert site.b.writes_to(site.store)
    assert [timeline.id for timeline in site.head.timelines] == [1, 2]
    site.require_restored(site.b, site.acknowledged[-1].engine_id)
    site.push_new(site.b)
    with pytest.raises(Fenced):
        site.push_new(site.a)
    site.require_sound()


@_SWAPS
@pytest.mark.parametrize(
    "verdict", [LOST, unavailable(SWAP), Stored(_REFUSED), _REFUSED, _RACING], ids=str
)
def test_whatever_the_answer_to_a_swap_the_node_is_primary_in_the_end(
    site: Site, swap: int, verdict: Verdict
) -> None:
    report = site.b.activate(odd(site.store, swap, verdict))

    assert report.epoch == 2
    require_taken_over(site)


@_SWAPS
def test_a_swap_that_arrives_after_it_was_missed_counts(site: Site, swap: int) -> None:
    late = Late(site.store, swap=swap)

    report = site.b.activate(late)

    assert late.calls.count(SWAP) == 2, "one to claim and one to confirm"
    assert report.epoch == 2
    require_taken_over(site)


@_SWAPS
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    "then",
    [unavailable(READ), AccessDenied("s3://dr/orders", "read", keys.HEAD, "ExpiredToken")],
    ids=["unavailable", "denied"],
)
def test_an_activation_of_which_nobody_can_tell_is_gone_on_with(
    site: Site, swap: int, stored: bool, then: CkptsyncError
) -> None:
    verdict: Verdict = LOST if stored else unavailable(SWAP)

    with pytest.raises(CannotTell) as caught:
        site.b.activate(odd(site.store, swap, verdict, then=then))

    assert caught.value.exit_code == 16
    assert site.b.role is (Role.STANDBY if swap == CLAIM else Role.ACTIVATION_FAILED)
    with site.b.running(site.store) as pipeline:
        unfinished = pipeline.state.activations.unfinished()
        assert unfinished is not None
        assert unfinished.stage is (Stage.FENCING if swap == CLAIM else Stage.PUBLISHED)
    site.require_sound()

    assert site.b.activate(site.store).role is Role.PRIMARY

    require_taken_over(site)


@pytest.mark.parametrize("stored", [True, False])
def test_a_start_finds_out_whether_a_claim_was_stored(site: Site, stored: bool) -> None:
    verdict: Verdict = LOST if stored else unavailable(SWAP)
    with pytest.raises(CannotTell):
        site.b.activate(odd(site.store, CLAIM, verdict, then=unavailable(READ)))

    assert site.b.start(site.store) is (Role.ACTIVATING if stored else Role.STANDBY)

    with site.b.running(site.store) as pipeline:
        assert (pipeline.state.activations.unfinished() is not None) is stored


def test_a_claim_that_was_lost_to_another_node_is_given_up(site: Site) -> None:
    with pytest.raises(CannotTell):
        site.b.activate(odd(site.store, CLAIM, LOST, then=unavailable(READ)))
    site.c.activate(site.store, "by-c", force=True)

    assert site.b.start(site.store) is Role.STANDBY

    site.c.beat(site.store)
    site.require_sound()
    assert site.b.poll(site.store).warm is not None


def test_a_bucket_that_goes_away_before_the_claim_is_made_anew_leaves_it_open(site: Site) -> None:
    """The swap was not answered, and head could be read once more: it may still be on its way."""
    swapped = looked = 0

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swapped, looked
        if call == SWAP:
            swapped += 1
            return unavailable(call)
        looked += swapped and call == READ
        return unavailable(call) if looked > 1 else None

    with pytest.raises((CannotTell, Unavailable)):
        site.b.activate(Odd(site.store, decide))

    marker = site.b.activation
    assert marker is not None
    assert marker.stage is Stage.FENCING
    assert site.b.activate(site.store).role is Role.PRIMARY
    require_taken_over(site)


def test_a_claim_on_its_way_is_not_given_up_for_a_sign_of_life(site: Site) -> None:
    """The guard judges a head once; the swap that follows may be stored at any later time."""
    late = Late(site.store)
    swapped = False

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swapped
        if call == SWAP and not swapped:
            swapped = True
            site.a.beat(site.store)
        return None

    report = site.b.activate(Odd(late, decide))

    assert report.epoch == 2
    require_taken_over(site)


def test_a_guarded_claim_that_was_not_stored_is_tried_again_on_the_same_head(site: Site) -> None:
    swaps = 0

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swaps
        if call != SWAP:
            return None
        swaps += 1
        site.a.beat(site.store)
        return unavailable(call) if swaps == 1 else None

    assert site.b.activate(Odd(site.store, decide)).role is Role.PRIMARY
