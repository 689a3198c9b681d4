"""Who may commit: each row of the decision."""

from dataclasses import replace

import pytest

from ckptsync.errors import CkptsyncError, Fenced, ForeignWriter, RollbackDetected, WrongRepository
from ckptsync.model import CheckpointId
from ckptsync.repository import epochs
from ckptsync.repository.epochs import Line, Node
from ckptsync.repository.head import Head
from ckptsync.state.identity import Pushing, Remembered, Repair, Restored
from tests.repository.samples import DESCRIPTOR, REPOSITORY, a_head, an_entry, an_id

WHERE = "s3://dr/orders"
ME = Remembered(
    node_id="n",
    repository_id=REPOSITORY,
    instances=frozenset({"i", "older"}),
    write_ids=frozenset({"w"}),
    revision=3,
    epoch=1,
    held_epoch=1,
    publishing=None,
    restored=None,
    pushing=None,
    pushed=None,
)
HEAD = a_head(an_entry(1), an_entry(2))
assert (HEAD.revision, HEAD.epoch, HEAD.next_seq) == (3, 1, 3)


def with_writer(**changes: object) -> Head:
    return HEAD.model_copy(update={"writer": HEAD.writer.model_copy(update=changes)})


def require_mine(head: Head, me: Remembered) -> None:
    epochs.require_no_rollback(head, me, WHERE)
    epochs.require_writer(head, me, WHERE)


@pytest.mark.parametrize(
    ("head", "me", "expected"),
    [
        (HEAD, ME, None),
        (HEAD, replace(ME, revision=2), None),
        (HEAD, replace(ME, revision=4), RollbackDetected),
        (HEAD, replace(ME, epoch=2), RollbackDetected),
        (HEAD, replace(ME, revision=9, repository_id="another"), None),
        (HEAD, replace(ME, superseded=frozenset({"older"})), None),
        (
            with_writer(write_id="older"),
            replace(ME, superseded=frozenset({"older"})),
            RollbackDetected,
        ),
        (
            with_writer(write_id="older", instance="theirs"),
            replace(ME, superseded=frozenset({"older"})),
            RollbackDetected,
        ),
        (
            with_writer(write_id="older"),
            replace(ME, superseded=frozenset({"older"}), repository_id="another"),
            ForeignWriter,
        ),
        (HEAD, replace(ME, revision=0, instances=frozenset()), ForeignWriter),
        (with_writer(instance="theirs"), ME, Fenced),
        (with_writer(instance="theirs", write_id="theirs"), ME, Fenced),
        (with_writer(instance="theirs"), replace(ME, held_epoch=0), ForeignWriter),
        (with_writer(instance="older"), ME, None),
        (with_writer(write_id="theirs"), ME, ForeignWriter),
        (with_writer(state="released"), ME, Fenced),
        (with_writer(state="activating"), ME, Fenced),
    ],
)
def test_only_the_writer_that_head_names_may_commit(
    head: Head, me: Remembered, expected: type[CkptsyncError] | None
) -> None:
    if expected is None:
        require_mine(head, me)
        return

    with pytest.raises(expected, match=WHERE) as caught:
        require_mine(head, me)

    assert caught.value.exit_code == 11


def test_an_older_head_that_others_have_changed_since_is_told_as_such() -> None:
    tidied = with_writer(write_id="older").model_copy(update={"revision": 99})

    with pytest.raises(RollbackDetected) as caught:
        require_mine(tidied, replace(ME, superseded=frozenset({"older"})))

    assert str(caught.value) == (
        f"{WHERE}: head.json is at revision 99, epoch 1, but its writer's last write is one that "
        "this node had replaced by later ones: the bucket went back in time"
    )
    assert caught.value.hint is not None
    assert "ckptsync repair accept-rollback" in caught.value.hint


@pytest.mark.parametrize(
    ("pipeline", "remembered", "allowed"),
    [
        ("orders", REPOSITORY, True),
        ("orders", None, True),
        ("payments", REPOSITORY, False),
        ("payments", None, False),
        ("orders", "another", False),
    ],
)
def test_only_its_own_repository_is_written_to(
    pipeline: str, remembered: str | None, allowed: bool
) -> None:
    me, node = replace(ME, repository_id=remembered), Node(name="host-a", pipeline=pipeline)
    if allowed:
        epochs.require_own_repository(DESCRIPTOR, me, node, WHERE)
        return

    with pytest.raises(WrongRepository, match=WHERE) as caught:
        epochs.require_own_repository(DESCRIPTOR, me, node, WHERE)

    assert caught.value.exit_code == 2


def restored(seq: int) -> Restored:
    return Restored(checkpoint_id=an_id(seq), engine_id=f"ckpt-{seq}", step=seq, lineage=None)


def pushing(seq: int) -> Pushing:
    id = an_id(seq, timeline=2)
    return Pushing(checkpoint_id=id, engine_id=f"ckpt-{seq}", step=seq, lineage=None)


@pytest.mark.parametrize(
    ("me", "back"),
    [
        (ME, None),
        (replace(ME, restored=restored(2)), None),  # the latest
        (replace(ME, restored=restored(1)), an_id(1)),
        (replace(ME, restored=restored(1), pushing=pushing(3)), an_id(1)),  # not committed
        (replace(ME, restored=restored(1), pushing=pushing(2)), None),  # committed, not noted
    ],
)
def test_the_next_checkpoint_goes_on_from_where_the_engine_is(
    me: Remembered, back: CheckpointId | None
) -> None:
    line = epochs.line(HEAD, me, new_timeline=False)

    assert epochs.went_back_to(HEAD, me) == back
    assert line.parent == (back or HEAD.latest)
    assert (line.forks is not None) is (back is not None)


def test_a_new_timeline_may_be_asked_for() -> None:
    line = epochs.line(HEAD, ME, new_timeline=True)

    assert line == Line(parent=HEAD.latest, forks="push: --new-timeline")
    assert epochs.timeline_after(HEAD) == 2


@pytest.mark.parametrize(
    ("repair", "may"),
    [
        (None, False),
        (Repair(instance="i", next_seq=3, unrelated=True), True),
        (Repair(instance="i", next_seq=3, unrelated=False), False),
        (Repair(instance="older", next_seq=3, unrelated=True), False),  # not what head carries
        (Repair(instance="i", next_seq=2, unrelated=True), False),  # one was committed since
    ],
)
def test_only_the_first_checkpoint_after_a_repair_need_not_follow(
    repair: Repair | None, may: bool
) -> None:
    assert epochs.may_jump(HEAD, replace(ME, repair=repair)) is may
