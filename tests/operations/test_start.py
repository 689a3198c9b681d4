"""What a node is when it starts: every row of what it remembers held against what head says."""

import shutil
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import (
    AccessDenied,
    Cancelled,
    CkptsyncError,
    ForeignWriter,
    HeadLost,
    PrimaryActive,
    RollbackDetected,
    Unavailable,
    UnfitStore,
    WrongRepository,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role, ignore
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.operations.pull import PullReport, Restored
from ckptsync.operations.resolve import LATEST, Fresh, Kept
from ckptsync.operations.roles import become
from ckptsync.operations.start import initial_pull
from ckptsync.repository import claim, keys, nodes
from ckptsync.repository.head import encode
from ckptsync.state.switchover import Handover, HandoverStage
from ckptsync.stores.base import ObjectStore
from tests.fakes.stores import Call, Crash, FaultyStore, LyingStore
from tests.operations.actors import Odd, Verdict, edit_head, take_over, write_as_a_clone
from tests.operations.races import SWAP, snapshot_with_probes
from tests.operations.takeovers import HookLog, Node, Site, Waits

AWAY: Final = Unavailable("s3://dr/orders", "read", keys.HEAD, "timed out")


@pytest.fixture
def log(disk: Path) -> HookLog:
    return HookLog(disk)


@pytest.fixture
def site(disk: Path, log: HookLog) -> Site:
    """Host-a has pushed two checkpoints, by hand; no node has a role yet."""
    site = Site.at(disk / "site")
    site.a = replace(site.a, hooks=log.commands(*Hook))
    site.push_new(site.a)
    site.push_new(site.a)
    return site


def require_refused(
    node: Node, site: Site, error: type[CkptsyncError], *, role: Role = Role.STOPPED
) -> CkptsyncError:
    """Nothing at all is written to the bucket, and no engine is touched."""
    bucket = snapshot_with_probes(site.store)

    with pytest.raises(error) as caught:
        node.start(site.store)

    assert snapshot_with_probes(site.store) == bucket
    assert node.role is role
    assert not (site.home.parent / "hooks").exists(), "a hook was run"
    if role is Role.STOPPED:
        assert node.roles[-1].problem == str(caught.value)
        with node.running(site.store) as pipeline:
            assert pipeline.state.roles.current() is not None
    return caught.value


# The rows of the table


def test_an_activation_that_is_in_head_is_resumed(site: Site) -> None:
    site.b.probe(site.store)
    with pytest.raises(Crash):
        site.b.activate(FaultyStore(site.store, crash_at=_after_the_claim(site)))
    head = site.head

    assert site.b.start(site.store) is Role.ACTIVATING

    assert site.head == head
    assert site.b.carry_on(site.store) is Role.PRIMARY
    site.require_sound()


def _after_the_claim(site: Site) -> int:
    rehearsal = site.copied_to(site.home.parent / "rehearsal")
    watched = FaultyStore(rehearsal.store)
    rehearsal.b.activate(watched)
    return watched.calls.index(SWAP) + 1


def test_a_standby_never_asks_the_bucket(site: Site) -> None:
    def silent(_number: int, call: Call) -> Verdict:
        raise AssertionError(f"the bucket was asked to {call.method} {call.key}")

    for _ in range(2):
        assert site.b.start(Odd(site.store, silent)) is Role.STANDBY

    assert site.b.told() == [Role.STANDBY]


@pytest.mark.parametrize("left", [(), (keys.DESCRIPTOR,), (keys.DESCRIPTOR, keys.RECOVER)])
def test_where_nothing_is_a_primary_creates_the_repository(
    disk: Path, left: tuple[str, ...]
) -> None:
    """Or finishes what a first try has left."""
    site, tried = Site.at(disk), Site.at(disk / "tried")
    tried.a.start(tried.store)
    for key in left:
        site.store.put(key, tried.store.get(key, limit=1 << 20).data)

    assert site.a.start(site.store) is Role.PRIMARY

    head = site.head
    assert (head.epoch, head.timeline, head.latest) == (1, 1, None)
    assert (head.writer.node, head.writer.state) == ("host-a", "active")
    if left:
        assert head.repository_id == tried.head.repository_id
    site.push_new(site.a)
    site.require_sound()


def test_a_head_that_is_gone_is_no_empty_bucket(site: Site) -> None:
    site.store.delete([keys.HEAD])

    error = require_refused(site.a, site, HeadLost)

    assert error.exit_code == 12
    assert "rebuild-head" in (error.hint or "")


def test_manifests_without_a_head_are_no_empty_bucket_for_a_new_host_either(
    site: Site, disk: Path
) -> None:
    site.store.delete([keys.HEAD])
    rebuilt = replace(site.a, home=disk / "rebuilt", roles=[])

    require_refused(rebuilt, site, HeadLost)


def test_another_repository_stops_a_node_before_it_writes(site: Site, disk: Path) -> None:
    other = Site.at(disk / "other")
    other.push_new(other.a)
    site.store = other.store

    assert require_refused(site.a, site, WrongRepository).exit_code == 2


def test_another_pipelines_prefix_stops_a_node_before_it_writes(site: Site, disk: Path) -> None:
    stranger = replace(site.a, home=disk / "stranger", pipeline="invoices", roles=[])

    assert require_refused(stranger, site, WrongRepository).exit_code == 2


@pytest.mark.parametrize("older", ["revision", "epoch"])
def test_a_bucket_that_went_back_stops_its_primary(site: Site, older: str) -> None:
    old = site.head
    site.push_new(site.a)
    site.a.start(site.store)
    if older == "epoch":
        edit_head(site.store, epoch=7)
        site.a.start(site.store)
        old = site.head.model_copy(update={"epoch": 6, "revision": site.head.revision + 1})
    site.store.put(keys.HEAD, encode(old))

    error = require_refused(site.a, site, RollbackDetected)

    assert error.exit_code == 11
    assert "accept-rollback" in (error.hint or "")


def test_a_rebuilt_host_does_not_write_beside_the_writer(site: Site, disk: Path) -> None:
    rebuilt = replace(site.a, home=disk / "rebuilt", roles=[])

    error = require_refused(rebuilt, site, ForeignWriter)

    assert error.exit_code == 11
    assert "ckptsync activate" in (error.hint or "")
    assert "standby = true" in (error.hint or "")


def test_what_was_released_stays_released(site: Site) -> None:
    edit_head(site.store, writer=claim.released(site.head, "host-b").writer)
    bucket = snapshot_with_probes(site.store)
    with site.a.running(site.store) as pipeline:
        write_id = site.head.writer.write_id
        pipeline.state.identity.intend(write_id)

    assert site.a.start(site.store) is Role.RELEASED

    assert snapshot_with_probes(site.store) == bucket
    assert site.a.start(site.store) is Role.RELEASED


def test_writes_in_its_name_that_it_never_made_stop_a_node(site: Site) -> None:
    write_as_a_clone(site.store)

    error = require_refused(site.a, site, ForeignWriter)

    assert error.exit_code == 11
    assert "a copy of this node" in str(error)


def test_a_copied_state_directory_is_noticed_by_its_first_write(site: Site, disk: Path) -> None:
    site.a.start(site.store)
    copy = replace(site.a.copied_to(disk / "copy"), machine="copy")
    assert copy.start(site.store) is Role.PRIMARY, "until one of the two writes, nobody can tell"

    site.write(copy)
    copy.push(site.store)

    require_refused(site.a, site, ForeignWriter)


def test_the_fresh_heartbeat_of_a_copy_keeps_a_node_from_writing(site: Site, disk: Path) -> None:
    copy = replace(site.a.copied_to(disk / "copy"), machine="copy")
    bucket: dict[str, bytes] = {}

    def beats(seconds: float) -> None:
        site.clock.passes(seconds=seconds)
        copy.beat(site.store)
        bucket.update(snapshot_with_probes(site.store))

    copy.beat(site.store)
    with pytest.raises(PrimaryActive, match="at work on another machine") as caught:
        site.a.start(site.store, stop=Waits(beats))

    assert caught.value.exit_code == 13
    assert snapshot_with_probes(site.store) == bucket
    assert site.a.told() == []


def test_its_own_heartbeat_from_before_a_reboot_is_waited_out(site: Site) -> None:
    site.a.start(site.store)
    site.a.beat(site.store)
    rebooted = replace(site.a, machine="host-a, after a boot")
    site.clock.passes(seconds=10)
    waited: list[float] = []

    def passes(seconds: float) -> None:
        waited.append(seconds)
        site.clock.passes(seconds=seconds)

    assert rebooted.start(site.store, stop=Waits(passes)) is Role.PRIMARY

    assert len(waited) == 1
    assert 20 <= waited[0] <= 25


def test_the_wait_for_a_copy_ends_when_the_process_is_stopped(site: Site, disk: Path) -> None:
    replace(site.a.copied_to(disk / "copy"), machine="copy").beat(site.store)
    stop = threading.Event()
    stop.set()

    with pytest.raises(Cancelled):
        site.a.start(site.store, stop=stop)

    assert site.a.told() == []


def test_its_own_heartbeat_of_this_boot_is_not_waited_for(site: Site) -> None:
    site.a.beat(site.store)

    def never(seconds: float) -> None:
        raise AssertionError(f"it waits for {seconds} s")

    assert site.a.start(site.store, stop=Waits(never)) is Role.PRIMARY


def test_a_restart_of_the_primary_carries_on(site: Site) -> None:
    site.a.start(site.store)
    site.write(site.a)
    head = site.head

    assert site.a.start(site.store) is Role.PRIMARY

    assert site.head == head
    pushed = site.push(site.a)
    assert (pushed.epoch, pushed.timeline) == (1, 1)
    assert site.head.writer.instance == head.writer.instance
    assert site.a.told() == [Role.PRIMARY]


def test_what_an_own_pull_put_in_place_begins_a_timeline_where_it_went_back_to(
    site: Site,
) -> None:
    first, _ = site.acknowledged
    site.a.go_back_to(first.engine_id, site.store)

    assert site.a.start(site.store) is Role.PRIMARY
    pushed = site.push_new(site.a)

    assert pushed.timeline == 2
    parent = site.head.timelines[-1].parent
    assert parent is not None
    assert parent.checkpoint == first.id


def test_a_primary_that_another_node_displaced_is_fenced(site: Site) -> None:
    site.a.start(site.store)
    site.b.activate(site.store)
    bucket = snapshot_with_probes(site.store)

    assert site.a.start(site.store) is Role.FENCED

    assert snapshot_with_probes(site.store) == bucket
    assert site.a.told() == [Role.PRIMARY, Role.FENCED]
    assert site.a.roles[-1].problem == "the engine here was not stopped yet"


def test_a_node_that_was_primary_without_a_role_is_fenced_too(site: Site) -> None:
    """It has only ever pushed by hand."""
    site.b.activate(site.store)

    assert site.a.start(site.store) is Role.FENCED


# What is kept, and what is found anew


@pytest.mark.parametrize("role", [Role.FENCED, Role.DIVERGED, Role.UNFENCED, Role.STANDBY])
def test_a_role_that_something_else_ends_is_kept_without_asking(site: Site, role: Role) -> None:
    with site.a.running(site.store) as pipeline:
        become(pipeline, role)

    assert site.a.start(Odd(site.store, lambda _number, _call: AWAY)) is role

    assert site.a.told() == [role]


@pytest.mark.parametrize("role", [Role.ACTIVATING, Role.ACTIVATION_FAILED])
def test_an_activation_of_which_nothing_is_left_leaves_a_standby(site: Site, role: Role) -> None:
    with site.a.running(site.store) as pipeline:
        become(pipeline, role)

    assert site.a.start(site.store) is Role.STANDBY


def test_a_node_that_was_stopped_looks_again(site: Site) -> None:
    head = site.store.get(keys.HEAD, limit=1 << 20).data
    site.a.start(site.store)
    site.store.delete([keys.HEAD])
    require_refused(site.a, site, HeadLost)
    require_refused(site.a, site, HeadLost)
    site.store.put(keys.HEAD, head)

    assert site.a.start(site.store) is Role.PRIMARY

    assert site.a.told() == [Role.PRIMARY, Role.STOPPED, Role.PRIMARY]


@pytest.mark.parametrize("error", [AWAY, AccessDenied("s3", "read", keys.HEAD, "403")])
def test_a_bucket_that_does_not_answer_changes_no_role(site: Site, error: CkptsyncError) -> None:
    with pytest.raises(type(error)):
        site.a.start(Odd(site.store, lambda _number, _call: error))

    assert site.a.told() == []


def test_a_store_that_lost_its_conditions_is_probed_at_each_start(site: Site) -> None:
    site.a.start(site.store)

    with pytest.raises(UnfitStore) as caught:
        site.a.start(LyingStore(site.store))

    assert caught.value.exit_code == 13
    assert site.a.role is Role.PRIMARY


def test_one_look_that_finds_another_writer_is_not_believed(site: Site) -> None:
    """A store may answer one request with what it held before."""
    site.a.start(site.store)
    stale = site.copied_to(site.home.parent / "stale")
    take_over(stale.store)
    looks = 0

    class Flickers(FaultyStore):
        def get(self, key: str, **kwargs: object) -> object:  # type: ignore[override]
            nonlocal looks
            if key == keys.HEAD:
                looks += 1
                if looks <= 2:
                    return stale.store.get(key, **kwargs)  # type: ignore[arg-type]
            return super().get(key, **kwargs)  # type: ignore[arg-type]

    with pytest.raises(CkptsyncError):
        site.a.start(Flickers(site.store))  # type: ignore[arg-type]

    assert site.a.role is not Role.FENCED


# Switchovers that were interrupted


def _handing_over(site: Site, *, released: bool) -> None:
    handover = Handover(
        node="host-b",
        deadline=site.clock.time,
        timeout=timedelta(hours=1),
        stage=HandoverStage.RELEASED if released else HandoverStage.STOPPING,
    )
    with site.a.running(site.store) as pipeline:
        pipeline.state.handovers.save(handover)


def test_a_release_that_may_be_on_its_way_is_not_forgotten(site: Site) -> None:
    """Until a swap has made sure that it cannot arrive, this node is not primary again."""
    site.a.start(site.store)
    _handing_over(site, released=True)
    with site.a.running(site.store) as pipeline:
        become(pipeline, Role.RELEASED)

    assert site.a.start(site.store) is Role.RELEASED


def test_what_was_taken_as_agreed_leaves_a_standby_and_no_switchover(site: Site) -> None:
    site.a.start(site.store)
    _handing_over(site, released=True)
    with site.a.running(site.store) as pipeline:
        become(pipeline, Role.RELEASED)
    site.b.activate(site.store)

    assert site.a.start(site.store) is Role.STANDBY

    with site.a.running(site.store) as pipeline:
        assert pipeline.state.handovers.current() is None


def test_a_node_that_was_fenced_in_a_switchover_starts_no_engine(site: Site, log: HookLog) -> None:
    site.a.start(site.store)
    _handing_over(site, released=False)
    site.c.activate(site.store, "by-c")

    assert site.a.carry_on(site.store) is Role.FENCED

    with site.a.running(site.store) as pipeline:
        assert pipeline.state.handovers.current() is None
    assert log.names() == []


def test_a_claim_of_which_nothing_is_remembered_can_be_made_again(site: Site) -> None:
    """No role leads to a dead end."""
    site.a.start(site.store)
    edit_head(site.store, writer=site.head.writer.model_copy(update={"state": "activating"}))

    assert site.a.start(site.store) is Role.ACTIVATION_FAILED

    assert site.a.activate(site.store).role is Role.PRIMARY
    site.push_new(site.a)
    site.require_sound()


# What a primary pulls before its engine starts


def _pull(
    node: Node, store: ObjectStore, read_store: ObjectStore | None = None
) -> PullReport | None:
    with node.running(store, read_store) as pipeline:
        return initial_pull(pipeline, progress=ignore)


def _from(node: Node, start_from: str | None, *, required: bool = False) -> Node:
    return replace(node, standby=StandbySettings(start_from=start_from, required=required))


@pytest.fixture
def feldera(disk: Path) -> Site:
    """Host-a has pushed a checkpoint; its layout can tell whether an engine runs."""
    site = Site.at(disk / "feldera", "feldera")
    site.push_new(site.a)
    return site


def test_a_start_pulls_nothing_unless_it_is_asked_to(site: Site) -> None:
    shutil.rmtree(site.a.root)

    assert _pull(site.a, Odd(site.store, lambda _number, _call: AWAY)) is None


def test_a_start_pulls_the_latest_where_nothing_is_here(feldera: Site) -> None:
    shutil.rmtree(feldera.a.root)

    report = _pull(_from(feldera.a, LATEST), feldera.store)

    assert isinstance(report, Restored)
    feldera.require_restored(feldera.a, feldera.acknowledged[-1].engine_id)


def test_a_local_checkpoint_will_do(site: Site) -> None:
    assert isinstance(_pull(_from(site.a, LATEST), site.store), Kept)


def test_a_primary_that_has_pushed_since_does_not_go_back_to_what_it_began_with(
    feldera: Site,
) -> None:
    """Its engine keeps the newest checkpoint only."""
    first, last = feldera.acknowledged[0], feldera.push_new(feldera.a)
    shutil.rmtree(feldera.a.root / first.engine_id)

    assert isinstance(_pull(_from(feldera.a, first.engine_id), feldera.store), Kept)

    shutil.rmtree(feldera.a.root)
    assert isinstance(_pull(_from(feldera.a, first.engine_id), feldera.store), Restored)
    feldera.require_restored(feldera.a, last.engine_id)


def test_a_primary_that_begins_pulls_what_it_is_asked_to_begin_with(feldera: Site) -> None:
    first = feldera.acknowledged[0]
    feldera.push_new(feldera.a)
    new = replace(feldera.c, standby=StandbySettings(start_from=first.engine_id))

    assert isinstance(_pull(new, feldera.store), Restored)

    feldera.require_restored(new, first.engine_id)


def test_an_empty_bucket_is_a_fresh_start(disk: Path) -> None:
    site = Site.at(disk)

    assert isinstance(_pull(_from(site.a, LATEST), site.store), Fresh)


@pytest.mark.parametrize("start_from", [None, LATEST])
def test_a_pull_that_was_interrupted_is_finished_in_any_case(
    feldera: Site, start_from: str | None
) -> None:
    latest = feldera.acknowledged[-1]
    shutil.rmtree(feldera.a.root)
    with feldera.a.running(feldera.store) as pipeline:
        pipeline.state.identity.publishing(latest.id, latest.engine_id, int(latest.step), None)

    report = _pull(_from(feldera.a, start_from), feldera.store)

    assert isinstance(report, Restored)
    feldera.require_restored(feldera.a, latest.engine_id)


# A standby that has never been anything


def test_the_name_of_a_node_is_its_own(site: Site) -> None:
    """Another host under the name of the writer is a rebuilt one, whatever it says of itself."""
    named_alike = replace(site.b, node="host-a", standby=StandbySettings())
    named_alike.beat(site.store)

    with pytest.raises(ForeignWriter):
        named_alike.start(site.store)

    assert nodes.read(site.store, "host-a") is not None
