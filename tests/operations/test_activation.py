"""Activation from end to end: guard, fence, last pull, publish, confirm, start."""

from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import Fenced
from ckptsync.model import Role
from ckptsync.repository import keys
from ckptsync.repository.head import Fork
from ckptsync.state.activation import Stage
from tests.fakes.stores import FaultyStore
from tests.operations.takeovers import REQUEST, Site


@pytest.fixture(params=["directory", "feldera"])
def site(disk: Path, request: pytest.FixtureRequest) -> Site:
    return Site.at(disk, request.param)


def test_a_standby_takes_over_and_goes_on_from_the_latest_checkpoint(site: Site) -> None:
    site.push_new(site.a)
    site.b.poll(site.store)
    latest = site.push_new(site.a)

    report = site.b.activate(site.store, reason="host-a is gone")

    assert (report.role, report.already, report.left_behind) == (Role.PRIMARY, False, 0)
    assert (report.epoch, report.timeline, report.checkpoint) == (2, 2, latest.id)
    site.require_restored(site.b, latest.engine_id)
    site.require_sound()
    writer, forked = site.head.writer, site.head.timelines[-1]
    assert (writer.node, writer.state, writer.request) == ("host-b", "active", REQUEST)
    assert (forked.reason, forked.epoch) == ("activate: host-a is gone", 2)
    assert forked.parent == Fork(timeline=1, checkpoint=latest.id)
    assert site.b.told() == [Role.ACTIVATING, Role.PRIMARY]

    pushed = site.push_new(site.b)

    assert (pushed.timeline, pushed.epoch) == (2, 2)
    assert pushed.new_bytes < pushed.bytes, "what the bucket has already was stored again"
    site.require_sound()


def test_every_step_of_an_activation_is_on_record(site: Site) -> None:
    latest = site.push_new(site.a)

    site.b.activate(site.store, reason="a drill")

    marker = site.b.activation
    assert marker is not None
    assert (marker.request, marker.reason, marker.stage) == (REQUEST, "a drill", Stage.DONE)
    assert (marker.epoch, marker.timeline) == (2, 2)
    assert (marker.latest, marker.checkpoint) == (latest.id, latest.id)
    assert marker.instance == site.head.writer.instance
    assert marker.problem is None


def test_a_warm_standby_fetches_nothing(site: Site) -> None:
    latest = site.push_new(site.a)
    site.b.poll(site.store)
    watched = FaultyStore(site.store)

    site.b.activate(watched)

    fetched = (keys.CHUNKS, keys.PACKS, keys.MANIFESTS)
    assert not [call for call in watched.calls if call.key.startswith(fetched)]
    site.require_restored(site.b, latest.engine_id)


def test_what_only_a_standby_staged_is_deleted_once_it_is_primary(site: Site) -> None:
    for _ in range(2):
        site.push_new(site.a)
        site.b.poll(site.store)

    site.b.activate(site.store)

    assert not [path for path in (site.b.work / "files").rglob("*") if path.is_file()]
    with site.b.running(site.store) as pipeline:
        assert pipeline.state.warm.ids() == ()


def test_the_same_request_activates_once(site: Site) -> None:
    site.push_new(site.a)
    first = site.b.activate(site.store)
    head, told = site.head, site.b.told()

    again = site.b.activate(site.store)

    assert again.already
    assert replace(again, already=False, seconds=0) == replace(first, seconds=0)
    assert site.head == head
    assert site.b.told() == told


def test_another_request_to_a_primary_changes_nothing(site: Site) -> None:
    latest = site.push_new(site.a)
    site.b.activate(site.store)
    head = site.head

    again = site.b.activate(site.store, "another")

    assert (again.already, again.request, again.role) == (True, "another", Role.PRIMARY)
    assert (again.epoch, again.timeline, again.checkpoint) == (2, 2, latest.id)
    assert site.head == head


def test_the_displaced_primary_commits_nothing_any_more(site: Site) -> None:
    site.push_new(site.a)
    site.b.activate(site.store)
    site.write(site.a)
    before = site.require_sound()

    with pytest.raises(Fenced, match="node 'host-b' took over at epoch 2") as caught:
        site.a.push(site.store)

    assert caught.value.exit_code == 11
    assert site.require_sound() == before


def test_both_directions_several_times(site: Site) -> None:
    one, other = site.a, site.b
    site.push_new(one)
    for turn in range(4):
        site.write(one)  # never pushed: to be kept in quarantine
        latest = site.acknowledged[-1]
        other.poll(site.store)

        other.activate(site.store, f"turn-{turn}")

        site.require_sound()
        site.require_restored(other, latest.engine_id)
        with pytest.raises(Fenced):
            one.push(site.store)
        assert one.start(site.store) is Role.FENCED
        assert one.rejoin(site.store).quarantine is not None
        one.poll(site.store)
        site.push_new(other)
        site.require_sound()
        one, other = other, one

    assert site.head.epoch == 5
    assert [timeline.id for timeline in site.head.timelines] == [1, 2, 3, 4, 5]
