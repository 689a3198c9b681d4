"""What makes sense in a head, as tables."""

from datetime import UTC, datetime

import pytest

from ckptsync.model import CheckpointId
from ckptsync.operations.verify_head import order_faults
from ckptsync.repository.head import Entry, Fork, Head, ManifestRef, Timeline, Writer
from ckptsync.repository.timelines import latest_fault

_AT = datetime(2026, 1, 1, tzinfo=UTC)


def an_id(timeline: int, seq: int) -> CheckpointId:
    return CheckpointId(f"{timeline:04x}-{seq:08x}-{'0' * 12}")


def an_entry(
    seq: int, *, timeline: int = 1, state: str = "live", named: int | None = None
) -> Entry:
    return Entry.model_validate(
        {
            "id": an_id(timeline, seq if named is None else named),
            "seq": seq,
            "timeline": timeline,
            "epoch": 1,
            "engine_id": f"ckpt-{seq}",
            "step": str(seq),
            "at": _AT,
            "manifest": ManifestRef(digest="0" * 64, size=1),
            "bytes": 1,
            "new_bytes": 1,
            "state": state,
        }
    )


def a_head(latest: Entry | None, *forks: tuple[int, int, int], active: int = 1) -> Head:
    """Each fork is a timeline, the one that it came from, and the seq it came from."""
    began = [Timeline(id=1, epoch=1, reason="create", at=_AT)]
    forked = [
        Timeline(
            id=new,
            parent=Fork(timeline=old, checkpoint=an_id(old, seq)),
            epoch=1,
            reason="pull",
            at=_AT,
        )
        for new, old, seq in forks
    ]
    writer = Writer(node="a", node_id="n", instance="i", write_id="w", since=_AT)
    return Head(
        repository_id="r",
        revision=1,
        write_id="w",
        epoch=1,
        writer=writer,
        timeline=active,
        latest=None if latest is None else latest.id,
        next_seq=100,
        timelines=(*began, *forked),
    )


@pytest.mark.parametrize(
    ("seqs", "faults"),
    [
        ((), 0),
        ((1,), 0),
        ((1, 2, 9, 99), 0),
        ((2, 1), 1),
        ((1, 1), 1),
        ((1, 3, 2, 4), 1),
        ((99, 100), 1),
    ],
)
def test_seqs_increase_up_to_the_next(seqs: tuple[int, ...], faults: int) -> None:
    assert len(list(order_faults([an_entry(seq) for seq in seqs], 100))) == faults


def test_an_id_and_its_seq_agree() -> None:
    (fault,) = order_faults([an_entry(5, named=6)], 100)
    assert "has seq 5, which its id contradicts" in fault


def test_no_latest_is_no_fault() -> None:
    assert latest_fault(a_head(None), None) is None


@pytest.mark.parametrize("state", ["retired", "bad"])
def test_latest_is_live(state: str) -> None:
    entry = an_entry(1, state=state)
    assert (
        latest_fault(a_head(entry), entry) == f"latest is checkpoint {entry.id}, which is {state}"
    )


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
        (an_entry(9, timeline=9), ((2, 3, 5), (3, 2, 5)), 3, False),  # in a circle
        (an_entry(9), (), 4, False),  # a timeline that nothing is known of
    ],
)
def test_latest_lies_on_the_path_of_the_active_timeline(
    latest: Entry, forks: tuple[tuple[int, int, int], ...], active: int, sound: bool
) -> None:
    assert (latest_fault(a_head(latest, *forks, active=active), latest) is None) is sound
