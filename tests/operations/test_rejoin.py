"""A node that was displaced becomes a standby; what it has is kept in quarantine."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import CheckpointNotFound, EngineRunning, HeadLost, Refused, Unavailable
from ckptsync.model import Role
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.stores.base import ObjectStore
from tests.fakes.feldera_engine import Engine
from tests.operations.actors import Odd, take_over
from tests.operations.takeovers import Site, crashes
from tests.pipelines import contents, snapshot

AWAY: Final = Unavailable("s3://dr/orders", "reach", "the store", "timed out")


def fenced(home: Path, layout: str = "directory") -> Site:
    """Host-b took over, and host-a has a checkpoint that it never pushed."""
    site = Site.at(home, layout)
    site.push_new(site.a)
    site.b.activate(site.store)
    site.write(site.a)
    assert site.a.start(site.store) is Role.FENCED
    return site


@pytest.fixture(params=["directory", "feldera"])
def site(disk: Path, request: pytest.FixtureRequest) -> Site:
    return fenced(disk / "site", request.param)


def storage(site: Site) -> dict[str, tuple[bytes, int, int]]:
    """All that is the engine's: its lock is not."""
    found = contents(site.a.root)
    found.pop("feldera.pidlock", None)
    return found


def test_what_it_has_is_kept_byte_for_byte(site: Site) -> None:
    before, bucket = storage(site), snapshot(site.store)

    report = site.a.rejoin(site.store)

    assert not report.already
    assert report.quarantine is not None
    assert contents(report.quarantine) == before
    assert storage(site) == {}
    assert snapshot(site.store) == bucket
    assert site.a.told() == [Role.FENCED, Role.STANDBY]


def test_it_follows_the_bucket_and_can_be_activated_again(site: Site) -> None:
    site.a.rejoin(site.store)
    assert site.a.poll(site.store).warm is not None
    latest = site.push_new(site.b)
    site.a.poll(site.store)

    report = site.a.activate(site.store, "failback")

    assert (report.role, report.checkpoint) == (Role.PRIMARY, latest.id)
    site.require_restored(site.a, latest.engine_id)
    site.push_new(site.a)
    site.require_sound()


def test_it_remembers_nothing_of_what_lies_in_quarantine(site: Site) -> None:
    site.a.rejoin(site.store)

    with site.a.running(site.store) as pipeline:
        me = pipeline.state.identity.remembered()

    assert (me.pushed, me.restored, me.publishing) == (None, None, None)


def test_twice_is_once(site: Site) -> None:
    site.a.rejoin(site.store)
    before = contents(site.a.home)

    report = site.a.rejoin(site.store)

    assert (report.already, report.quarantine) == (True, None)
    assert contents(site.a.home).keys() == before.keys()


def test_a_host_that_has_nothing_rejoins_too(site: Site, disk: Path) -> None:
    site.a.root.rename(disk / "lost")

    report = site.a.rejoin(site.store)

    assert (report.quarantine, site.a.role) == (None, Role.STANDBY)


def test_beside_a_running_engine_nothing_is_moved(disk: Path) -> None:
    site = fenced(disk, "feldera")
    before = contents(site.a.root)

    with Engine(site.a.root, seed=3), pytest.raises(EngineRunning):
        site.a.rejoin(site.store)

    assert contents(site.a.root) == before
    assert site.a.role is Role.FENCED


def test_where_nobody_can_tell_whether_it_runs_the_operators_word_counts(disk: Path) -> None:
    site = fenced(disk)

    with pytest.raises(Refused, match="cannot tell"):
        site.a.rejoin(site.store, engine_stopped=False)

    assert site.a.role is Role.FENCED
    assert site.a.rejoin(site.store, engine_stopped=True).quarantine is not None


def test_whoever_is_still_the_writer_does_not_step_down_by_itself(disk: Path) -> None:
    site = Site.at(disk)
    site.push_new(site.a)
    before = contents(site.a.root)

    with pytest.raises(Refused, match="still the writer") as caught:
        site.a.rejoin(site.store)

    assert "switchover" in (caught.value.hint or "")
    assert contents(site.a.root) == before
    assert site.a.role is Role.PRIMARY


def test_without_a_repository_there_is_nobody_to_follow(disk: Path) -> None:
    site = Site.at(disk)
    site.write(site.a)

    with pytest.raises(Refused, match="no other primary"):
        site.a.rejoin(site.store)


def test_as_long_as_the_bucket_is_away_nobody_can_tell(site: Site) -> None:
    before = contents(site.a.root)

    with pytest.raises(Unavailable):
        site.a.rejoin(Odd(site.store, lambda _number, _call: AWAY))

    assert contents(site.a.root) == before
    assert site.a.role is Role.FENCED


def test_a_primary_that_has_not_noticed_yet_may_rejoin_at_once(disk: Path) -> None:
    site = Site.at(disk)
    site.push_new(site.a)
    site.a.start(site.store)
    take_over(site.store, "host-b")

    assert site.a.rejoin(site.store).quarantine is not None
    assert site.a.role is Role.STANDBY


def test_an_activation_that_another_node_overtook_is_given_up(disk: Path) -> None:
    site = Site.at(disk)
    site.push_new(site.a)
    b = replace(site.b, standby=StandbySettings(initially=True, start_from="step-9"))
    with pytest.raises(CheckpointNotFound, match="step-9"):
        b.activate(site.store)
    assert b.role is Role.ACTIVATION_FAILED
    with pytest.raises(Refused, match="still the writer"):
        b.rejoin(site.store)
    site.c.activate(site.store, "by-c")

    b.rejoin(site.store)

    with b.running(site.store) as pipeline:
        assert pipeline.state.activations.unfinished() is None
    assert b.start(site.store) is Role.STANDBY


def test_a_crash_at_any_call_is_rejoined_from_again(disk: Path) -> None:
    """It asks the bucket one thing, before it moves anything."""

    def act(each: Site, store: ObjectStore) -> None:
        each.a.rejoin(store)

    site = fenced(disk / "site")
    for left in crashes(site, disk, act, at_least=1):
        before = contents(left.a.root)
        assert left.a.start(left.store) is Role.FENCED

        report = left.a.rejoin(left.store)

        assert report.quarantine is not None
        assert contents(report.quarantine) == before


def test_a_head_that_is_gone_is_no_reason_to_move_anything(site: Site) -> None:
    site.store.delete(["head.json"])
    before = contents(site.a.root)

    with pytest.raises(HeadLost):
        site.a.rejoin(site.store)

    assert contents(site.a.root) == before
