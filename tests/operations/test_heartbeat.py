"""What a node says of itself, and how others read it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ckptsync.errors import IntegrityError, Unavailable
from ckptsync.model import CheckpointId, Role
from ckptsync.operations.heartbeat import beat
from ckptsync.repository import nodes
from ckptsync.repository.nodes import Heartbeat, SeenNode
from tests.fakes.stores import Call, FaultyStore
from tests.operations.actors import Odd
from tests.operations.takeovers import Site

WARM = CheckpointId("0001-00000001-0123456789ab")
AT = datetime(2026, 11, 20, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def site(disk: Path) -> Site:
    site = Site.at(disk)
    site.push_new(site.a)
    return site


def said(site: Site, node: str) -> Heartbeat:
    seen = nodes.read(site.store, node)
    assert seen is not None
    assert seen.heartbeat is not None
    return seen.heartbeat


def test_a_node_says_who_and_what_it_is(site: Site) -> None:
    site.b.poll(site.store)
    with site.b.running(site.store) as pipeline:
        beat(pipeline, warm=WARM, pulling=None)
        me = pipeline.state.identity.remembered()

    heartbeat = said(site, "host-b")

    assert (heartbeat.node, heartbeat.node_id) == ("host-b", me.node_id)
    assert (heartbeat.machine, heartbeat.role) == ("host-b", Role.STANDBY)
    assert (heartbeat.epoch, heartbeat.warm, heartbeat.pulling) == (1, WARM, None)
    assert heartbeat.at == site.clock.time


def test_it_says_what_it_is_now(site: Site) -> None:
    site.b.activate(site.store)
    site.b.beat(site.store)

    heartbeat = said(site, "host-b")

    assert (heartbeat.role, heartbeat.epoch) == (Role.PRIMARY, 2)


def test_a_heartbeat_is_one_request(site: Site) -> None:
    watched = FaultyStore(site.store)

    site.a.beat(watched)

    assert watched.calls == [Call("put", "nodes/host-a.json")]


def test_its_age_is_told_by_the_clock_of_the_store(site: Site) -> None:
    slow = replace(site.a, now=lambda: site.clock.time - timedelta(days=3650))
    slow.beat(site.store)
    site.clock.passes(seconds=29)

    seen = nodes.read(site.store, "host-a")

    assert seen is not None
    assert (seen.age, seen.fresh) == (timedelta(seconds=29), True)
    site.clock.passes(seconds=1)
    seen = nodes.read(site.store, "host-a")
    assert seen is not None
    assert not seen.fresh


def test_what_cannot_be_read_was_written_by_somebody(site: Site) -> None:
    site.store.put(nodes.key("host-z"), b"\xff")

    assert nodes.read(site.store, "host-z") == SeenNode(
        node="host-z", heartbeat=None, modified=site.clock.time, age=timedelta(0)
    )


def test_a_heartbeat_that_is_too_long_cannot_be_read(site: Site) -> None:
    site.store.put(nodes.key("host-z"), b" " * (nodes.LIMIT + 1))

    seen = nodes.read(site.store, "host-z")

    assert seen is not None
    assert seen.heartbeat is None


def test_who_never_said_anything_is_not_there(site: Site) -> None:
    assert nodes.read(site.store, "host-z") is None
    assert nodes.read_all(site.store) == ()


def test_all_are_read_in_order_of_their_names(site: Site) -> None:
    for node in (site.b, site.a):
        node.beat(site.store)
    site.store.put(nodes.key("host-c"), b"{}")

    seen = nodes.read_all(site.store)

    assert [(each.node, each.heartbeat is None) for each in seen] == [
        ("host-a", False),
        ("host-b", False),
        ("host-c", True),
    ]


def test_one_that_goes_away_while_all_are_read_is_left_out(site: Site) -> None:
    for node in (site.a, site.b):
        node.beat(site.store)

    def decide(_number: int, call: Call) -> None:
        if call == Call("get", nodes.key("host-a")):
            site.store.delete([nodes.key("host-a")])

    assert [each.node for each in nodes.read_all(Odd(site.store, decide))] == ["host-b"]


def test_a_bucket_that_is_away_is_not_silence(site: Site) -> None:
    away = Unavailable(site.store.name, "read", "nodes/host-a.json", "timed out")

    with pytest.raises(Unavailable):
        nodes.read(Odd(site.store, lambda _number, _call: away), "host-a")


def a_seen_node(node: str, age: timedelta, **named: str) -> SeenNode:
    heartbeat = Heartbeat(
        node=node,
        node_id=node,
        machine=node,
        role=Role.STANDBY,
        epoch=1,
        warm=CheckpointId(named["warm"]) if "warm" in named else None,
        pulling=CheckpointId(named["pulling"]) if "pulling" in named else None,
        at=AT,
    )
    return SeenNode(node=node, heartbeat=heartbeat, modified=AT - age, age=age)


def test_what_a_node_holds_ready_or_fetches_is_in_use() -> None:
    """So it is for two hours after the node was last heard of."""
    other = CheckpointId("0001-00000002-0123456789ab")
    recent = a_seen_node("host-b", nodes.IN_USE_FOR - SECOND, warm=WARM, pulling=other)

    assert nodes.in_use([recent]) == {WARM: "host-b", other: "host-b"}
    assert nodes.in_use([a_seen_node("host-b", nodes.IN_USE_FOR, warm=WARM)]) == {}


def test_what_a_node_of_the_future_holds_is_in_use() -> None:
    """The clock of the store was set back, so nobody knows how old that is."""
    assert nodes.in_use([a_seen_node("host-b", -SECOND, warm=WARM)]) == {WARM: "host-b"}


def test_of_nodes_that_hold_the_same_one_is_told() -> None:
    both = [a_seen_node(node, SECOND, warm=WARM) for node in ("host-b", "host-c")]

    assert nodes.in_use(both) == {WARM: "host-b"}


def test_what_an_unreadable_node_holds_is_an_error_as_long_as_it_may_be_in_use(site: Site) -> None:
    site.store.put(nodes.key("host-z"), b"{")

    with pytest.raises(IntegrityError, match=r"nodes/host-z\.json cannot be read"):
        nodes.in_use(nodes.read_all(site.store))

    site.clock.passes(hours=2)

    assert nodes.in_use(nodes.read_all(site.store)) == {}
