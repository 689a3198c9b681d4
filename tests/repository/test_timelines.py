"""The way of the active timeline, and what may be called the latest, as tables."""

from collections.abc import Iterator
from typing import Literal

import pytest

from ckptsync.model import CheckpointId
from ckptsync.repository.head import Entry, Fork, Head, Timeline
from ckptsync.repository.timelines import (
    fork,
    latest_fault,
    newest_live,
    on_path,
    path,
    with_latest,
)
from tests.repository.samples import NOW, a_head, an_entry, an_id

Forks = tuple[tuple[int, int, int], ...]
"""Each a timeline, the one that it came from, and the seq that it came from."""


def a_forked_head(
    latest: Entry | None, forks: Forks = (), *, active: int = 1, entries: tuple[Entry, ...] = ()
) -> Head:
    began = Timeline(id=1, epoch=1, reason="create", at=NOW)
    forked = [
        Timeline(
            id=new,
            parent=Fork(timeline=old, checkpoint=an_id(seq, timeline=old)),
            epoch=1,
            reason="pull",
            at=NOW,
        )
        for new, old, seq in forks
    ]
    return a_head().model_copy(
        update={
            "timeline": active,
            "latest": None if latest is None else latest.id,
            "next_seq": 100,
            "timelines": (began, *forked),
            "checkpoints": entries,
        }
    )


@pytest.mark.parametrize(
    ("forks", "active", "expected"),
    [
        ((), 1, {1: 99}),
        (((2, 1, 5),), 2, {2: 99, 1: 5}),
        (((2, 1, 5),), 1, {1: 99}),  # the other branch
        (((2, 1, 5), (3, 2, 8)), 3, {3: 99, 2: 8, 1: 5}),
        (((2, 1, 5), (3, 2, 4)), 3, {3: 99, 2: 4, 1: 4}),  # it went back behind the first fork
        (((2, 3, 5), (3, 2, 5)), 3, {3: 99, 2: 5}),  # in a circle
        (((2, 7, 5),), 2, {2: 99}),  # from one that nothing is known of
        ((), 4, {}),
    ],
)
def test_the_path_goes_back_through_the_forks(
    forks: Forks, active: int, expected: dict[int, int]
) -> None:
    assert path(a_forked_head(None, forks, active=active)) == expected


def test_a_timeline_that_began_at_nothing_ends_the_path() -> None:
    second = Timeline(
        id=2, parent=Fork(timeline=1, checkpoint=None), epoch=1, reason="push", at=NOW
    )
    head = a_head(an_entry(3)).model_copy(update={"timeline": 2, "timelines": (second,)})

    assert path(head) == {2: 3}


@pytest.mark.parametrize(
    ("latest", "forks", "active", "sound"),
    [
        (an_entry(9), (), 1, True),
        (an_entry(9, timeline=2), ((2, 1, 5),), 2, True),
        (an_entry(5), ((2, 1, 5),), 2, True),  # the fork point itself
        (an_entry(4), ((2, 1, 5),), 2, True),  # before it: what came later was found bad
        (an_entry(6), ((2, 1, 5),), 2, False),  # what the fork left behind
        (an_entry(9, timeline=2), ((2, 1, 5),), 1, False),  # another branch
        (an_entry(9, timeline=7), (), 1, False),
        (an_entry(3), ((2, 1, 5), (3, 2, 8)), 3, True),
        (an_entry(5), ((2, 1, 3), (3, 2, 8)), 3, False),
        (an_entry(9, timeline=9), ((2, 3, 5), (3, 2, 5)), 3, False),
    ],
)
def test_latest_lies_on_the_path_of_the_active_timeline(
    latest: Entry, forks: Forks, active: int, sound: bool
) -> None:
    head = a_forked_head(latest, forks, active=active)

    assert on_path(latest, path(head)) is sound
    assert (latest_fault(head, latest) is None) is sound


@pytest.mark.parametrize("state", ["retired", "bad"])
def test_latest_is_live(state: Literal["retired", "bad"]) -> None:
    entry = an_entry(1).model_copy(update={"state": state})

    fault = latest_fault(a_forked_head(entry), entry)

    assert fault == f"latest is checkpoint {entry.id}, which is {state}"


def test_latest_exists() -> None:
    fault = latest_fault(a_forked_head(an_entry(1)), None)

    assert fault == f"latest is checkpoint {an_id(1)}, which is not among the checkpoints"


def test_latest_is_null_only_where_no_checkpoint_on_the_path_is_live() -> None:
    bad = an_entry(7).model_copy(update={"state": "bad"})
    left_behind = an_entry(6)
    forks = ((2, 1, 5),)

    fine = a_forked_head(None, forks, active=2, entries=(left_behind, bad))
    forgotten = a_forked_head(None, forks, active=2, entries=(an_entry(4), left_behind, bad))

    assert latest_fault(fine, None) is None
    assert latest_fault(forgotten, None) == f"latest is null, though checkpoint {an_id(4)} is live"


def test_a_fork_at_what_was_forgotten_leads_to_what_was_before_it() -> None:
    head = a_forked_head(None, entries=(an_entry(3),))

    assert fork(head, an_id(7)) == Fork(timeline=1, checkpoint=an_id(7))
    assert path(a_forked_head(None, ((2, 1, 7),), active=2)) == {2: 99, 1: 7}


@pytest.mark.parametrize("unknown", [None, an_id(100), an_id(7, timeline=2)])
def test_a_fork_at_what_was_never_there_begins_at_nothing(unknown: CheckpointId | None) -> None:
    assert fork(a_forked_head(None), unknown) == Fork(timeline=1, checkpoint=None)


def test_the_newest_live_one_is_looked_for_only_as_far_as_it_takes() -> None:
    """Each page that lies further back is a request."""
    retired = an_entry(9).model_copy(update={"state": "retired"})
    beyond = an_entry(8, timeline=3)

    def entries() -> Iterator[Entry]:
        yield from (retired, beyond, an_entry(5))
        pytest.fail("a page was read for nothing")

    head = a_forked_head(None, ((3, 1, 2),))

    assert newest_live(head, entries()) == an_entry(5)
    assert with_latest(head, entries()).latest == an_id(5)
    assert with_latest(head.model_copy(update={"latest": an_id(5)}), ()).latest is None
