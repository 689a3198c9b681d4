"""A planned switchover: one node gives its pipeline away, another takes it, and nothing is lost."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from ckptsync.errors import (
    Cancelled,
    CheckpointNotFound,
    CkptsyncError,
    EngineRunning,
    Fenced,
    HookFailed,
    NothingToDo,
    NotPrimary,
    Refused,
    RollbackDetected,
    TimedOut,
    Unavailable,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.operations.may_start import may_start
from ckptsync.operations.roles import become
from ckptsync.operations.taking_back import take_back
from ckptsync.repository import keys
from tests.fakes import feldera_engine
from tests.fakes.feldera_engine import Engine
from tests.fakes.stores import Call, Crash
from tests.operations.actors import Odd, Verdict, take_over
from tests.operations.races import unavailable
from tests.operations.switchovers import (
    a_site,
    hand_over,
    patiently,
    require_one_primary,
    takes,
)
from tests.operations.takeovers import HookLog, Site
from tests.pipelines import contents, snapshot


@pytest.fixture(params=["directory", "feldera"])
def site(disk: Path, request: pytest.FixtureRequest) -> Site:
    return a_site(disk, request.param)


def _go_back(site: Site) -> None:
    old = site.store.get(keys.HEAD, limit=1 << 20).data
    site.push(site.a)
    site.store.put(keys.HEAD, old)


def test_the_last_checkpoint_is_pushed_and_the_other_node_goes_on_from_it(site: Site) -> None:
    last = list(site.written)[-1]

    report = hand_over(site)

    assert (report.node, report.epoch) == ("host-b", 2)
    assert report.checkpoint == site.head.latest
    site.require_restored(site.b, last)
    assert site.a.told() == [Role.PRIMARY, Role.RELEASED, Role.STANDBY]
    assert require_one_primary(site) == "host-b"


def test_the_old_primary_is_a_standby_with_nothing_to_quarantine(site: Site) -> None:
    before = contents(site.a.root)

    hand_over(site)

    assert contents(site.a.root) == before
    assert not (site.a.work / "quarantine").exists()
    site.push_new(site.b)
    assert site.a.poll(site.store).warm is not None
    assert site.a.start(site.store) is Role.STANDBY


def test_forth_and_back_and_forth_again(site: Site) -> None:
    one, other = site.a, site.b
    for turn in range(4):
        other.poll(site.store)
        other.beat(site.store)
        site.write(one)
        last = list(site.written)[-1]

        one.hand_over(site.store, other.node, patiently(partial(takes, site, other)))

        site.require_restored(other, last)
        assert site.head.epoch == turn + 2
        site.push_new(other)
        site.require_sound()
        one, other = other, one


def test_the_journal_of_the_former_life_is_not_replayed_by_who_takes_the_pipeline_back(
    disk: Path,
) -> None:
    """The other node ran from the same checkpoint, and was lost before it could push another."""
    site = a_site(disk, "feldera")
    last = list(site.written)[-1]
    resumed = feldera_engine.resume(site.a.root)
    assert resumed is not None
    assert resumed.journal
    hand_over(site)
    site.clock.passes(minutes=5)
    site.a.poll(site.store)

    site.a.activate(site.store, "back")

    site.require_restored(site.a, last)
    site.require_sound()


def test_what_was_restored_and_not_followed_by_another_is_what_is_given(disk: Path) -> None:
    site = Site.at(disk / "site", "feldera")
    latest = site.push_new(site.a)
    site.b.activate(site.store)
    site.c.poll(site.store)
    site.c.probe(site.store)
    site.c.beat(site.store)

    report = site.b.hand_over(site.store, "host-c", patiently(partial(takes, site, site.c)))

    assert report.checkpoint == latest.id


def test_what_is_released_is_named(site: Site) -> None:
    seen = []

    def look() -> None:
        seen.append((site.head.writer.state, site.head.writer.released_to, site.a.role))
        takes(site, site.b)

    hand_over(site, meanwhile=patiently(look))

    assert seen == [("released", "host-b", Role.RELEASED)]
    assert site.head.writer.released_to is None


# Hooks and the engine


def test_the_hook_on_release_lets_the_engine_write_its_last_checkpoint(disk: Path) -> None:
    site = a_site(disk)
    command = f"cp -a '{site.a.root}/step-2' '{site.a.root}/step-3'"
    site.a = replace(site.a, hooks={Hook.ON_RELEASE: ("sh", "-c", command)})

    report = hand_over(site)

    assert (site.b.root / "step-3").exists()
    assert site.head.checkpoints[-1].engine_id == "step-3"
    assert report.checkpoint == site.head.checkpoints[-1].id


def test_a_hook_that_fails_leaves_everything_as_it_was(disk: Path) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_RELEASE, Hook.ON_ACTIVATE))
    log.fail(Hook.ON_RELEASE)
    bucket = snapshot(site.store)

    with pytest.raises(HookFailed):
        hand_over(site)

    assert snapshot(site.store) == bucket
    assert log.names() == ["on_release", "on_activate"], "the engine may have been stopped"
    assert require_one_primary(site) == "host-a"


def test_an_engine_that_does_not_stop_keeps_its_node_primary(disk: Path) -> None:
    site = a_site(disk, "feldera")
    bucket = snapshot(site.store)

    with Engine(site.a.root, seed=7), pytest.raises((TimedOut, EngineRunning)):
        hand_over(site, timeout=timedelta(0))

    assert snapshot(site.store) == bucket
    assert site.a.role is Role.PRIMARY
    with site.a.running(site.store) as pipeline:
        assert pipeline.state.handovers.current() is None


def test_an_engine_that_takes_its_time_to_stop_is_waited_for(disk: Path) -> None:
    site = a_site(disk, "feldera")
    site.a = replace(site.a, hooks={Hook.ON_RELEASE: ("true",)})
    engine = Engine(site.a.root, seed=7)
    engine.start()

    report = hand_over(
        site, meanwhile=patiently(lambda: None, engine.stop, lambda: takes(site, site.b))
    )

    assert report.node == "host-b"


def test_where_there_is_nothing_to_push_nothing_is_given_away(disk: Path) -> None:
    site = Site.at(disk)
    site.a.start(site.store)
    site.b.poll(site.store)
    site.b.beat(site.store)
    site.a.root.mkdir()

    with pytest.raises(CheckpointNotFound):
        hand_over(site)

    assert site.a.role is Role.PRIMARY
    assert site.head.writer.state == "active"


# Refused


def test_only_a_living_standby_is_given_the_pipeline(disk: Path) -> None:
    site = a_site(disk)
    bucket = snapshot(site.store)

    def refused(to: str, why: str) -> None:
        with pytest.raises(Refused, match=why) as caught:
            site.a.hand_over(site.store, to, patiently())
        assert "ckptsync topology orders" in (caught.value.hint or "")
        assert caught.value.exit_code == 13

    refused("host-a", "is this one")
    refused("host-d", "gives no sign of life")
    site.clock.passes(seconds=30)
    refused("host-b", "gives no sign of life")
    assert snapshot(site.store) == bucket
    site.store.put("nodes/host-b.json", b"{")
    refused("host-b", "gives no sign of life")
    with site.b.running(site.store) as pipeline:
        become(pipeline, Role.ACTIVATION_FAILED)
    site.b.beat(site.store)
    refused("host-b", "is activation_failed, not a standby")
    with site.c.running(site.store) as pipeline:
        pipeline.state.roles.pause(site.clock.time)
    site.c.beat(site.store)
    with pytest.raises(Refused, match="'host-c' is paused") as caught:
        site.a.hand_over(site.store, "host-c", patiently())
    assert "ckptsync resume orders" in (caught.value.hint or "")
    assert site.a.role is Role.PRIMARY


@pytest.mark.parametrize("node", ["b", "c"])
def test_only_the_primary_gives_the_pipeline_away(disk: Path, node: str) -> None:
    site = a_site(disk)

    with pytest.raises(NotPrimary):
        getattr(site, node).hand_over(site.store, "host-a", patiently())


@pytest.mark.parametrize("meddle", [lambda site: take_over(site.store), _go_back])
def test_where_head_speaks_against_this_node_its_engine_is_left_alone(
    disk: Path, meddle: Callable[[Site], object]
) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(*Hook))
    meddle(site)

    with pytest.raises((Fenced, RollbackDetected)):
        hand_over(site)

    assert log.names() == []


def test_a_primary_that_is_displaced_before_its_last_push_starts_no_engine(disk: Path) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_RELEASE, Hook.ON_ACTIVATE))

    def overtake() -> None:
        if log.names():  # the engine was stopped
            site.c.activate(site.store, "by-c", force=True)

    odd = Odd(site.store, lambda _number, _call: overtake() if site.head.epoch == 1 else None)
    with pytest.raises(Fenced, match="node 'host-c'"):
        hand_over(site, odd)

    assert log.names() == ["on_release"]
    assert site.a.carry_on(site.store) is Role.FENCED
    site.require_sound()


# Taken back


@pytest.mark.parametrize("why", ["withdrawn", "late"])
def test_what_nobody_took_is_taken_back_and_gone_on_with(disk: Path, why: str) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_ACTIVATE))
    withdraw = threading.Event()

    def end() -> None:
        if why == "withdrawn":
            withdraw.set()
        else:
            site.clock.passes(hours=2)

    with pytest.raises(Cancelled if why == "withdrawn" else TimedOut, match="host-b"):
        hand_over(site, meanwhile=patiently(end), withdraw=withdraw)

    assert log.names() == ["on_activate"]
    assert site.head.epoch == 1
    assert site.head.timelines == (site.head.timelines[0],)
    assert site.a.told() == [Role.PRIMARY, Role.RELEASED, Role.PRIMARY]
    takes(site, site.b)
    assert require_one_primary(site) == "host-a"


def test_the_other_node_gets_its_time_however_long_the_last_push_took(disk: Path) -> None:
    site = a_site(disk)
    manifests = 0

    def decide(_number: int, call: Call) -> None:
        nonlocal manifests
        if call.method == "put" and call.key.startswith(keys.MANIFESTS):
            manifests += 1
            site.clock.passes(hours=5)

    site.b = replace(site.b, now=lambda: site.clock.time)

    def alive() -> None:
        site.b.beat(site.store)
        takes(site, site.b)

    report = hand_over(site, Odd(site.store, decide), patiently(lambda: None, alive))

    assert manifests == 1
    assert report.node == "host-b"


def test_a_hook_that_cannot_start_the_engine_again_does_not_keep_it_from_being_primary(
    disk: Path,
) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_ACTIVATE))
    log.fail(Hook.ON_ACTIVATE)

    with pytest.raises(HookFailed):
        hand_over(site, meanwhile=patiently(), timeout=timedelta(seconds=-1))

    assert site.a.role is Role.PRIMARY
    with site.a.running(site.store) as pipeline:
        change = pipeline.state.roles.current()
        assert change is not None
        assert "the engine was not started again: the hook on_activate" in (change.problem or "")
        assert may_start(pipeline, fresh=False).verified, "an operator may start it"

    with pytest.raises(HookFailed):
        site.a.carry_on(site.store)
    log.fail(Hook.ON_ACTIVATE, fails=False)
    assert site.a.carry_on(site.store) is Role.PRIMARY

    assert log.names() == ["on_activate"] * 3
    assert require_one_primary(site) == "host-a"
    with site.a.running(site.store) as pipeline:
        change = pipeline.state.roles.current()
        assert change is not None
        assert change.problem is None


def test_a_command_takes_back_what_no_daemon_has_in_hand(disk: Path) -> None:
    site = a_site(disk)
    _stop_while_released(site)

    with site.a.running(site.store) as pipeline:
        assert take_back(pipeline) is Role.PRIMARY

    assert require_one_primary(site) == "host-a"
    with site.a.running(site.store) as pipeline, pytest.raises(NothingToDo):
        take_back(pipeline)


def test_what_was_taken_meanwhile_is_not_taken_back(disk: Path) -> None:
    site = a_site(disk)
    _stop_while_released(site)
    takes(site, site.b)

    with site.a.running(site.store) as pipeline:
        assert take_back(pipeline) is Role.STANDBY
        assert pipeline.state.handovers.current() is None

    assert require_one_primary(site) == "host-b"


def _stop_while_released(site: Site) -> None:
    def kill() -> None:
        raise Crash

    with pytest.raises(Crash):
        hand_over(site, meanwhile=patiently(kill))
    assert site.head.writer.state == "released"


def test_while_the_bucket_is_away_nobody_can_tell_so_it_waits(disk: Path) -> None:
    site = a_site(disk)
    away = True

    def decide(_number: int, call: Call) -> Verdict:
        gone = away and site.head.writer.state == "released"
        return unavailable(call) if gone else None

    def comes_back() -> None:
        nonlocal away
        away = False
        site.clock.passes(hours=2)

    wait = patiently(lambda: site.clock.passes(hours=2), lambda: None, comes_back)
    with pytest.raises(TimedOut):
        hand_over(site, Odd(site.store, decide), wait)

    assert require_one_primary(site) == "host-a"


def test_errors_of_a_bucket_that_fails_for_good_are_raised(disk: Path) -> None:
    site = a_site(disk)

    with pytest.raises(Unavailable):
        hand_over(site, Odd(site.store, lambda _number, call: unavailable(call)))

    with pytest.raises(CkptsyncError):
        hand_over(
            site, Odd(site.store, lambda number, call: unavailable(call) if number > 4 else None)
        )
    assert site.a.role is Role.PRIMARY
