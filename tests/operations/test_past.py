"""Who was primary when, and what was run."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from ckptsync.errors import HeadLost, Unavailable
from ckptsync.model import Role
from ckptsync.operations.past import Began, Past, Ran, left_behind, merged, past
from ckptsync.repository import keys
from ckptsync.repository.head import Fork, Head, Timeline
from ckptsync.state.history import Outcome, Run, RunId
from ckptsync.state.role import RoleChange
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.operations.actors import Odd, take_over
from tests.pipelines import Host
from tests.repository.samples import NOW, a_head, an_entry, an_id

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)


def _past(host: Host, store: ObjectStore, *, limit: int = 20) -> Past:
    with host.running(store) as pipeline:
        return past(pipeline, limit=limit)


def _began(found: Past) -> list[tuple[int, int, str | None, int]]:
    return [
        (each.timeline.id, each.timeline.epoch, each.timeline.node, each.left_behind)
        for each in found.events
        if isinstance(each, Began)
    ]


def _run(minute: int, kind: str = "push", outcome: Outcome = Outcome.DONE) -> Run:
    at = NOON + timedelta(minutes=minute)
    return Run(
        id=RunId(minute), kind=kind, started_at=at, finished_at=at, outcome=outcome, details=None
    )


def _role(minute: int, role: Role, epoch: int = 1) -> RoleChange:
    at = NOON + timedelta(minutes=minute)
    return RoleChange(role=role, at=at, epoch=epoch, reason=None, problem=None)


def test_nothing_has_happened_to_a_new_pipeline(host: Host, bucket: MemoryStore) -> None:
    found = _past(host, bucket)

    assert (found.events, found.bucket_problem, found.state_problem) == ((), None, None)


def test_the_newest_comes_first_wherever_it_is_remembered() -> None:
    began = Began(timeline=Timeline(id=1, epoch=1, reason="create", at=NOON), left_behind=0)
    primary, push, pull = _role(1, Role.PRIMARY), _run(2), _run(3, "pull")

    events = merged([began], [primary], [pull, push], limit=20)

    assert [each.at.minute for each in events] == [3, 2, 1, 0]
    assert merged([began], [primary], [pull, push], limit=2) == events[:2]


def test_runs_in_a_row_that_ended_alike_are_one_event() -> None:
    runs = [
        _run(9),
        _run(8),
        _run(7, outcome=Outcome.FAILED),
        _run(6, "pull"),
        _run(5),
        _run(3),
        _run(2),
    ]

    events = merged([], [_role(4, Role.PRIMARY)], runs, limit=20)

    assert [
        (each.newest.id, each.oldest.id, each.times) if isinstance(each, Ran) else each.role
        for each in events
        if not isinstance(each, Began)
    ] == [(9, 8, 2), (7, 7, 1), (6, 6, 1), (5, 5, 1), Role.PRIMARY, (3, 2, 2)]


def test_a_prune_that_changed_something_is_a_line_of_its_own() -> None:
    idle = {"retired": [], "revived": [], "forgotten": [], "deleted_objects": 0}
    came_to = [
        idle,
        idle,
        {**idle, "retired": ["a"]},
        {**idle, "retired": ["b"]},
        {**idle, "deleted_objects": 40_000},
        idle,
        {**idle, "revived": ["a"]},
        {**idle, "forgotten": ["b"]},
    ]
    runs = [
        replace(_run(9 - number, "prune"), details=json.dumps(each))
        for number, each in enumerate(came_to)
    ]

    events = merged([], [], runs, limit=20)

    assert [each.times for each in events if isinstance(each, Ran)] == [2, 1, 1, 1, 1, 1, 1]


def test_a_takeover_is_told_with_who_took_over_and_who_was_before(
    host: Host, bucket: MemoryStore
) -> None:
    host.push_new("step-1", bucket)
    take_over(bucket)

    for who in (host, replace(host, home=host.home / "c", node="host-c")):
        assert _began(_past(who, bucket)) == [(2, 2, "host-b", 0), (1, 1, "host-a", 0)]


def test_going_back_leaves_checkpoints_behind(host: Host, bucket: MemoryStore) -> None:
    for step in (1, 2, 3):
        host.push_new(f"step-{step}", bucket)
    host.go_back_to("step-1", bucket)
    host.push_new("step-4", bucket)

    found = _past(host, bucket)

    assert _began(found) == [(2, 1, "host-a", 2), (1, 1, "host-a", 0)]
    (back, _) = (each for each in found.events if isinstance(each, Began))
    assert back.timeline.parent is not None
    assert back.timeline.parent.checkpoint is not None
    assert keys.seq(back.timeline.parent.checkpoint) == 1


def _forked(*forks: tuple[int, int, int]) -> Head:
    """Nine checkpoints; each fork is a timeline, the one it came from, and the seq it came from."""
    owner = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 3, 7: 3, 8: 3, 9: 4}
    entries = [an_entry(seq, timeline=timeline) for seq, timeline in owner.items()]
    began = [
        Timeline(
            id=id,
            parent=Fork(
                timeline=parent, checkpoint=an_id(seq, timeline=owner[seq]) if seq else None
            ),
            epoch=1,
            reason="fork",
            at=NOW,
        )
        for id, parent, seq in forks
    ]
    head = a_head()
    return head.model_copy(
        update={
            "timelines": (*head.timelines, *began),
            "timeline": 4,
            "checkpoints": tuple(entries),
            "next_seq": 10,
        }
    )


@pytest.mark.parametrize(
    ("forks", "lost"),
    [
        (((2, 1, 3), (3, 2, 5), (4, 3, 8)), [0, 0, 0, 0]),
        (((2, 1, 1), (3, 2, 4), (4, 3, 6)), [0, 2, 1, 2]),
        (((2, 1, 3), (3, 1, 2), (4, 3, 8)), [0, 0, 3, 0]),
        (((2, 1, 3), (3, 2, 5), (4, 1, 1)), [0, 0, 0, 7]),
        (((2, 1, 0), (3, 2, 0), (4, 3, 0)), [0, 3, 2, 3]),
    ],
)
def test_what_a_fork_leaves_behind_is_counted(
    forks: tuple[tuple[int, int, int], ...], lost: list[int]
) -> None:
    head = _forked(*forks)

    assert [left_behind(head, head.checkpoints, each) for each in head.timelines] == lost


def test_a_bucket_that_does_not_answer_leaves_what_this_node_remembers(
    host: Host, bucket: MemoryStore
) -> None:
    away = Unavailable(bucket.name, "read", keys.HEAD, "timed out")
    with host.running(bucket) as pipeline:
        history = pipeline.state.history
        run = history.start("push", now=NOON)
        history.finish(run, done=True, now=NOON, details=json.dumps({"already_synced": True}))
        pipeline.state.roles.change(_role(1, Role.PRIMARY))

    found = _past(host, Odd(bucket, lambda _number, _call: away))

    assert found.bucket_problem is away
    assert [type(each) for each in found.events] == [RoleChange, Ran]


def test_a_head_that_is_lost_is_a_problem_and_no_beginning(host: Host, bucket: MemoryStore) -> None:
    host.push_new("step-1", bucket)
    bucket.delete([keys.HEAD])

    assert isinstance(_past(host, bucket).bucket_problem, HeadLost)


def test_a_repository_that_was_only_created_has_begun(host: Host, bucket: MemoryStore) -> None:
    host.push_new("step-1", bucket)
    head = a_head()
    bucket.put(keys.HEAD, head.model_dump_json().encode())

    assert [each.timeline.reason for each in _only_began(_past(host, bucket))] == ["create"]


def _only_began(found: Past) -> Iterator[Began]:
    return (each for each in found.events if isinstance(each, Began))


def test_no_more_is_told_than_was_asked_for(host: Host, bucket: MemoryStore) -> None:
    host.push_new("step-1", bucket)
    for _ in range(5):
        take_over(bucket)

    found = _past(host, bucket, limit=2)

    assert [each.timeline.id for each in _only_began(found)] == [6, 5]
