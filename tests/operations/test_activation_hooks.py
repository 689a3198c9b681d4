"""The operator's commands around an activation, and who is told of what."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import (
    CannotTell,
    EngineRunning,
    HookFailed,
    PrimaryActive,
    Refused,
    Unavailable,
    Vetoed,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role, ignore
from ckptsync.operations.activate import activate
from ckptsync.operations.orders import Activate
from ckptsync.operations.pipeline import Takeover
from ckptsync.operations.standby import Standby
from ckptsync.repository import keys
from ckptsync.sources.directory import Directory
from ckptsync.state.activation import Stage
from ckptsync.stores.local import LocalStore
from tests.fakes.feldera_engine import Engine
from tests.fakes.stores import Call
from tests.operations.actors import Odd, Verdict
from tests.operations.takeovers import HookLog, Site, a_node
from tests.pipelines import contents, snapshot

_AROUND: Final = (Hook.PRE_ACTIVATE, Hook.ON_ACTIVATE, Hook.ON_FENCED)


@pytest.fixture
def site(disk: Path) -> Site:
    """With one checkpoint in the bucket; the hooks of host-b are real commands."""
    site = Site.at(disk)
    site.b = replace(site.b, hooks=HookLog(disk).commands(*_AROUND))
    site.push_new(site.a)
    return site


@pytest.fixture
def log(disk: Path) -> HookLog:
    return HookLog(disk)


def test_the_engine_is_started_once_head_calls_its_node_the_active_writer(
    disk: Path, directory_bucket: LocalStore
) -> None:
    head, seen = disk / "bucket" / "head.json", disk / "seen"
    script = f'grep -o \'"writer":{{"node":"host-[a-z]"\\|"state":"activ[a-z]*"\' {head}'
    ask = ("sh", "-c", f'echo "$CKPTSYNC_HOOK" $({script}) >> {seen}')
    b = a_node(disk, "host-b", hooks={Hook.PRE_ACTIVATE: ask, Hook.ON_ACTIVATE: ask})
    a_node(disk, "host-a").push_new("step-1", directory_bucket)

    b.activate(directory_bucket)

    assert [line.replace('"', "") for line in seen.read_text().splitlines()] == [
        "pre_activate writer:{node:host-a state:active",
        "on_activate writer:{node:host-b state:active",
    ]


def test_hooks_are_told_what_is_activated(site: Site, log: HookLog) -> None:
    site.b.activate(site.store)

    assert log.lines() == ["pre_activate", f"on_activate {site.acknowledged[-1].id}"]


def test_a_veto_changes_nothing(site: Site, log: HookLog) -> None:
    log.fail(Hook.PRE_ACTIVATE)
    bucket, disk = snapshot(site.store), contents(site.a.root)

    with pytest.raises(Vetoed) as caught:
        site.b.activate(site.store)

    assert caught.value.exit_code == 13
    assert log.names() == ["pre_activate"]
    assert snapshot(site.store) == bucket
    assert contents(site.a.root) == disk
    assert not site.b.root.exists()
    assert (site.b.role, site.b.told()) == (Role.STANDBY, [])
    log.fail(Hook.PRE_ACTIVATE, fails=False)
    assert site.b.activate(site.store).role is Role.PRIMARY


def test_after_a_failed_hook_on_activate_asking_again_runs_the_hook_alone(
    site: Site, log: HookLog
) -> None:
    log.fail(Hook.ON_ACTIVATE)

    with pytest.raises(HookFailed):
        site.b.activate(site.store)

    assert site.b.role is Role.ACTIVATION_FAILED
    marker = site.b.activation
    assert marker is not None
    assert marker.stage is Stage.CONFIRMED
    assert "on_activate" in (marker.problem or "")
    head, disk = site.head, contents(site.b.root)
    log.fail(Hook.ON_ACTIVATE, fails=False)

    report = site.b.activate(site.store)

    assert (report.role, report.epoch) == (Role.PRIMARY, 2)
    assert log.names() == ["pre_activate", "on_activate", "on_activate"]
    assert site.head == head
    assert contents(site.b.root) == disk
    assert site.b.told() == [
        Role.ACTIVATING, Role.ACTIVATION_FAILED, Role.ACTIVATING, Role.PRIMARY,
    ]  # fmt: skip
    marker = site.b.activation
    assert marker is not None
    assert (marker.stage, marker.problem) == (Stage.DONE, None)


def test_an_engine_that_was_to_be_started_while_another_node_took_over_is_stopped(
    site: Site, log: HookLog
) -> None:
    log.fail(Hook.ON_ACTIVATE)
    with pytest.raises(HookFailed):
        site.b.activate(site.store)
    site.c.activate(site.store, "by-c", force=True)

    with pytest.raises(Exception, match="node 'host-c' took over"):
        site.b.activate(site.store)

    assert site.b.role is Role.FENCED
    assert log.names().count("on_activate") == 1, "the engine was started though it is fenced"


def test_one_that_was_approved_is_not_put_to_the_veto_again(site: Site, log: HookLog) -> None:
    """A veto that came only after the epoch was taken would leave nobody primary."""
    reads = 0

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal reads
        reads += call.key.startswith(keys.MANIFESTS)
        away = call.key.startswith(keys.MANIFESTS)
        return Unavailable(site.store.name, "read", call.key, "503") if away else None

    with pytest.raises(Unavailable):
        site.b.activate(Odd(site.store, decide))
    assert reads
    log.fail(Hook.PRE_ACTIVATE)

    assert site.b.activate(site.store).role is Role.PRIMARY


# Whether the engine runs


def test_nothing_is_begun_beside_a_running_engine(disk: Path) -> None:
    site = Site.at(disk, "feldera")
    site.push_new(site.a)
    bucket = snapshot(site.store)

    with Engine(site.b.root), pytest.raises(EngineRunning):
        site.b.activate(site.store, engine_stopped=True)

    assert snapshot(site.store) == bucket
    assert site.b.role is Role.STANDBY
    assert site.b.activate(site.store).role is Role.PRIMARY


def test_where_nobody_can_tell_the_operators_word_counts(site: Site) -> None:
    bucket = snapshot(site.store)

    with pytest.raises(Refused, match="cannot tell whether an engine runs"):
        site.b.activate(site.store, engine_stopped=False)

    assert snapshot(site.store) == bucket
    assert site.b.activate(site.store, engine_stopped=True).role is Role.PRIMARY


def test_a_hook_that_cannot_tell_is_no_bucket_that_is_away(site: Site) -> None:
    """Going on without the bucket is not going on beside an engine that may be running."""
    b = replace(site.b, takeover=Takeover(on_pull_failure="local"))
    b.poll(site.store)
    answers = iter([CannotTell("whether the engine runs is unknown")])

    def engine_running() -> bool:
        for error in answers:
            raise error
        return False

    order = Activate(request="r", force=True)
    with b.running(site.store) as running:
        pipeline = replace(running, layout=Directory(b.root, engine_running=engine_running))
        with pytest.raises(CannotTell, match="whether the engine"):
            activate(pipeline, order, Standby(pipeline), progress=ignore)

    assert b.role is Role.STANDBY
    assert not b.root.exists()


# What is announced


def test_each_change_of_role_is_announced_once_and_in_order(site: Site) -> None:
    site.a.start(site.store)
    site.b.start(site.store)
    site.b.activate(site.store)
    assert site.a.start(site.store) is Role.FENCED
    site.a.rejoin(site.store)

    assert site.a.told() == [Role.PRIMARY, Role.FENCED, Role.STANDBY]
    assert site.b.told() == [Role.STANDBY, Role.ACTIVATING, Role.PRIMARY]
    assert [change.epoch for change in site.b.roles] == [0, 2, 2]


def test_what_was_refused_by_the_guard_is_not_announced(site: Site) -> None:
    site.a.beat(site.store)

    with pytest.raises(PrimaryActive):
        site.b.activate(site.store)

    assert site.b.told() == []
