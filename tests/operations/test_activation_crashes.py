"""A crash at every call that an activation makes to the store; then whoever comes next."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import Fenced
from ckptsync.model import Role
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.operations.resolve import LATEST
from ckptsync.state.activation import Stage
from ckptsync.stores.base import ObjectStore
from tests.operations.takeovers import Site, crashes


def about_to_take_over(disk: Path, layout: str) -> Site:
    """Host-b has the older of two checkpoints warm; host-a is gone."""
    site = Site.at(disk / "site", layout)
    site.push_new(site.a)
    site.b.poll(site.store)
    site.push_new(site.a)
    site.b.probe(site.store)
    site.c.poll(site.store)
    site.c.probe(site.store)
    return site


def activate_b(site: Site, store: ObjectStore) -> None:
    site.b.activate(store)


def require_primary(site: Site, role: Role) -> None:
    """Host-b goes on from the newest checkpoint that was acknowledged, and pushes the next."""
    assert role is Role.PRIMARY
    assert site.b.writes_to(site.store)
    site.require_restored(site.b, site.acknowledged[-1].engine_id)
    site.require_sound()
    pushed = site.push_new(site.b)
    assert pushed.timeline == site.head.timeline
    site.require_sound()
    with pytest.raises(Fenced):
        site.push_new(site.a)


@pytest.mark.parametrize("layout", ["directory", "feldera"])
def test_a_crash_at_any_call_of_an_activation_is_gone_on_from(disk: Path, layout: str) -> None:
    """By a daemon's start where the epoch may be taken, else by asking again."""
    site = about_to_take_over(disk, layout)
    for left in crashes(site, disk, activate_b):
        claimed = left.head.writer.node == "host-b"

        role = left.b.carry_on(left.store)

        assert role is (Role.PRIMARY if claimed else Role.STANDBY)
        if role is Role.STANDBY:
            role = left.b.activate(left.store).role
        require_primary(left, role)
        assert [timeline.id for timeline in left.head.timelines] == [1, 2]


def test_a_crash_at_any_call_is_gone_on_from_by_the_same_request(disk: Path) -> None:
    site = about_to_take_over(disk, "directory")
    for left in crashes(site, disk, activate_b):
        require_primary(left, left.b.activate(left.store).role)


def test_a_crash_at_any_call_is_gone_on_from_by_any_request(disk: Path) -> None:
    site = about_to_take_over(disk, "directory")
    for left in crashes(site, disk, activate_b):
        require_primary(left, left.b.activate(left.store, "another").role)


def test_what_the_primary_commits_after_the_crash_is_not_lost(disk: Path) -> None:
    site = about_to_take_over(disk, "directory")
    committed = 0
    for left in crashes(site, disk, activate_b):
        with suppress(Fenced):
            left.push_new(left.a)
            committed += 1

        require_primary(left, left.b.activate(left.store).role)
    assert committed


def test_after_a_crash_at_any_call_another_node_may_take_over_instead(disk: Path) -> None:
    site = about_to_take_over(disk, "directory")
    roles = set()
    for left in crashes(site, disk, activate_b):
        marker = left.b.activation
        started = marker is not None and marker.stage >= Stage.CONFIRMED  # the engine, perhaps
        left.c.activate(left.store, "by-c")
        left.push_new(left.c)

        role = left.b.carry_on(left.store)

        left.require_sound()
        assert role is (Role.FENCED if started else Role.STANDBY)
        roles.add(role)
        if role is Role.FENCED:
            left.b.rejoin(left.store)
        left.b.poll(left.store)
        left.b.activate(left.store, "b-again")
        left.require_sound()
        left.require_restored(left.b, left.acknowledged[-1].engine_id)
        with pytest.raises(Fenced):
            left.push_new(left.c)
    assert roles == {Role.FENCED, Role.STANDBY}


def test_a_crash_at_any_call_of_an_activation_on_an_empty_bucket_is_gone_on_from(
    disk: Path,
) -> None:
    site = Site.at(disk / "site")
    for left in crashes(site, disk, activate_b):
        role = left.b.carry_on(left.store)
        if role is Role.STANDBY:
            role = left.b.activate(left.store).role

        assert role is Role.PRIMARY
        left.push_new(left.b)
        left.require_sound()


def test_a_crash_at_any_call_of_an_activation_from_read_bucket_is_gone_on_from(disk: Path) -> None:
    seed, site = Site.at(disk / "seed"), Site.at(disk / "site")
    origin = seed.push_new(seed.a)
    site.written.update(seed.written)
    site.b = replace(site.b, standby=StandbySettings(initially=True, start_from=LATEST))

    def act(each: Site, store: ObjectStore) -> None:
        each.b.activate(store, read_store=seed.store)

    for left in crashes(site, disk, act):
        act(left, left.store)

        assert left.b.role is Role.PRIMARY
        left.require_restored(left.b, origin.engine_id)
        assert left.head.latest is None
        left.push_new(left.b)
        left.require_sound()
