"""Others who act on the bucket at each call of an activation."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import CheckpointNotFound, CkptsyncError, Fenced, PrimaryActive
from ckptsync.model import Role
from ckptsync.operations.activate import Activated
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.repository import claim
from tests.operations.actors import Sweeper, edit_head
from tests.operations.takeovers import Site, meddled


@pytest.fixture
def site(disk: Path) -> Site:
    """Host-b has the older of two checkpoints warm, host-c nothing; nobody gives signs of life."""
    site = Site.at(disk / "site")
    site.push_new(site.a)
    site.b.poll(site.store)
    site.push_new(site.a)
    for node in (site.b, site.c):
        node.probe(site.store)
    return site


def races(
    site: Site, disk: Path, meddle: Callable[[Site], object]
) -> Iterator[tuple[Site, Activated | CkptsyncError]]:
    """An activation of host-b."""
    return meddled(site, disk, lambda each, store: each.b.activate(store), meddle)


def require_primary(site: Site, node: str) -> None:
    """It goes on, and nobody else does."""
    for each in site.nodes:
        if each.node == node:
            assert each.role is Role.PRIMARY
            site.require_restored(each, site.acknowledged[-1].engine_id)
            site.push_new(each)
        else:
            with pytest.raises(CkptsyncError):
                site.push_new(each)
    site.require_sound()


def activate_c(site: Site) -> None:
    """As a daemon does, which says at once that it is the primary."""
    site.c.activate(site.store, "by-c")
    site.c.beat(site.store)


def test_what_the_primary_commits_meanwhile_is_gone_on_from_or_refused(
    site: Site, disk: Path
) -> None:
    results = set()

    def commit(each: Site) -> None:
        try:
            each.push_new(each.a)
        except Fenced:
            results.add("refused")
        else:
            results.add("committed")

    for left, outcome in races(site, disk, commit):
        assert isinstance(outcome, Activated)
        assert outcome.checkpoint == left.acknowledged[-1].id
        require_primary(left, "host-b")
    assert results == {"refused", "committed"}


def test_of_two_standbys_that_are_activated_at_once_one_wins(site: Site, disk: Path) -> None:
    """The other is a standby again, and its disk is as it was unless it had been published."""
    losers = set()
    for left, outcome in races(site, disk, activate_c):
        assert isinstance(outcome, Fenced | PrimaryActive)
        assert "node 'host-c'" in str(outcome)
        losers.add((left.b.role, left.b.root.exists()))
        require_primary(left, "host-c")
        if left.b.role is Role.FENCED:
            left.b.rejoin(left.store)
        assert left.b.start(left.store) is Role.STANDBY
        assert left.b.poll(left.store).warm is not None

        left.b.activate(left.store, force=True)

        require_primary(left, "host-b")
    assert losers == {(Role.STANDBY, False), (Role.STANDBY, True), (Role.FENCED, True)}


def test_two_standbys_on_an_empty_bucket_make_one_primary(disk: Path) -> None:
    winners = set()
    for left, outcome in races(Site.at(disk / "site"), disk, activate_c):
        winner, loser = (left.b, left.c) if isinstance(outcome, Activated) else (left.c, left.b)
        winners.add(winner.node)
        assert winner.role is Role.PRIMARY
        left.push_new(winner)
        with pytest.raises(CkptsyncError):
            left.push_new(loser)
        left.require_sound()
    assert "host-c" in winners


def test_a_sweep_meanwhile_does_not_stop_an_activation(site: Site, disk: Path) -> None:
    for left, outcome in races(site, disk, lambda each: Sweeper(store=each.store).sweep()):
        assert isinstance(outcome, Activated)
        require_primary(left, "host-b")


def test_a_release_meanwhile_does_not_stop_an_activation(site: Site, disk: Path) -> None:
    def release(each: Site) -> None:
        if each.head.writer.node == "host-a":
            edit_head(each.store, writer=claim.released(each.head, "host-b").writer)

    for left, outcome in races(site, disk, release):
        assert isinstance(outcome, Activated)
        require_primary(left, "host-b")


def test_a_primary_that_moves_head_as_it_comes_alive_is_guarded(site: Site, disk: Path) -> None:
    outcomes = set()

    def live(each: Site) -> None:
        each.a.beat(each.store)
        edit_head(each.store)

    for left, outcome in races(site, disk, live):
        outcomes.add(type(outcome))
        if isinstance(outcome, PrimaryActive):
            assert left.b.role is Role.STANDBY
            assert left.head.epoch == 1
            left.push_new(left.a)
        else:
            require_primary(left, "host-b")
    assert outcomes == {PrimaryActive, Activated}


def test_an_activation_that_failed_is_given_up_once_another_node_took_over(
    site: Site,
) -> None:
    """Not gone on with: what it was asked for is not what there is now."""
    b = replace(site.b, standby=StandbySettings(initially=True, start_from="step-9"))
    with pytest.raises(CheckpointNotFound):
        b.activate(site.store)
    activate_c(site)

    with pytest.raises(Fenced, match="node 'host-c' took over at epoch 3"):
        b.activate(site.store)

    assert b.role is Role.STANDBY
    with pytest.raises(PrimaryActive, match="node 'host-c'"):
        b.activate(site.store)
    require_primary(site, "host-c")
