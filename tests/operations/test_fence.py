"""A primary that was displaced: it finds out, believes it twice, and has its engine stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import (
    CkptsyncError,
    Fenced,
    ForeignWriter,
    HeadLost,
    NotPrimary,
    Refused,
    RollbackDetected,
    Unavailable,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.operations import fence
from ckptsync.operations.roles import announce, require_primary
from ckptsync.repository import keys
from ckptsync.stores.base import ObjectStore
from tests.fakes.stores import Call
from tests.operations.actors import Odd, Verdict, edit_head, take_over, write_as_a_clone
from tests.operations.races import READ
from tests.operations.takeovers import HookLog, Node, Site
from tests.pipelines import snapshot

AWAY: Final = Unavailable("s3://dr/orders", "read", "head.json", "timed out")


@pytest.fixture
def log(disk: Path) -> HookLog:
    return HookLog(disk)


@pytest.fixture
def site(disk: Path, log: HookLog) -> Site:
    """Host-a is primary, and has a hook that stops its engine."""
    site = Site.at(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_FENCED))
    site.push_new(site.a)
    site.a.start(site.store)
    return site


def look(node: Node, store: ObjectStore) -> CkptsyncError | None:
    with node.running(store) as pipeline:
        return fence.look(pipeline, None).trouble


def settle(node: Node, store: ObjectStore, trouble: CkptsyncError) -> Role:
    with node.running(store) as pipeline:
        fence.settle(pipeline, trouble)
    return node.role


def stop_engine(node: Node, store: ObjectStore) -> bool:
    with node.running(store) as pipeline:
        return fence.stop_engine(pipeline)


def test_a_look_at_an_unchanged_head_is_one_request_that_brings_nothing(site: Site) -> None:
    with site.a.running(site.store) as pipeline:
        first = fence.look(pipeline, None)
        again = fence.look(pipeline, first.version)

    assert (first.trouble, again.trouble) == (None, None)
    assert first.version == again.version is not None


def test_a_look_finds_who_took_over_and_writes_nothing(site: Site) -> None:
    site.b.activate(site.store, force=True)
    bucket = snapshot(site.store)

    trouble = look(site.a, site.store)

    assert isinstance(trouble, Fenced)
    assert "node 'host-b' took over at epoch 2" in str(trouble)
    assert snapshot(site.store) == bucket
    assert site.a.role is Role.PRIMARY, "seen once is not believed"


def test_a_look_at_a_bucket_that_does_not_answer_is_no_verdict(site: Site) -> None:
    with pytest.raises(Unavailable):
        look(site.a, Odd(site.store, lambda _number, _call: AWAY))

    assert site.a.role is Role.PRIMARY


def test_whoever_was_seen_to_be_displaced_twice_is_fenced(site: Site) -> None:
    take_over(site.store)
    trouble = look(site.a, site.store)
    assert trouble is not None

    assert settle(site.a, site.store, trouble) is Role.FENCED

    assert site.a.told() == [Role.PRIMARY, Role.FENCED]
    assert "node 'host-b' took over" in (site.a.roles[-1].reason or "")


def test_what_was_read_once_too_old_fences_nobody(site: Site) -> None:
    """The watch reads while the push swaps."""
    assert settle(site.a, site.store, Fenced("as it looked")) is Role.PRIMARY

    with pytest.raises(Unavailable):
        settle(site.a, Odd(site.store, lambda _number, _call: AWAY), Fenced("as it looked"))
    assert site.a.role is Role.PRIMARY


@pytest.mark.parametrize(
    ("trouble", "role"),
    [(Fenced, Role.FENCED), (ForeignWriter, Role.STOPPED), (RollbackDetected, Role.STOPPED)],
)
def test_both_looks_have_to_find_the_same(
    site: Site, trouble: type[CkptsyncError], role: Role
) -> None:
    write_as_a_clone(site.store)

    settled = settle(site.a, site.store, trouble("as it looked"))

    assert settled is (Role.PRIMARY if role is Role.FENCED else Role.STOPPED)


def test_a_lost_head_stops_a_primary_and_leaves_its_engine_alone(site: Site, log: HookLog) -> None:
    site.store.delete([keys.HEAD])
    trouble = look(site.a, site.store)
    assert isinstance(trouble, HeadLost)

    assert settle(site.a, site.store, trouble) is Role.STOPPED

    assert stop_engine(site.a, site.store)
    assert log.names() == []


def test_only_a_primary_can_lose_its_role(site: Site) -> None:
    take_over(site.store, "host-d")
    site.b.poll(site.store)

    assert settle(site.b, site.store, Fenced("whoever")) is Role.STANDBY


# The engine


@pytest.fixture
def fenced(site: Site) -> Site:
    site.b.activate(site.store, force=True)
    trouble = look(site.a, site.store)
    assert trouble is not None
    assert settle(site.a, site.store, trouble) is Role.FENCED
    return site


def test_the_hook_runs_until_it_succeeds_and_then_no_more(fenced: Site, log: HookLog) -> None:
    log.fail(Hook.ON_FENCED)
    assert not stop_engine(fenced.a, fenced.store)
    assert not stop_engine(fenced.a, fenced.store)
    assert fenced.a.roles[-1].problem == fence.ENGINE_NOT_STOPPED
    log.fail(Hook.ON_FENCED, fails=False)

    assert stop_engine(fenced.a, fenced.store)
    assert stop_engine(fenced.a, fenced.store)

    assert log.lines() == ["on_fenced fenced"] * 3
    assert fenced.a.roles[-1].problem is None


def test_a_restart_does_not_forget_that_the_engine_is_to_be_stopped(
    fenced: Site, log: HookLog
) -> None:
    assert fenced.a.start(fenced.store) is Role.FENCED

    assert stop_engine(fenced.a, fenced.store)

    assert log.names() == ["on_fenced"]


def test_without_a_hook_there_is_nothing_to_run(site: Site) -> None:
    a = replace(site.a, hooks={})
    take_over(site.store)
    trouble = look(a, site.store)
    assert trouble is not None

    assert settle(a, site.store, trouble) is Role.FENCED

    assert a.roles[-1].problem is None
    assert stop_engine(a, site.store)


def test_no_engine_is_stopped_in_any_other_role(site: Site, log: HookLog) -> None:
    for node in (site.a, site.b):
        assert stop_engine(node, site.store)

    assert log.names() == []


# What a fenced node does not do


def test_a_fenced_node_pushes_nothing(fenced: Site) -> None:
    fenced.write(fenced.a)
    bucket = snapshot(fenced.store)

    with fenced.a.running(fenced.store) as pipeline, pytest.raises(Fenced):
        require_primary(pipeline)
    with pytest.raises(Fenced):
        fenced.a.push(fenced.store)

    assert snapshot(fenced.store) == bucket


def test_a_fenced_node_is_not_activated_before_it_has_rejoined(fenced: Site) -> None:
    bucket = snapshot(fenced.store)

    with pytest.raises(Refused, match="fenced") as caught:
        fenced.a.activate(fenced.store, force=True)

    assert caught.value.hint == "ckptsync rejoin orders"
    assert snapshot(fenced.store) == bucket
    fenced.a.rejoin(fenced.store)
    assert fenced.a.activate(fenced.store, force=True).role is Role.PRIMARY


def test_a_standby_is_told_how_to_become_the_primary(site: Site) -> None:
    with site.b.running(site.store) as pipeline, pytest.raises(NotPrimary) as caught:
        require_primary(pipeline)

    assert caught.value.exit_code == 13
    assert caught.value.hint == "ckptsync activate orders"


def test_a_push_that_is_displaced_between_its_look_and_its_swap_commits_nothing(
    site: Site,
) -> None:
    """A frozen primary that thaws."""
    site.write(site.a)
    swaps = 0

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swaps
        if call == Call("put", keys.HEAD):
            swaps += 1
            site.b.activate(site.store, force=True)
        return None

    with pytest.raises(Fenced):
        site.a.push(Odd(site.store, decide))

    assert swaps == 1
    site.require_sound()
    assert [each.engine_id for each in site.head.checkpoints] == ["step-1"]


def test_a_failing_announcement_changes_nothing(site: Site, disk: Path) -> None:
    log = HookLog(disk)
    log.fail(Hook.ON_ROLE_CHANGE)
    a = replace(site.a, hooks=log.commands(Hook.ON_ROLE_CHANGE))

    with a.running(site.store) as pipeline:
        for change in a.roles:
            announce(pipeline.hooks, change)

    assert log.lines() == ["on_role_change primary"]
    assert a.role is Role.PRIMARY


def test_reading_head_for_a_look_is_all_that_is_asked(site: Site) -> None:
    watched = Odd(site.store, lambda _number, _call: None)

    look(site.a, watched)

    assert watched.calls == [READ]
    edit_head(site.store)
    assert look(site.a, site.store) is None
