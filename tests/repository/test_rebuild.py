"""Heads made of what manifests say."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.model import CheckpointId
from ckptsync.repository import anew, catalog, keys, rebuild
from ckptsync.repository import head as heads
from ckptsync.repository.anew import COUNTED, Known
from ckptsync.repository.claim import Claimant
from ckptsync.repository.files import Files
from ckptsync.repository.head import Fork, Head, Sweep, Timeline
from ckptsync.repository.manifest import Header
from ckptsync.repository.rebuild import Found
from ckptsync.repository.timelines import latest_fault
from tests.repository.samples import DESCRIPTOR, NOW, a_head, a_manifest, an_entry, an_id

BY = Claimant(node="host-b", node_id="nb", instance="ib", request=None)
FIRST = Timeline(id=1, epoch=1, node="host-1", reason="create", at=DESCRIPTOR.created_at)


def a_found(
    seq: int,
    *,
    timeline: int = 1,
    parent: CheckpointId | None = None,
    epoch: int = 1,
    generation: int = 0,
) -> Found:
    entry = an_entry(seq, timeline=timeline).model_copy(update={"epoch": epoch})
    return Found(entry=entry, parent=parent, node=f"host-{timeline}", generation=generation)


def recovered(found: Sequence[Found], whole: Sequence[Found] | None = None) -> Head:
    head = rebuild.recovered(
        DESCRIPTOR, found, found if whole is None else whole, anew.active(BY, NOW)
    )
    assert heads.decode(head.model_dump_json().encode(), "what was recovered") == head
    latest = head.entry(head.latest) if head.latest else None
    assert latest_fault(head, latest) is None
    return head


def test_checkpoints_of_one_timeline_are_named_in_order() -> None:
    found = [a_found(seq, parent=an_id(seq - 1) if seq > 1 else None) for seq in (3, 1, 2)]

    head = recovered(found)

    assert head.checkpoints == tuple(an_entry(seq) for seq in (1, 2, 3))
    assert (head.latest, head.next_seq, head.timeline) == (an_id(3), 4, 1)
    assert head.timelines == (FIRST,)


def test_hundreds_are_spilled_into_the_pages_that_commits_would_have_made() -> None:
    head, pages = recovered([a_found(seq) for seq in range(1, 1101)]), []

    while (spill := catalog.spill(head, DESCRIPTOR.hash)) is not None:
        head = spill.head
        pages = [(page.seq, page.count) for page in head.pages]

    assert pages == [((1, 256), 256), ((257, 512), 256), ((513, 768), 256)]
    assert len(head.checkpoints) == 332


def test_a_timeline_begins_where_its_first_checkpoint_says() -> None:
    found = [
        a_found(1),
        a_found(2, parent=an_id(1)),
        a_found(3, timeline=4, parent=an_id(1), epoch=3),
        a_found(4, timeline=4, parent=an_id(3, timeline=4), epoch=5, generation=7),
    ]

    head = recovered(found)

    assert head.latest == an_id(4, timeline=4)
    assert (head.timeline, head.epoch, head.sweep) == (4, 5, Sweep(generation=7))
    old, new = head.timelines
    assert old == FIRST
    assert (new.id, new.epoch, new.parent) == (4, 3, Fork(timeline=1, checkpoint=an_id(1)))
    assert new.node == "host-4"


def test_a_timeline_whose_beginning_is_gone_begins_at_the_newest_that_is_left_of_older_ones() -> (
    None
):
    left = a_found(9, timeline=4, parent=an_id(8, timeline=4))
    found = [a_found(1), a_found(5, timeline=2, parent=an_id(1)), a_found(3), left]

    head = recovered(found)

    assert head.timelines[-1].parent == Fork(timeline=2, checkpoint=an_id(5, timeline=2))
    assert head.latest == an_id(9, timeline=4)
    assert recovered([left]).timelines[-1].parent is None


def test_a_timeline_that_began_at_nothing_still_does() -> None:
    head = recovered([a_found(1), a_found(7, timeline=2)])

    assert head.timelines[-1].parent is None


def test_a_rebuilt_head_says_so_where_others_say_by_which_rules_they_were_pruned() -> None:
    assert recovered([a_found(1)]).policy == {"rebuilt": True}


def test_what_lacks_an_object_tells_of_its_timeline_and_is_not_named() -> None:
    found = [
        a_found(1),
        a_found(2, parent=an_id(1)),
        a_found(3, timeline=2, parent=an_id(1), epoch=9, generation=4),
    ]

    head = recovered(found, found[:2])

    assert head.checkpoints == (an_entry(1), an_entry(2))
    assert (head.epoch, head.sweep.generation, head.timeline) == (9, 4, 2)
    assert head.latest == an_id(1), "where the youngest timeline began, not what it left behind"


def test_where_nothing_is_left_on_the_way_of_the_youngest_timeline_an_older_one_goes_on() -> None:
    found = [a_found(2), a_found(5, timeline=3, parent=an_id(1))]

    head = recovered(found, found[:1])

    assert (head.latest, head.timeline) == (an_id(2), 1)


def test_where_there_is_no_checkpoint_the_head_is_that_of_a_new_repository() -> None:
    head = recovered([])

    assert (head.latest, head.next_seq, head.epoch, head.timelines) == (
        None,
        1,
        1,
        (FIRST.model_copy(update={"node": None}),),
    )


def twin(seq: int, *, epoch: int = 1, minutes: int = 0, name: str = "f") -> Found:
    """Another manifest with the number."""
    entry = an_entry(seq)
    other = CheckpointId(f"{entry.id[:-1]}{name}")
    changes = {"id": other, "epoch": epoch, "at": entry.at + timedelta(minutes=minutes)}
    return Found(entry=entry.model_copy(update=changes), parent=None, node="a", generation=0)


@pytest.mark.parametrize(
    ("rival", "child_of", "wins"),
    [
        (twin(2, minutes=9), an_id(2), an_id(2)),
        (twin(2, minutes=-9), twin(2).entry.id, twin(2).entry.id),
        (twin(2, minutes=-9, epoch=2), None, twin(2).entry.id),
        (twin(2, minutes=1), None, twin(2).entry.id),
        (twin(2, minutes=-1), None, an_id(2)),
        (twin(2), None, twin(2).entry.id),
    ],
    ids=["a parent", "the other is one", "higher epoch", "later", "earlier", "equal but its name"],
)
def test_of_two_with_one_number_the_one_that_was_committed_is_named(
    rival: Found, child_of: CheckpointId | None, wins: CheckpointId
) -> None:
    found = [a_found(1), a_found(2), rival]
    if child_of is not None:
        found.append(a_found(3, parent=child_of))

    for order in (found, found[::-1]):
        assert recovered(order).checkpoints[1].id == wins


def test_what_is_not_whole_any_more_tells_what_came_before_it() -> None:
    rival, child = twin(2, minutes=9), a_found(3, parent=an_id(2))
    found = [a_found(1), a_found(2), rival, child]

    assert recovered(found, found[:3]).checkpoints == (an_entry(1), an_entry(2))


def a_header(**changes: object) -> Header:
    return a_manifest(Files(), seq=7).header.model_copy(update=changes)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (a_header(), None),
        (a_header(parent=an_id(6)), None),
        (a_header(timeline=2), "contradicts the name"),
        (a_header(checkpoint=an_id(0)), "contradicts the name"),
        (a_header(parent=an_id(7)), "follows checkpoint"),
        (a_header(parent=an_id(8)), "follows checkpoint"),
        (a_header(parent=an_id(0)), "follows checkpoint"),
        (a_header(parent=an_id(3, timeline=2)), "follows checkpoint"),
        (a_header(parent=an_id(3, timeline=0)), "follows checkpoint"),
        (a_header(checkpoint=an_id(2**32 - 1)), "no repository comes to"),
        (a_header(checkpoint=an_id(2**31)), "no repository comes to"),
        (a_header(checkpoint=an_id(7, timeline=0xFFFE), timeline=0xFFFE), "no repository comes to"),
        (a_header(epoch=2**63 - 2), "no repository comes to"),
        (a_header(sweep_generation=2**60), "no repository comes to"),
    ],
)
def test_a_manifest_that_makes_no_sense_in_a_head_is_told_apart(
    header: Header, says: str | None
) -> None:
    found = rebuild.fault(header)

    assert found is None if says is None else says in (found or "")


numbers = st.integers(min_value=0, max_value=COUNTED)


@given(revision=numbers, epoch=numbers, generation=numbers, next_seq=st.integers(1, 2**31))
def test_no_number_of_a_head_that_is_taken_anew_is_one_that_was_seen(
    revision: int, epoch: int, generation: int, next_seq: int
) -> None:
    known = Known(revision=revision, epoch=epoch, next_seq=next_seq, generation=generation)
    old = a_head(an_entry(1), an_entry(2))

    new = anew.taken_anew(old, BY, old.checkpoints[-1], known, "repair", NOW)

    assert heads.decode(new.model_dump_json().encode(), "the new head") == new
    assert new.revision > max(revision, old.revision, NOW.timestamp() * 1000 - 1)
    assert new.epoch == max(epoch, old.epoch) + 1
    assert new.sweep.generation > max(generation, NOW.timestamp() * 1000 - 1)
    assert new.next_seq == max(next_seq, 3)
    assert (new.checkpoints, new.latest) == (old.checkpoints, old.latest)
    assert new.timelines[:-1] == old.timelines
    assert new.timelines[-1].parent == Fork(timeline=1, checkpoint=old.latest)
    assert new.timeline == new.timelines[-1].id == 2
    assert (new.writer.node, new.writer.instance, new.writer.state) == ("host-b", "ib", "active")


def test_a_repository_without_a_latest_is_gone_on_from_at_nothing() -> None:
    old = a_head()

    new = anew.taken_anew(old, BY, None, Known(revision=1, epoch=1, next_seq=1), "repair", NOW)

    assert new.timelines[-1].parent == Fork(timeline=1, checkpoint=None)
    assert new.latest is None


def test_the_parts_of_an_id_are_read_from_it() -> None:
    id = keys.checkpoint(timeline=0xABC, seq=0xDEF)

    assert (keys.timeline(id), keys.seq(id)) == (0xABC, 0xDEF)
