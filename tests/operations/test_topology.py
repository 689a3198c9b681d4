"""The nodes of a pipeline, by what they say of themselves and by what head says."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from ckptsync.errors import HeadLost, Unavailable
from ckptsync.model import CheckpointId, Role
from ckptsync.operations.heartbeat import beat
from ckptsync.operations.topology import NodeView, Topology, behind, topology
from ckptsync.repository import keys, nodes
from ckptsync.repository.head import Fork, Timeline
from ckptsync.state.role import RoleChange
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.operations.actors import Odd, edit_head, take_over
from tests.pipelines import Host
from tests.repository.samples import a_head, an_entry

NOON: Final = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(clock: Clock) -> MemoryStore:
    """A bucket whose clock stands still."""
    return MemoryStore("s3://dr/orders", clock=clock)


def _look(host: Host, store: ObjectStore) -> Topology:
    with host.running(store) as pipeline:
        return topology(pipeline)


def _beat(
    host: Host, store: ObjectStore, role: Role | None = None, warm: CheckpointId | None = None
) -> None:
    with host.running(store) as pipeline:
        if role is not None:
            pipeline.state.roles.change(
                RoleChange(role=role, at=NOON, epoch=1, reason=None, problem=None)
            )
        beat(pipeline, warm=warm)


def _views(found: Topology) -> Iterator[tuple[str, bool, bool, Role | None, timedelta | None]]:
    return ((each.node, each.this_node, each.writer, each.role, each.lag) for each in found.nodes)


def test_an_empty_bucket_has_no_node(host: Host, bucket: MemoryStore) -> None:
    found = _look(host, bucket)

    assert (found.epoch, found.writer, found.latest, found.nodes) == (None, None, None, ())


def test_each_node_is_listed_with_what_it_says(
    host: Host, other: Host, timed: MemoryStore, clock: Clock
) -> None:
    first = host.push_new("step-1", timed)
    clock.time += timedelta(minutes=5)
    latest = host.push_new("step-2", timed)
    _beat(host, timed)
    _beat(other, timed, Role.STANDBY, first.id)

    found = _look(other, timed)

    assert (found.epoch, found.latest) == (1, latest.id)
    assert found.writer is not None
    assert found.writer.node == "host-a"
    assert list(_views(found)) == [
        ("host-a", False, True, Role.PRIMARY, None),
        ("host-b", True, False, Role.STANDBY, timedelta(minutes=5)),
    ]


def test_a_standby_that_has_the_latest_does_not_lag(
    host: Host, other: Host, timed: MemoryStore
) -> None:
    latest = host.push_new("step-1", timed)
    _beat(other, timed, Role.STANDBY, latest.id)

    assert [each.lag for each in _look(host, timed).nodes if each.warm] == [timedelta(0)]


def test_a_node_that_has_not_spoken_for_a_while_is_silent(
    host: Host, timed: MemoryStore, clock: Clock
) -> None:
    host.push_new("step-1", timed)
    _beat(host, timed)
    (fresh,) = _look(host, timed).nodes
    clock.time += nodes.FRESH
    (silent,) = _look(host, timed).nodes

    assert (fresh.age, fresh.fresh) == (timedelta(0), True)
    assert (silent.age, silent.fresh) == (nodes.FRESH, False)


def test_a_writer_that_never_spoke_is_listed(host: Host, other: Host, timed: MemoryStore) -> None:
    host.push_new("step-1", timed)
    take_over(timed, "host-c")
    _beat(host, timed)

    found = _look(other, timed)

    assert found.epoch == 2
    assert [(each.node, each.writer) for each in found.nodes] == [
        ("host-a", False),
        ("host-c", True),
    ]
    assert found.nodes[-1] == NodeView(node="host-c", writer=True)


def test_what_cannot_be_read_is_a_node_of_which_nothing_is_known(
    host: Host, timed: MemoryStore
) -> None:
    timed.put(nodes.key("host-x"), b"\xff")

    assert _look(host, timed).nodes == (NodeView(node="host-x", age=timedelta(0), fresh=True),)


def test_a_checkpoint_that_head_has_forgotten_has_no_lag(
    host: Host, other: Host, timed: MemoryStore
) -> None:
    gone = host.push_new("step-1", timed)
    kept = host.push_new("step-2", timed)
    edit_head(timed, checkpoints=(kept,))
    _beat(other, timed, Role.STANDBY, gone.id)

    assert [(each.warm, each.lag) for each in _look(host, timed).nodes if each.warm] == [
        (gone.id, None)
    ]


def test_only_what_the_latest_goes_on_from_has_a_lag() -> None:
    first, second, abandoned = an_entry(1), an_entry(2), an_entry(3)
    head = a_head(first, second, abandoned)
    back = Timeline(
        id=2, parent=Fork(timeline=1, checkpoint=second.id), epoch=2, reason="activate", at=NOON
    )
    forked = head.model_copy(update={"timeline": 2, "timelines": (*head.timelines, back)})

    assert behind(forked, second, first) == timedelta(minutes=1)
    assert behind(forked, second, second) == timedelta(0)
    assert behind(forked, second, abandoned) is None
    assert behind(forked, second, None) is None
    assert behind(forked, None, first) is None


def test_a_clock_that_was_set_back_makes_no_negative_lag() -> None:
    first = an_entry(1)
    earlier = an_entry(2).model_copy(update={"at": first.at - timedelta(days=3650)})

    assert behind(a_head(first, earlier), earlier, first) == timedelta(0)


def test_a_head_that_is_lost_is_no_empty_bucket(host: Host, timed: MemoryStore) -> None:
    host.push_new("step-1", timed)
    timed.delete([each.key for each in timed.walk("")])

    with pytest.raises(HeadLost):
        _look(host, timed)


def test_a_bucket_that_does_not_answer_has_no_topology(host: Host, timed: MemoryStore) -> None:
    away = Odd(timed, lambda _number, call: Unavailable(timed.name, "read", call.key, "timed out"))

    with pytest.raises(Unavailable):
        _look(host, away)


def test_looking_writes_nothing(host: Host, timed: MemoryStore) -> None:
    host.push_new("step-1", timed)
    watched = Odd(timed, lambda _number, _call: None)

    _look(replace(host, node="host-z"), watched)

    assert {call.method for call in watched.calls} <= {"get", "walk", "now"}
    assert keys.HEAD in {call.key for call in watched.calls}
