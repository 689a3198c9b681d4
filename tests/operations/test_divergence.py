"""Activation while the bucket does not answer, and what becomes of it once the bucket does."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from ckptsync.errors import (
    AccessDenied,
    BucketNotFound,
    CannotTell,
    CkptsyncError,
    Diverged,
    EngineRunning,
    HookFailed,
    Refused,
    TooStale,
    Unavailable,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.operations.activate import Activated
from ckptsync.operations.pipeline import Takeover
from ckptsync.operations.push import push
from ckptsync.operations.rejoin import Rejoined
from ckptsync.operations.roles import become, require_primary
from ckptsync.repository import keys
from ckptsync.repository.head import Fork
from ckptsync.state.activation import Stage
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.feldera_engine import Engine
from tests.fakes.stores import Call
from tests.operations.actors import LOST, Late, Odd, Verdict, edit_head
from tests.operations.races import READ, SWAP, unavailable
from tests.operations.takeovers import HookLog, Node, Site, crashes, meddled
from tests.pipelines import contents, snapshot

LOCAL: Final = Takeover(on_pull_failure="local")
AWAY: Final = Unavailable("s3://dr/orders", "reach", "the store", "timed out")


def away(store: ObjectStore, error: CkptsyncError = AWAY) -> Odd:
    return Odd(store, lambda _number, _call: error)


@pytest.fixture(params=["directory", "feldera"])
def site(disk: Path, request: pytest.FixtureRequest) -> Site:
    """Host-b has the latest checkpoint warm, and may go on without the bucket."""
    site = Site.at(disk / "site", request.param)
    site.b = replace(site.b, takeover=LOCAL)
    site.push_new(site.a)
    site.push_new(site.a)
    site.b.poll(site.store)
    return site


@pytest.fixture
def unfenced(site: Site) -> Site:
    """Host-b goes on without the bucket, from the latest checkpoint."""
    assert site.b.activate(away(site.store), force=True).role is Role.UNFENCED
    return site


def writes(site: Site) -> str:
    """The engine of host-b goes on."""
    return site.write(site.b)


# Without the bucket


@pytest.mark.parametrize(
    "error",
    [
        AWAY,
        AccessDenied("s3://dr/orders", "read", keys.HEAD, "403"),
        BucketNotFound("s3://dr/orders", "read", keys.HEAD, "NoSuchBucket"),
        CannotTell("nobody knows"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_by_force_and_configuration_a_node_goes_on_without_the_bucket(
    site: Site, error: CkptsyncError
) -> None:
    latest = site.acknowledged[-1]

    report = site.b.activate(away(site.store, error), force=True, reason="the site burns")

    assert (report.role, report.already) == (Role.UNFENCED, False)
    assert (report.epoch, report.timeline, report.checkpoint) == (1, None, latest.id)
    site.require_restored(site.b, latest.engine_id)
    marker = site.b.activation
    assert marker is not None
    assert (marker.stage, marker.epoch, marker.checkpoint) == (Stage.UNFENCED, 1, latest.id)
    assert site.b.told() == [Role.UNFENCED]
    assert site.b.activate(away(site.store), force=True).already


@pytest.mark.parametrize(
    ("takeover", "force"), [(Takeover(), True), (LOCAL, False), (Takeover(), False)]
)
def test_without_both_it_does_not(site: Site, takeover: Takeover, force: bool) -> None:
    b = replace(site.b, takeover=takeover)

    with pytest.raises(Unavailable):
        b.activate(away(site.store), force=force)

    assert b.role is Role.STANDBY
    assert not b.root.exists()
    with b.running(site.store) as pipeline:
        assert pipeline.state.activations.unfinished() is None
    assert b.activate(site.store).role is Role.PRIMARY


def test_it_does_not_with_what_is_too_old(site: Site) -> None:
    site.clock.passes(minutes=16)

    with pytest.raises(TooStale):
        site.b.activate(away(site.store), force=True)

    assert site.b.role is Role.STANDBY
    assert not site.b.root.exists()


def test_an_unfenced_node_pushes_nothing_and_is_not_activated(unfenced: Site) -> None:
    writes(unfenced)
    bucket = snapshot(unfenced.store)

    with unfenced.b.running(unfenced.store) as pipeline, pytest.raises(Diverged):
        require_primary(pipeline)
    with pytest.raises(Refused):
        unfenced.b.activate(unfenced.store, "another", force=True)

    assert snapshot(unfenced.store) == bucket
    assert unfenced.b.role is Role.UNFENCED


def test_a_restart_keeps_the_role(unfenced: Site) -> None:
    assert unfenced.b.start(away(unfenced.store)) is Role.UNFENCED


def test_the_hook_that_failed_is_run_again_when_it_is_asked_again(disk: Path) -> None:
    log = HookLog(disk)
    site = Site.at(disk / "site")
    site.b = replace(site.b, takeover=LOCAL, hooks=log.commands(Hook.ON_ACTIVATE))
    site.push_new(site.a)
    site.b.poll(site.store)
    log.fail(Hook.ON_ACTIVATE)
    with pytest.raises(HookFailed):
        site.b.activate(away(site.store), force=True)
    assert site.b.role is Role.UNFENCED
    log.fail(Hook.ON_ACTIVATE, fails=False)

    for _ in range(2):
        assert site.b.activate(away(site.store), force=True).role is Role.UNFENCED

    assert log.names() == ["on_activate", "on_activate"], "not run again, or too often"


# The bucket answers again


def test_where_nothing_happened_meanwhile_it_becomes_the_primary(unfenced: Site) -> None:
    id = writes(unfenced)

    assert unfenced.b.reconnect(unfenced.store) is Role.PRIMARY

    assert unfenced.b.told() == [Role.UNFENCED, Role.PRIMARY]
    head = unfenced.head
    assert (head.epoch, head.writer.node, head.writer.state) == (2, "host-b", "active")
    latest = unfenced.acknowledged[-1]
    assert head.timelines[-1].parent == Fork(timeline=1, checkpoint=latest.id)
    pushed = unfenced.push(unfenced.b)
    assert (pushed.engine_id, pushed.timeline) == (id, 2)
    unfenced.require_sound()
    with pytest.raises(CkptsyncError):
        unfenced.push_new(unfenced.a)


def test_what_was_pulled_by_hand_is_known_without_the_bucket(disk: Path) -> None:
    site = Site.at(disk, "feldera")
    site.b = replace(site.b, takeover=LOCAL)
    latest = site.push_new(site.a)
    site.b.restore(site.store)

    assert site.b.activate(away(site.store), force=True).checkpoint == latest.id

    assert site.b.reconnect(site.store) is Role.PRIMARY
    site.push_new(site.b)
    site.require_sound()


def test_beside_a_running_engine_it_becomes_the_primary(disk: Path) -> None:
    site = Site.at(disk, "feldera")
    site.b = replace(site.b, takeover=LOCAL)
    site.push_new(site.a)
    site.b.poll(site.store)
    site.b.activate(away(site.store), force=True)

    with Engine(site.b.root, seed=9) as engine:
        engine.checkpoint()
        assert site.b.reconnect(site.store) is Role.PRIMARY
        site.push(site.b)
    site.require_sound()


def test_as_long_as_the_bucket_is_away_nothing_changes(unfenced: Site) -> None:
    marker = unfenced.b.activation

    with pytest.raises(Unavailable):
        unfenced.b.reconnect(away(unfenced.store))

    assert unfenced.b.role is Role.UNFENCED
    assert unfenced.b.activation == marker
    assert unfenced.b.told() == [Role.UNFENCED]


def _commits(site: Site) -> None:
    site.push_new(site.a)


def _takes_over(site: Site) -> None:
    site.c.activate(site.store, "by-c")


def _is_alive(site: Site) -> None:
    site.a.beat(site.store)


@pytest.mark.parametrize(
    ("meanwhile", "problem"),
    [
        (_commits, "node 'host-a' committed checkpoint"),
        (_takes_over, "node 'host-c' took over at epoch 2"),
        (_is_alive, "node 'host-a', was alive"),
    ],
)
def test_where_the_bucket_went_on_it_has_diverged(
    unfenced: Site, meanwhile: Callable[[Site], None], problem: str
) -> None:
    writes(unfenced)
    meanwhile(unfenced)
    bucket, disk = snapshot(unfenced.store), contents(unfenced.b.root)

    assert unfenced.b.reconnect(unfenced.store) is Role.DIVERGED

    assert unfenced.b.told() == [Role.UNFENCED, Role.DIVERGED]
    assert problem in (unfenced.b.roles[-1].problem or "")
    assert snapshot(unfenced.store) == bucket
    assert contents(unfenced.b.root) == disk
    assert unfenced.b.start(unfenced.store) is Role.DIVERGED
    with unfenced.b.running(unfenced.store) as pipeline, pytest.raises(Diverged):
        require_primary(pipeline)
    with pytest.raises(Refused, match="diverged"):
        unfenced.b.activate(unfenced.store, "another", force=True)
    assert snapshot(unfenced.store) == bucket


def test_a_living_primary_has_to_go_silent_where_there_is_a_guard(unfenced: Site) -> None:
    _is_alive(unfenced)
    b = replace(unfenced.b, takeover=replace(LOCAL, guard=False))

    assert b.reconnect(unfenced.store) is Role.PRIMARY


def test_what_is_left_of_a_bucket_that_never_held_anything_is_created(disk: Path) -> None:
    """Host-b was warm from read_bucket when both went away."""
    seed, site = Site.at(disk / "seed"), Site.at(disk / "site")
    origin = seed.push_new(seed.a)
    site.written.update(seed.written)
    b = replace(site.b, takeover=LOCAL)
    b.poll(site.store, seed.store)

    assert b.activate(away(site.store), force=True).role is Role.UNFENCED
    site.require_restored(b, origin.engine_id)

    assert b.reconnect(site.store) is Role.PRIMARY
    site.b = b
    assert site.push(b).engine_id == origin.engine_id
    site.require_sound()


def test_a_node_without_warm_checkpoints_knows_what_it_pushed_last(disk: Path) -> None:
    """It gave its pipeline away; then the other node burned, and the bucket went away."""
    site = Site.at(disk)
    long = Takeover(on_pull_failure="local", max_staleness=timedelta(days=9999))
    site.a = replace(site.a, takeover=long)
    latest = site.push_new(site.a)
    with site.a.running(site.store) as pipeline:
        become(pipeline, Role.STANDBY)

    report = site.a.activate(away(site.store), force=True)

    assert (report.role, report.checkpoint) == (Role.UNFENCED, latest.id)
    assert site.a.reconnect(site.store) is Role.PRIMARY
    site.push_new(site.a)
    site.require_sound()


# Reconnecting, interrupted


def test_a_crash_at_any_call_of_reconnecting_is_gone_on_from(disk: Path) -> None:
    site = Site.at(disk / "site")
    site.b = replace(site.b, takeover=LOCAL)
    site.push_new(site.a)
    site.b.poll(site.store)
    site.b.probe(site.store)
    site.b.activate(away(site.store), force=True)
    site.write(site.b)

    for left in crashes(site, disk, lambda each, store: each.b.reconnect(store)):
        assert left.b.carry_on(left.store) is Role.PRIMARY
        left.require_sound()
        left.push(left.b)
        left.require_sound()


@pytest.mark.parametrize("swap", [0, 1], ids=["claim", "confirm"])
def test_a_swap_of_reconnecting_that_comes_late_counts(unfenced: Site, swap: int) -> None:
    assert unfenced.b.reconnect(Late(unfenced.store, swap=swap)) is Role.PRIMARY
    unfenced.require_sound()


@pytest.mark.parametrize("stored", [True, False])
def test_its_own_claim_is_no_other_node_that_took_over(unfenced: Site, stored: bool) -> None:
    """The daemon tries again, without a restart in between."""
    swapped = False

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swapped
        if call == SWAP and not swapped:
            swapped = True
            return LOST if stored else unavailable(call)
        return unavailable(call) if swapped and call == READ else None

    with pytest.raises(CannotTell):
        unfenced.b.reconnect(Odd(unfenced.store, decide))
    assert unfenced.b.role is Role.UNFENCED
    writes(unfenced)

    assert unfenced.b.reconnect(unfenced.store) is Role.PRIMARY
    unfenced.push(unfenced.b)
    unfenced.require_sound()


def test_a_claim_that_nobody_could_tell_of_is_recognised_after_going_on_without_the_bucket(
    site: Site,
) -> None:
    """The bucket went away right as the activation took the epoch."""
    swapped = False

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swapped
        if call == SWAP:
            swapped = True
            return LOST
        return unavailable(call) if swapped else None

    report = site.b.activate(Odd(site.store, decide), force=True)

    assert report.role is Role.UNFENCED
    assert site.head.epoch == 2
    writes(site)
    assert site.b.reconnect(site.store) is Role.PRIMARY
    site.push(site.b)
    site.require_sound()


def test_another_node_that_claims_while_it_reconnects_makes_it_diverge(unfenced: Site) -> None:
    """At each moment before its own claim is stored."""
    swapped = False

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swapped
        if call == SWAP and not swapped:
            swapped = True
            unfenced.c.activate(unfenced.store, "by-c", force=True)
        return None

    with pytest.raises(CkptsyncError, match="node 'host-c' took over"):
        unfenced.b.reconnect(Odd(unfenced.store, decide))

    assert unfenced.b.reconnect(unfenced.store) is Role.DIVERGED
    unfenced.require_sound()


def test_what_the_primary_commits_while_it_reconnects_is_never_left_behind(disk: Path) -> None:
    """At each call: the commit is refused, or the operator is asked."""
    site = Site.at(disk / "site")
    site.b = replace(site.b, takeover=LOCAL)
    site.push_new(site.a)
    site.b.poll(site.store)
    site.b.probe(site.store)
    site.b.activate(away(site.store), force=True)
    site.write(site.b)

    def reconnects(each: Site, store: ObjectStore) -> Role:
        return each.b.reconnect(store)

    def commits(each: Site) -> None:
        with suppress(CkptsyncError):
            _commits(each)

    roles = set()
    for left, role in meddled(site, disk, reconnects, commits):
        committed = len(left.acknowledged) == 2
        assert role is (Role.DIVERGED if committed else Role.PRIMARY)
        roles.add(role)
        if role is Role.PRIMARY:
            left.push(left.b)
        left.require_sound()
    assert roles == {Role.DIVERGED, Role.PRIMARY}


def test_a_divergence_gives_up_a_claim_that_was_begun(unfenced: Site) -> None:
    """Else an ordinary start would take up what only an operator may decide."""

    def decide(_number: int, call: Call) -> Verdict:
        return unavailable(call) if call == SWAP or odd.calls.count(SWAP) else None

    odd = Odd(unfenced.store, decide)
    with pytest.raises(CannotTell):
        unfenced.b.reconnect(odd)
    _takes_over(unfenced)

    assert unfenced.b.reconnect(unfenced.store) is Role.DIVERGED

    with unfenced.b.running(unfenced.store) as pipeline:
        assert pipeline.state.activations.unfinished() is None
    assert unfenced.b.start(unfenced.store) is Role.DIVERGED


# The operator decides


@pytest.fixture
def diverged(unfenced: Site) -> Site:
    """Both went on: host-a committed one, host-b wrote one."""
    _commits(unfenced)
    writes(unfenced)
    assert unfenced.b.reconnect(unfenced.store) is Role.DIVERGED
    return unfenced


def test_keeping_what_is_here_leaves_the_commits_of_the_bucket_behind_on_record(
    diverged: Site,
) -> None:
    common, lost = diverged.acknowledged[-2:]
    ours = list(diverged.written)[-1]
    _is_alive(diverged)

    report = diverged.b.settle(diverged.store, "local")

    assert isinstance(report, Activated)
    assert (report.role, report.checkpoint, report.left_behind) == (Role.PRIMARY, common.id, 1)
    assert diverged.head.latest == common.id
    assert diverged.head.timelines[-1].parent == Fork(timeline=1, checkpoint=common.id)
    assert diverged.push(diverged.b).engine_id == ours
    diverged.require_sound(lost=[lost.id])
    assert diverged.b.told()[-2:] == [Role.DIVERGED, Role.PRIMARY]


def test_keeping_the_buckets_puts_what_is_here_into_quarantine(diverged: Site) -> None:
    bucket, ours = snapshot(diverged.store), contents(diverged.b.root)
    if diverged.layout == "feldera":
        ours.pop("feldera.pidlock", None)

    report = diverged.b.settle(diverged.store, "bucket")

    assert isinstance(report, Rejoined)
    assert report.quarantine is not None
    assert contents(report.quarantine) == ours
    assert snapshot(diverged.store) == bucket
    assert diverged.b.role is Role.STANDBY
    warm = diverged.b.poll(diverged.store).warm
    assert warm is not None
    assert warm.entry == diverged.acknowledged[-1]


def test_keeping_the_buckets_stops_the_engine_first(diverged: Site, disk: Path) -> None:
    log = HookLog(disk)
    b = replace(diverged.b, hooks=log.commands(Hook.ON_FENCED))
    log.fail(Hook.ON_FENCED)

    with pytest.raises(HookFailed):
        b.settle(diverged.store, "bucket")

    assert b.role is Role.DIVERGED
    log.fail(Hook.ON_FENCED, fails=False)
    assert isinstance(b.settle(diverged.store, "bucket"), Rejoined)
    assert log.names() == ["on_fenced", "on_fenced"]


def test_keeping_the_buckets_waits_for_nobody_whose_engine_runs(disk: Path) -> None:
    site = Site.at(disk, "feldera")
    site.b = replace(site.b, takeover=LOCAL)
    site.push_new(site.a)
    site.b.poll(site.store)
    site.b.activate(away(site.store), force=True)
    _takes_over(site)
    assert site.b.reconnect(site.store) is Role.DIVERGED

    with Engine(site.b.root, seed=9), pytest.raises(EngineRunning):
        site.b.settle(site.store, "bucket")

    assert site.b.role is Role.DIVERGED


@pytest.mark.parametrize("keep", ["local", "bucket"])
def test_there_is_nothing_to_decide_where_nothing_has_diverged(site: Site, keep: str) -> None:
    nodes: tuple[Node, ...] = (site.a, site.b)
    for node in nodes:
        with pytest.raises(Refused, match="nothing has diverged"):
            node.settle(site.store, keep)


@pytest.mark.parametrize("keep", ["local", "bucket"])
def test_a_crash_at_any_call_of_a_decision_is_decided_again(disk: Path, keep: str) -> None:
    site = Site.at(disk / "site")
    site.b = replace(site.b, takeover=LOCAL)
    site.push_new(site.a)
    site.b.poll(site.store)
    site.b.probe(site.store)
    site.b.activate(away(site.store), force=True)
    lost = site.push_new(site.a)
    site.write(site.b)
    assert site.b.reconnect(site.store) is Role.DIVERGED

    def act(each: Site, store: ObjectStore) -> Any:
        return each.b.settle(store, keep)

    if keep == "bucket":
        act(site, MemoryStore())  # it asks the bucket nothing
        assert site.b.role is Role.STANDBY
        return
    site.acknowledged.remove(lost)
    for left in crashes(site, disk, act):
        role = left.b.carry_on(left.store)
        if role is Role.DIVERGED:
            act(left, left.store)
        assert left.b.role is Role.PRIMARY
        left.push(left.b)
        left.require_sound()


def test_a_store_that_was_moved_on_for_other_reasons_is_no_divergence(unfenced: Site) -> None:
    edit_head(unfenced.store)

    assert unfenced.b.reconnect(unfenced.store) is Role.PRIMARY


def test_what_an_unfenced_node_wrote_is_not_pushed_by_hand(unfenced: Site) -> None:
    """Not even past the role: head names another writer."""
    writes(unfenced)

    with unfenced.b.running(unfenced.store) as pipeline, pytest.raises(CkptsyncError):
        push(pipeline, engine_id=None, new_timeline=False, progress=lambda _moved: None)
