"""What head becomes as the bucket passes from one writer to another."""

from datetime import timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import Fenced
from ckptsync.model import CheckpointId
from ckptsync.repository import claim, epochs, timelines
from ckptsync.repository.claim import Claimant
from ckptsync.repository.head import Fork, Head, Timeline, decode, encode
from tests.repository.samples import NOW, a_head, an_entry, an_id

B: Final = Claimant(node="host-b", node_id="b", instance="of-b", request="r")
LATER: Final = NOW + timedelta(hours=1)
HEAD: Final = a_head(an_entry(1), an_entry(2), an_entry(3))


def claimed(head: Head = HEAD, by: Claimant = B) -> Head:
    latest = head.entry(head.latest) if head.latest else None
    return claim.claimed(head, by, latest, "activate: a drill", LATER)


def fault(head: Head) -> str | None:
    return timelines.latest_fault(head, head.entry(head.latest) if head.latest else None)


def test_a_claim_raises_the_epoch_and_begins_a_timeline_at_the_latest() -> None:
    head = claimed()

    assert head.epoch == HEAD.epoch + 1
    assert head.timeline == 2
    forked = head.timelines[-1]
    assert (forked.id, forked.epoch, forked.reason, forked.at) == (
        2, head.epoch, "activate: a drill", LATER,
    )  # fmt: skip
    assert forked.parent is not None
    assert (forked.parent.timeline, forked.parent.checkpoint) == (1, an_id(3))
    assert (head.writer.node, head.writer.instance, head.writer.request) == ("host-b", "of-b", "r")
    assert (head.writer.state, head.writer.since) == ("activating", LATER)
    assert (head.latest, head.checkpoints, head.next_seq) == (
        HEAD.latest, HEAD.checkpoints, HEAD.next_seq,
    )  # fmt: skip
    assert fault(head) is None


def confirmed(head: Head, restored: CheckpointId | None) -> Head:
    """Where no page has anything."""
    return claim.confirmed(head, restored, reversed(head.checkpoints))


def test_nobody_commits_while_the_writer_is_activating() -> None:
    with pytest.raises(Fenced):
        epochs.require_instance(claimed(), "i", "s3://dr/orders")
    epochs.require_instance(claimed(), "of-b", "s3://dr/orders")


def test_a_claim_on_an_empty_repository_has_nothing_to_go_on_from() -> None:
    head = confirmed(claimed(a_head()), None)

    assert head.latest is None
    assert head.timelines[-1].parent is not None
    assert head.timelines[-1].parent.checkpoint is None
    assert fault(head) is None


def test_a_claim_that_goes_on_takes_the_next_epoch_on_the_same_timeline() -> None:
    first = claimed()
    again = Claimant(node="host-b", node_id="b", instance="of-b-again", request="r")

    head = claim.reclaimed(first, again, LATER)

    assert head.epoch == first.epoch + 1
    assert (head.timeline, head.timelines) == (first.timeline, first.timelines)
    assert (head.writer.instance, head.writer.state) == ("of-b-again", "activating")


def test_confirming_what_was_the_latest_changes_the_state_alone() -> None:
    first = claimed()

    head = confirmed(first, an_id(3))

    writer = first.writer.model_copy(update={"state": "active"})
    assert head == first.model_copy(update={"writer": writer})


def test_confirming_an_older_one_records_where_the_timeline_really_goes_on() -> None:
    first = claimed()

    head = confirmed(first, an_id(1))

    assert head.latest == an_id(1)
    assert head.timelines[-1].parent is not None
    assert head.timelines[-1].parent.checkpoint == an_id(1)
    assert head.timelines[:-1] == first.timelines[:-1]
    assert head.checkpoints == first.checkpoints
    assert fault(head) is None
    assert claim.behind(first.latest, head.latest) == 2


def test_confirming_what_is_not_live_any_more_leaves_the_newest_before_it_the_latest() -> None:
    states = ("live", "retired", "live")
    changed = tuple(
        each.model_copy(update={"state": state})
        for each, state in zip(HEAD.checkpoints, states, strict=True)
    )
    first = claimed(HEAD.model_copy(update={"checkpoints": changed}))

    head = confirmed(first, an_id(2))

    assert head.latest == an_id(1)
    assert head.timelines[-1].parent is not None
    assert head.timelines[-1].parent.checkpoint == an_id(2)
    assert fault(head) is None


def test_confirming_what_was_forgotten_records_it_all_the_same() -> None:
    """By its name the checkpoints before it are still known to lie behind."""
    first = claimed(HEAD.model_copy(update={"checkpoints": HEAD.checkpoints[::2]}))

    head = confirmed(first, an_id(2))

    assert head.timelines[-1].parent == Fork(timeline=1, checkpoint=an_id(2))
    assert head.latest == an_id(1)
    assert fault(head) is None


def test_confirming_what_was_forgotten_with_all_before_it_leaves_no_latest() -> None:
    first = claimed(HEAD.model_copy(update={"checkpoints": HEAD.checkpoints[2:]}))

    head = confirmed(first, an_id(2))

    assert head.latest is None
    assert fault(head) is None


@pytest.mark.parametrize("unknown", [an_id(4), an_id(2, timeline=9)])
def test_confirming_what_head_cannot_have_named_begins_at_nothing(unknown: CheckpointId) -> None:
    """It is of a history that the bucket went back from."""
    head = confirmed(claimed(), unknown)

    assert head.timelines[-1].parent is not None
    assert head.timelines[-1].parent.checkpoint is None
    assert head.latest is None


def test_the_newest_before_it_may_lie_in_a_page() -> None:
    paged, *others = HEAD.checkpoints
    first = claimed(HEAD.model_copy(update={"checkpoints": tuple(others)}))
    gone = others[0].model_copy(update={"state": "bad"})

    head = claim.confirmed(first, gone.id, iter((others[1], gone, paged)))

    assert head.latest == paged.id


def test_nothing_is_left_behind_by_a_fork_at_what_is_newer_than_the_latest() -> None:
    assert claim.behind(an_id(2), an_id(3)) == 0
    assert claim.behind(None, an_id(3)) == 0


def test_confirming_what_the_bucket_never_had_begins_a_timeline_of_its_own() -> None:
    head = confirmed(claimed(), None)

    assert head.latest is None
    assert fault(head) is None
    assert claim.behind(HEAD.latest, None) == 3


def test_what_is_released_can_be_taken_back_as_it_was() -> None:
    released = claim.released(HEAD, "host-b")

    assert (released.writer.state, released.writer.released_to) == ("released", "host-b")
    assert claim.taken_back(released) == HEAD


def test_a_claim_of_what_was_released_leaves_nothing_of_the_release() -> None:
    head = claimed(claim.released(HEAD, "host-b"))

    assert head.writer.released_to is None


@given(st.lists(st.sampled_from(["claim", "reclaim", "confirm", "older", "release"]), max_size=30))
def test_the_epoch_never_goes_down_and_head_stays_sound(steps: list[str]) -> None:
    head = HEAD
    for number, step in enumerate(steps):
        by = Claimant(node="n", node_id="n", instance=f"i{number}", request=None)
        before = head
        match step:
            case "claim":
                head = claimed(head, by)
            case "reclaim":
                head = claim.reclaimed(head, by, LATER)
            case "confirm":
                head = confirmed(head, head.latest)
            case "older":
                older = [each for each in head.checkpoints if each.seq == 1]
                on_path = timelines.on_path(older[0], timelines.path(head))
                head = confirmed(head, older[0].id) if on_path else head
            case _:
                head = claim.released(head, "somebody")
        assert head.epoch == before.epoch + (step in {"claim", "reclaim"})
        assert fault(head) is None
        assert decode(encode(head), "head") == head


def test_timelines_are_numbered_on() -> None:
    twice = claimed(confirmed(claimed(), an_id(3)))

    assert [each.id for each in twice.timelines] == [1, 2, 3]
    assert isinstance(twice.timelines[-1], Timeline)
