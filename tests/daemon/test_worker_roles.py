"""What a worker does when it is displaced, or takes over."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ckptsync.daemon.request import Phase
from ckptsync.errors import (
    Cancelled,
    Fenced,
    HookFailed,
    IntegrityError,
    NothingToDo,
    Refused,
    TimedOut,
    Unavailable,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.operations.orders import Activate, Pull, Push, Switchover
from ckptsync.operations.pipeline import Takeover
from ckptsync.operations.roles import become
from ckptsync.repository import nodes
from ckptsync.repository.nodes import Heartbeat
from ckptsync.state.switchover import Handover, HandoverStage
from ckptsync.stores.memory import MemoryStore
from tests.daemon.bench import PATIENCE, Bench, Clock, eventually, pushed, taken_over, write
from tests.fakes.stores import Call
from tests.operations.takeovers import HookLog
from tests.pipelines import Host

MINUTE = timedelta(minutes=1)


# Roles that change


def test_a_primary_that_was_displaced_stops_its_engine_until_that_works(
    primary: Bench, store: MemoryStore, tmp_path: Path, clock: Clock
) -> None:
    ready = tmp_path / "ready"
    primary.host = replace(
        primary.host,
        hooks={Hook.ON_FENCED: ("sh", "-c", f"test -e {ready} && echo x >> {tmp_path}/stopped")},
    )
    worker = primary.start()
    assert primary.asked(lambda: primary.ring("check")) == [Call("get", "head.json")]
    assert primary.asked(lambda: primary.ring("check")) == [Call("get", "head.json")]
    taken_over(Host(home=tmp_path / "b", node="host-b", now=clock), store)

    primary.ring("check")
    told = worker.snapshot()
    assert told.role is Role.FENCED
    assert told.problem is not None
    assert told.next_push_at is None
    for most in (1.0, 2.0):
        primary.ring()
        left = primary.left()
        assert left is not None
        assert most / 2 <= left <= most
    ready.touch()
    primary.ring()
    assert worker.snapshot().problem is None
    assert primary.left() is None
    assert (tmp_path / "stopped").read_text() == "x\n"
    assert primary.asked(lambda: primary.ring("check")) == []


def test_a_push_that_finds_another_writer_is_the_last_one(
    primary: Bench, store: MemoryStore, tmp_path: Path, clock: Clock
) -> None:
    write(primary, "1")
    worker = primary.start()
    taken_over(Host(home=tmp_path / "b", node="host-b", now=clock), store)

    failed = primary.done(Push())
    assert isinstance(failed.error, Fenced)
    assert worker.snapshot().role is Role.FENCED
    assert primary.left() is None


def test_a_push_that_is_in_vain_is_ended_by_the_watch(
    primary: Bench, store: MemoryStore, tmp_path: Path, clock: Clock
) -> None:
    write(primary, "1")
    worker = primary.start()
    primary.bucket.hold("put", "packs/")
    asked = worker.submit(Push())
    assert primary.bucket.reached.wait(PATIENCE)
    taken_over(Host(home=tmp_path / "b", node="host-b", now=clock), store)

    primary.alarm.ring("orders:check")
    eventually(lambda: [each.kind for each in worker.snapshot().queued] == ["settle"])
    primary.bucket.let_go()
    done = primary.ended(asked.id)
    assert isinstance(done.error, Cancelled)
    assert worker.snapshot().role is Role.FENCED


def test_what_was_due_in_another_role_is_not_done(
    primary: Bench, store: MemoryStore, tmp_path: Path, clock: Clock
) -> None:
    write(primary, "1")
    worker = primary.start()
    stale = primary.alarm.call("orders:duty")
    taken_over(Host(home=tmp_path / "b", node="host-b", now=clock), store)
    primary.ring("check")
    assert worker.snapshot().role is Role.FENCED

    stale()
    primary.settle()
    assert primary.pipeline.state.history.runs() == ()
    assert pushed(primary) == []


def test_changes_of_role_are_told_in_order(primary: Bench, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"echo $CKPTSYNC_ROLE >> {told}"
    primary.host = replace(primary.host, hooks={Hook.ON_ROLE_CHANGE: ("sh", "-c", script)})
    with primary.bucket.away(IntegrityError("head.json is torn")):
        primary.start()
    assert not told.exists(), "nothing has changed yet"
    primary.again()

    assert told.read_text().split() == ["primary"]
    assert primary.changes


def test_a_change_is_told_of_although_something_else_is_just_being_told(
    primary: Bench, store: MemoryStore
) -> None:
    primary.start()
    primary.bucket.hold("put", "nodes/")
    primary.alarm.ring("orders:beat")
    assert primary.bucket.reached.wait(PATIENCE)
    become(primary.pipeline, Role.RELEASED)
    primary.bucket.let_go()
    primary.settle()

    assert _beat(store, "host-a").role is Role.RELEASED


# Standbys


def test_a_standby_says_what_it_holds_as_soon_as_that_changes(
    primary: Bench, standby: Bench, store: MemoryStore
) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    standby.start()
    for name in ("2", "3"):
        standby.ring()
        held = standby.worker.snapshot().warm
        assert held is not None
        assert held.checkpoint == standby.bucket.head.latest
        assert _beat(store, "host-b").warm == held.checkpoint
        write(primary, name)
        primary.ring()


def _beat(store: MemoryStore, node: str) -> Heartbeat:
    seen = nodes.read(store, node)
    assert seen is not None
    assert seen.heartbeat is not None
    return seen.heartbeat


@pytest.fixture
def released(primary: Bench, standby: Bench) -> Iterator[Bench]:
    """Host b, in the middle of a switchover: host a has released the bucket to it."""
    write(primary, "1")
    primary.start()
    primary.ring()
    standby.start()
    standby.ring()
    primary.worker.submit(Switchover(to="host-b", timeout=timedelta(hours=1)))
    eventually(lambda: primary.bucket.head.writer.state == "released")
    yield standby
    primary.worker.stop()


def test_a_standby_takes_over_what_is_released_to_it(released: Bench) -> None:
    released.ring()

    assert released.worker.snapshot().role is Role.PRIMARY
    assert (released.host.root / "1" / "text").exists()
    assert released.left() == 0.0, "it looks for something to push"


def test_taking_over_what_was_released_is_tried_again_after_a_failure(released: Bench) -> None:
    released.engine_runs = True
    worker = released.worker
    released.ring()
    assert worker.snapshot().role is Role.STANDBY
    assert released.left() == 10.0, "it goes on polling"
    released.ring()
    runs = [run for run in released.pipeline.state.history.runs() if run.kind == "activate"]
    assert len(runs) == 1, "not at once again"

    released.engine_runs = False
    released.clock.advance(timedelta(seconds=10))
    released.ring()
    assert worker.snapshot().role is Role.PRIMARY


def test_an_activation_that_was_asked_for_again_after_it_failed_is_tried_again(
    standby: Bench,
) -> None:
    standby.start()
    standby.engine_runs = True
    first = standby.done(Activate(request="drill"))
    second = standby.done(Activate(request="drill"))
    assert first.error is not None
    assert second.error is not None
    assert len(standby.pipeline.state.history.runs()) == 2

    standby.engine_runs = False
    third = standby.done(Activate(request="drill"))
    assert third.state is Phase.DONE, third.error
    assert standby.worker.snapshot().role is Role.PRIMARY
    fourth = standby.done(Activate(request="drill"))
    assert isinstance(third.result, dict)
    assert isinstance(fourth.result, dict)
    assert (third.result["already"], fourth.result["already"]) == (False, True)


def test_an_operator_who_insists_does_not_join_who_did_not(primary: Bench, standby: Bench) -> None:
    primary.start()
    worker = standby.start()
    standby.bucket.hold("get", "head.json")
    plain = worker.submit(Activate(request="1"))
    assert standby.bucket.reached.wait(PATIENCE)
    assert worker.submit(Activate(request="2")).id == plain.id
    forced = worker.submit(Activate(request="3", force=True))
    assert forced.id != plain.id
    standby.bucket.let_go()

    assert standby.ended(forced.id).state is Phase.DONE
    assert worker.snapshot().role is Role.PRIMARY


def test_an_activation_goes_first_and_ends_what_is_under_way(standby: Bench) -> None:
    worker = standby.start()
    standby.bucket.hold("get", "")
    standby.alarm.ring("orders:duty")
    assert standby.bucket.reached.wait(PATIENCE)
    later = worker.submit(Pull())
    asked = worker.submit(Activate(request="1"))
    assert [each.kind for each in worker.snapshot().queued] == ["activate", "pull"]
    standby.bucket.let_go()

    assert standby.ended(asked.id).state is Phase.DONE
    standby.ended(later.id)


def test_an_activation_that_was_interrupted_goes_on_at_the_next_start(
    primary: Bench, standby: Bench, tmp_path: Path
) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    primary.end()
    primary.clock.advance(MINUTE)
    ready = tmp_path / "ready"
    standby.host = replace(standby.host, hooks={Hook.ON_ACTIVATE: ("test", "-e", str(ready))})
    standby.start()
    failed = standby.done(Activate(request="drill"))
    assert failed.error is not None
    assert standby.worker.snapshot().role is Role.ACTIVATION_FAILED
    assert standby.left() is None, "only an operator knows whether to try again"

    ready.touch()
    standby.again()
    assert standby.worker.snapshot().role is Role.ACTIVATING
    standby.ring()
    assert standby.worker.snapshot().role is Role.PRIMARY
    assert standby.bucket.head.writer.state == "active"


def test_an_activation_that_failed_for_a_reason_that_may_pass_is_tried_again(
    primary: Bench, standby: Bench, tmp_path: Path
) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    primary.end()
    primary.clock.advance(MINUTE)
    standby.host = replace(standby.host, takeover=Takeover(guard=False))
    worker = standby.start()
    standby.bucket.hold("read_into", "")
    asked = worker.submit(Activate(request="drill"))
    assert standby.bucket.reached.wait(PATIENCE)
    with standby.bucket.away():
        standby.bucket.let_go()
        failed = standby.ended(asked.id)
    assert isinstance(failed.error, Unavailable)
    assert worker.snapshot().role is Role.ACTIVATION_FAILED
    left = standby.left()
    assert left is not None
    assert 0.5 <= left <= 1.0

    standby.ring()
    assert worker.snapshot().role is Role.PRIMARY


def test_a_switchover_is_not_taken_for_a_takeover_by_the_watch(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    primary.ring()
    nodes.write(primary.bucket, _beat_of("host-b", primary.clock))
    primary.bucket.hold("put", "head.json", after=True)
    asked = worker.submit(Switchover(to="host-b", timeout=timedelta(hours=1)))
    assert primary.bucket.reached.wait(PATIENCE)
    assert primary.bucket.head.writer.state == "released"

    primary.alarm.ring("orders:check")
    eventually(lambda: worker._watching.running() is None and not worker._watching.queued())
    assert not worker.snapshot().queued
    primary.bucket.let_go()
    eventually(lambda: worker.snapshot().role is Role.RELEASED)

    worker.cancel_switchover()
    done = primary.ended(asked.id)
    assert isinstance(done.error, Cancelled)
    assert worker.snapshot().role is Role.PRIMARY


def test_a_switchover_after_one_that_was_cancelled_is_not_cancelled_too(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    nodes.write(primary.bucket, _beat_of("host-b", primary.clock))
    order = Switchover(to="host-b", timeout=timedelta(hours=1))
    first = worker.submit(order)
    eventually(lambda: worker.snapshot().switching)
    worker.cancel_switchover()
    assert isinstance(primary.ended(first.id).error, Cancelled)

    second = worker.submit(order)
    eventually(lambda: primary.bucket.head.writer.state == "released")
    primary.clock.advance(timedelta(hours=2))
    assert isinstance(primary.ended(second.id).error, TimedOut)


def _beat_of(node: str, clock: Clock) -> Heartbeat:
    return Heartbeat(
        node=node,
        node_id=node,
        machine=node,
        role=Role.STANDBY,
        epoch=1,
        warm=None,
        pulling=None,
        at=clock.at,
    )


def test_a_switchover_that_is_not_under_way_cannot_be_cancelled(primary: Bench) -> None:
    worker = primary.start()
    with pytest.raises(NothingToDo):
        worker.cancel_switchover()


def test_who_is_displaced_while_its_engine_stops_does_not_start_it_again(
    primary: Bench, store: MemoryStore, tmp_path: Path, clock: Clock
) -> None:
    log = HookLog(tmp_path)
    stops = ("sh", "-c", f"echo on_release >> '{tmp_path}/hooks'; sleep 60")
    hooks = {**log.commands(Hook.ON_ACTIVATE, Hook.ON_FENCED), Hook.ON_RELEASE: stops}
    primary.host = replace(primary.host, hooks=hooks)
    write(primary, "1")
    worker = primary.start()
    primary.ring()
    nodes.write(primary.bucket, _beat_of("host-b", primary.clock))
    asked = worker.submit(Switchover(to="host-b", timeout=timedelta(hours=1)))
    eventually(lambda: "on_release" in log.names())
    taken_over(Host(home=tmp_path / "c", node="host-c", now=clock), store)

    primary.ring("check")

    assert isinstance(primary.ended(asked.id).error, Cancelled)
    primary.settle()
    primary.ring()
    assert worker.snapshot().role is Role.FENCED
    assert worker.snapshot().switching is None
    assert log.names() == ["on_release", "on_fenced"]


def test_an_engine_that_did_not_start_after_a_switchover_is_started_again_and_again(
    primary: Bench, tmp_path: Path
) -> None:
    log = HookLog(tmp_path)
    primary.host = replace(primary.host, hooks=log.commands(Hook.ON_ACTIVATE))
    log.fail(Hook.ON_ACTIVATE)
    write(primary, "1")
    worker = primary.start()
    primary.ring()
    nodes.write(primary.bucket, _beat_of("host-b", primary.clock))

    done = primary.done(Switchover(to="host-b", timeout=timedelta(0)))
    assert isinstance(done.error, HookFailed)
    told = worker.snapshot()
    assert told.role is Role.PRIMARY
    assert "the engine was not started again" in (told.problem or "")
    primary.ring()
    assert worker.snapshot().problem == told.problem
    log.fail(Hook.ON_ACTIVATE, fails=False)
    primary.clock.advance(MINUTE)
    primary.ring()

    assert log.names() == ["on_activate"] * 3
    assert (worker.snapshot().problem, worker.snapshot().switching) == (None, None)


def test_a_standby_that_is_paused_says_so_and_is_given_nothing(
    primary: Bench, standby: Bench
) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    worker = standby.start()
    standby.ring()
    worker.pause()
    standby.settle()
    standby.ring("beat")

    done = primary.done(Switchover(to="host-b", timeout=MINUTE))

    assert isinstance(done.error, Refused)
    assert "is paused" in str(done.error)
    assert primary.bucket.head.writer.state == "active"


def test_a_second_switchover_is_refused_while_one_is_under_way(
    primary: Bench, clock: Clock
) -> None:
    worker = primary.start()
    minute = timedelta(minutes=1)
    primary.pipeline.state.handovers.save(
        Handover(
            node="host-b", deadline=clock.at + minute, timeout=minute, stage=HandoverStage.STOPPING
        )
    )

    with pytest.raises(Refused, match="to node 'host-b' is under way"):
        worker.submit(Switchover(to="host-c", timeout=minute))
