"""One pipeline in the daemon: real threads, a bucket in memory, and no waiting for the clock."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from ckptsync.daemon.request import Phase
from ckptsync.daemon.worker import Worker
from ckptsync.errors import (
    Busy,
    Cancelled,
    Fenced,
    IntegrityError,
    NothingToDo,
    PrimaryActive,
    TimedOut,
    Unavailable,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.operations.orders import AcceptRollback, Activate, Pull, Push, Switchover
from ckptsync.operations.pipeline import StandbySettings, Takeover
from ckptsync.operations.roles import become
from ckptsync.repository import nodes
from ckptsync.repository.nodes import Heartbeat
from ckptsync.state.lock import PipelineLock, lock_path
from ckptsync.state.role import RoleChange
from ckptsync.stores.memory import MemoryStore
from tests.daemon.bench import AWAY, PACE, PATIENCE, Bench, Clock, bench, eventually, taken_over
from tests.fakes.stores import Call
from tests.pipelines import Host, a_small_checkpoint, copy_of, snapshot

MINUTE = timedelta(minutes=1)


def write(bench: Bench, name: str) -> None:
    """As the engine does."""
    bench.host.checkpoint(name, a_small_checkpoint(name))


def pushed(bench: Bench) -> list[str]:
    """What the bucket holds, by the engine's ids."""
    return [entry.engine_id for entry in bench.bucket.head.checkpoints]


# Pushing on schedule


def test_a_primary_creates_its_repository_and_looks_for_something_to_push(primary: Bench) -> None:
    primary.host.root.mkdir(parents=True)
    worker = primary.start()

    assert worker.snapshot().role is Role.PRIMARY
    assert primary.bucket.head.epoch == 1
    assert primary.left() == 0.0
    primary.ring()
    assert primary.left() == 5.0, "one may be written at any moment"


def test_a_checkpoint_that_was_written_before_the_start_is_pushed(primary: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()

    assert pushed(primary) == ["1"]


def test_the_interval_counts_from_the_end_of_the_last_push(primary: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    assert primary.left() == 300.0

    primary.clock.advance(2 * MINUTE)
    write(primary, "2")
    primary.done(Push())
    assert primary.left() == 300.0, "a push by hand counts, too"
    primary.clock.advance(5 * MINUTE)
    assert primary.left() == 0.0


def test_the_interval_counts_across_a_restart(primary: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    write(primary, "2")
    primary.clock.advance(2 * MINUTE)
    primary.again()

    assert primary.left() == 180.0
    primary.clock.advance(3 * MINUTE)
    primary.ring()
    assert pushed(primary) == ["1", "2"]


def test_a_checkpoint_that_appears_after_the_interval_is_pushed_at_the_next_look(
    primary: Bench,
) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    primary.clock.advance(10 * MINUTE)
    primary.ring()
    assert primary.left() == 5.0

    write(primary, "2")
    primary.ring()
    assert pushed(primary) == ["1", "2"]
    assert primary.left() == 300.0


def test_a_look_that_finds_nothing_asks_the_bucket_nothing(primary: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()

    assert primary.asked(primary.ring) == []
    assert primary.asked(primary.again) != [], "the start does"
    assert primary.asked(primary.ring) == []


def test_without_an_interval_pushes_are_made_by_hand_only(primary: Bench) -> None:
    primary.pace = replace(PACE, push_interval=None)
    write(primary, "1")
    worker = primary.start()

    assert primary.left() is None
    assert worker.snapshot().next_push_at is None
    assert primary.done(Push()).state is Phase.DONE
    assert primary.left() is None


def test_the_engine_is_asked_for_a_checkpoint_before_each_push(primary: Bench) -> None:
    root = primary.host.root
    script = f"cd {root}; n=$(ls | wc -l); mkdir $n; echo $n > $n/x"
    primary.host = replace(primary.host, hooks={Hook.PRE_PUSH: ("sh", "-c", script)})
    root.mkdir(parents=True)
    primary.start()

    primary.ring()
    assert pushed(primary) == ["0"]
    assert primary.left() == 300.0
    primary.ring()
    assert pushed(primary) == ["0", "1"]


# Failures


def test_failed_pushes_back_off_and_are_seen_until_one_succeeds(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    with primary.bucket.away():
        for most in (1.0, 2.0, 4.0, 8.0):
            primary.ring()
            left = primary.left()
            assert left is not None
            assert most / 2 <= left <= most
            failure = worker.snapshot().last_push_failure
            assert failure is not None
            assert failure.message == str(AWAY)
            assert worker.snapshot().contact.failure == failure

    primary.ring()
    told = worker.snapshot()
    assert (told.last_push_failure, told.contact.failure) == (None, None)
    assert pushed(primary) == ["1"]
    assert primary.left() == 300.0


def test_a_failure_is_logged_once_and_so_is_the_end_of_it(standby: Bench) -> None:
    standby.start()
    with capture_logs() as logged:
        with standby.bucket.away():
            for _ in range(3):
                standby.ring()
        standby.ring()

    events = [each["event"] for each in logged if each["event"].startswith("duty.")]
    assert events == ["duty.failed", "duty.recovered"]


def test_a_back_off_goes_on_where_somebody_else_asks_for_something_meanwhile(
    standby: Bench,
) -> None:
    worker = standby.start()
    with standby.bucket.away():
        for _ in range(9):
            standby.ring()
    left = standby.left()
    assert left is not None
    assert left >= 128.0

    standby.clock.advance(timedelta(seconds=300))
    worker.pause()
    worker.resume()
    standby.settle()
    assert standby.left() == 0.0


def test_a_failing_poll_keeps_what_is_warm_and_recovers(primary: Bench, standby: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    worker = standby.start()
    standby.ring()
    warm = worker.snapshot().warm
    assert warm is not None
    assert warm.engine_id == "1"

    write(primary, "2")
    primary.ring()
    with standby.bucket.away():
        standby.ring()
    told = worker.snapshot()
    assert told.last_pull_failure is not None
    assert told.contact.failure is not None
    assert told.contact.answered_at is not None
    assert told.warm == warm

    standby.ring()
    told = worker.snapshot()
    assert (told.last_pull_failure, told.contact.failure) == (None, None)
    assert told.warm is not None
    assert told.warm.engine_id == "2"
    assert standby.left() == 10.0


def test_what_failed_is_tried_soon_once_the_bucket_answers_again(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    with primary.bucket.away():
        for _ in range(9):
            primary.ring()
        primary.ring("check")
        left = primary.left()
        assert left is not None
        assert left >= 128.0

    primary.ring("check")
    assert primary.left() == 5.0
    assert worker.snapshot().last_push_failure is not None, "until one has succeeded"
    primary.ring()
    assert pushed(primary) == ["1"]


def test_a_poll_with_nothing_new_is_one_request(primary: Bench, standby: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    standby.start()
    standby.ring()

    assert standby.asked(standby.ring) == [Call("get", "head.json")]


def test_what_a_bug_raises_is_handed_on_and_nothing_is_done_any_more(primary: Bench) -> None:
    class Broken(Exception):
        pass

    worker = primary.start()
    primary.bucket.error = Broken()  # type: ignore[assignment]  # a bug raises what nobody expects
    write(primary, "1")
    primary.alarm.ring("orders:duty")

    eventually(lambda: primary.bugs)
    primary.bucket.error = None
    assert [type(bug) for bug in primary.bugs] == [Broken]
    primary.bugs.clear()
    asked = worker.submit(Push())
    assert isinstance(asked.error, Cancelled)
    assert pushed(primary) == []


def test_a_database_that_cannot_be_read_for_a_moment_delays_what_is_due(primary: Bench) -> None:
    primary.start()
    roles = primary.pipeline.state.roles
    current = roles.current
    refusals = [Busy("the database is locked")]

    def refuse() -> RoleChange | None:
        if refusals:
            raise refusals.pop()
        return current()

    roles.current = refuse  # type: ignore[method-assign]  # a database fails as it likes
    primary.worker._work._plan()
    assert primary.left() == 5.0

    primary.ring()
    assert primary.left() == 0.0, "it was planned anew, and is due"
    write(primary, "1")
    primary.ring()
    assert pushed(primary) == ["1"]


# Starting


def test_a_bucket_that_is_away_at_the_start_is_tried_again(primary: Bench) -> None:
    write(primary, "1")
    with primary.bucket.away():
        worker = primary.start()
        assert worker.has_begun
        assert worker.gave_up is None
        assert worker.snapshot().problem == str(AWAY)
        assert f"cannot start: {AWAY}" in worker.status
        assert worker.snapshot().next_push_at is None, "what is due next is no push"
        left = primary.left()
        assert left is not None
        assert 0.5 <= left <= 1.0

    primary.ring()
    assert worker.snapshot().problem is None
    assert worker.snapshot().next_push_at == primary.clock.at
    primary.ring()
    assert pushed(primary) == ["1"]


def test_a_standby_starts_without_asking_the_bucket(standby: Bench) -> None:
    with standby.bucket.away():
        worker = standby.start()

    told = worker.snapshot()
    assert told.role is Role.STANDBY
    assert told.contact.answered_at is None, "it was not asked"
    assert told.next_pull_at == standby.clock.at


def test_a_host_that_was_rebuilt_stops_and_writes_nothing(
    primary: Bench, tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    primary.start()
    primary.end()
    before = snapshot(store)
    with bench(Host(home=tmp_path / "rebuilt"), store, clock) as rebuilt:
        worker = rebuilt.start()
        rebuilt.ring("beat")
        rebuilt.ring("check")

        assert worker.gave_up is not None
        assert worker.gave_up.exit_code == 11
        assert worker.snapshot().role is Role.STOPPED
        assert worker.snapshot().problem == str(worker.gave_up)
        assert rebuilt.left() is None
        assert snapshot(store) == before


def test_an_activation_is_a_way_out_for_a_host_that_was_rebuilt(
    primary: Bench, tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    primary.start()
    primary.end()
    clock.advance(MINUTE)
    with bench(Host(home=tmp_path / "rebuilt"), store, clock) as rebuilt:
        worker = rebuilt.start()
        done = rebuilt.done(Activate(request="1"))
        assert done.state is Phase.DONE, done.error

        rebuilt.ring()
        assert worker.gave_up is None
        assert worker.snapshot().role is Role.PRIMARY
        write(rebuilt, "1")
        rebuilt.ring()
        assert pushed(rebuilt) == ["1"]


def test_a_rollback_that_was_accepted_ends_the_stop_of_a_running_worker(
    primary: Bench, store: MemoryStore
) -> None:
    write(primary, "1")
    worker = primary.start()
    older = copy_of(store)
    primary.ring()
    store._objects = older._objects
    primary.ring("check")
    assert worker.snapshot().role is Role.STOPPED
    assert primary.left() is None

    done = primary.done(AcceptRollback())
    assert done.state is Phase.DONE, done.error
    primary.ring()
    assert worker.snapshot().role is Role.PRIMARY
    primary.ring()
    assert pushed(primary) == ["1"]


class Waiting(threading.Event):
    """A stop; whoever waits for it sees the time pass, and what a test does meanwhile."""

    def __init__(self, clock: Clock, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self._clock = clock
        self._meanwhile = meanwhile

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._meanwhile()
        self._clock.advance(timedelta(seconds=timeout))
        self._meanwhile()
        return self.is_set()


def test_a_copy_of_a_node_says_nothing_while_it_finds_out_that_it_is_one(
    primary: Bench, tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    primary.start()
    with bench(primary.host.copied_to(tmp_path / "copy"), store, clock) as copy:

        def meanwhile() -> None:
            primary.ring("beat")
            copy.alarm.ring("orders:beat")
            copy.alarm.ring("orders:check")
            eventually(lambda: copy.worker._watching.running() is None)

        copy.stop = lambda: Waiting(clock, meanwhile)
        worker = copy.start()

        assert isinstance(worker.gave_up, PrimaryActive)
        assert worker.snapshot().role is Role.STOPPED
        assert copy.left() is None
        copy.ring("beat")
        beat = nodes.read(store, "host-a")
        assert beat is not None
        assert beat.heartbeat is not None
        assert beat.heartbeat.machine == primary.pipeline.machine


def test_a_node_says_that_it_lives_as_soon_as_it_has_started(primary: Bench) -> None:
    primary.start()
    primary.end()
    primary.clock.advance(MINUTE)
    assert Call("put", "nodes/host-a.json") in primary.asked(primary.start)
    seen = nodes.read(primary.bucket, "host-a")
    assert seen is not None
    assert seen.fresh


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


def test_a_primary_pulls_before_it_starts_where_the_configuration_says_so(
    primary: Bench, tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    primary.end()
    for path in primary.host.root.iterdir():
        path.rename(tmp_path / path.name)
    primary.host = replace(primary.host, standby=StandbySettings(start_from="latest"))

    primary.start()
    assert (primary.host.root / "1" / "text").exists()
    assert primary.pipeline.state.history.last_success("pull") is not None


def test_a_stop_in_the_first_pull_is_no_failure_of_it_and_no_start(
    primary: Bench, tmp_path: Path
) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()
    primary.end()
    (primary.host.root / "1").rename(tmp_path / "1")
    primary.host = replace(primary.host, standby=StandbySettings(start_from="latest"))
    primary.bucket.hold("read_into", "")
    worker = primary.begin()
    with capture_logs() as logged:
        primary.alarm.ring("orders:duty")
        assert primary.bucket.reached.wait(PATIENCE)
        worker.stop()
        primary.bucket.let_go()
        worker.join()

    assert not worker.has_begun
    assert "start.not_pulled" not in [each["event"] for each in logged]


# Asking


def test_a_push_by_hand_joins_a_scheduled_one_that_is_under_way(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    primary.bucket.hold("put", "head.json")
    primary.alarm.ring("orders:duty")
    assert primary.bucket.reached.wait(PATIENCE)

    asked = worker.submit(Push())
    running = worker.snapshot().running
    assert running is not None
    assert (asked.id, asked.state) == (running.id, Phase.RUNNING)
    primary.bucket.let_go()
    done = primary.ended(asked.id)
    assert isinstance(done.result, dict)
    assert done.result["checkpoint"]["engine_id"] == "1"
    assert [run.kind for run in primary.pipeline.state.history.runs()] == ["push"]


@pytest.mark.parametrize("order", [Push(engine_id="1"), Push(new_timeline=True)])
def test_a_push_of_something_else_is_made_by_itself(primary: Bench, order: Push) -> None:
    write(primary, "1")
    write(primary, "2")
    worker = primary.start()
    primary.bucket.hold("put", "head.json")
    plain = worker.submit(Push())
    assert primary.bucket.reached.wait(PATIENCE)

    other, another = worker.submit(order), worker.submit(order)
    assert len({plain.id, other.id, another.id}) == 3
    assert [each.id for each in worker.snapshot().queued] == [other.id, another.id]
    primary.bucket.let_go()
    primary.ended(another.id)


def test_a_failed_push_by_hand_is_no_failure_once_nothing_is_left_to_push(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    primary.ring()
    failed = primary.done(Push(engine_id="7"))
    assert failed.error is not None
    assert worker.snapshot().last_push_failure is not None

    primary.ring()
    assert worker.snapshot().last_push_failure is None


def test_a_request_that_was_asked_for_before_is_not_done_again(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    first = worker.submit(Push(), id="mine")
    primary.ended(first.id)

    assert worker.submit(Push(), id="mine").state is Phase.DONE
    assert len(primary.pipeline.state.history.runs()) == 1


# Pauses


def test_a_pause_ends_pushing_until_it_is_over_also_after_a_restart(primary: Bench) -> None:
    worker = primary.start()
    worker.pause()
    primary.settle()
    assert primary.left() is None
    assert worker.snapshot().paused_since == primary.clock.at
    write(primary, "1")
    worker = primary.again()
    assert primary.left() is None

    assert primary.done(Push()).state is Phase.DONE, "by hand it is pushed all the same"
    assert primary.left() is None
    worker.resume()
    primary.settle()
    assert primary.left() == 300.0


def test_a_pause_lets_a_push_that_is_under_way_come_to_its_end(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    primary.bucket.hold("put", "head.json")
    primary.alarm.ring("orders:duty")
    assert primary.bucket.reached.wait(PATIENCE)
    worker.pause()
    primary.bucket.let_go()
    primary.settle()
    assert pushed(primary) == ["1"]
    assert primary.left() is None


def test_the_end_of_a_pause_does_not_hurry_the_push_after_one_that_is_under_way(
    primary: Bench,
) -> None:
    write(primary, "1")
    worker = primary.start()
    worker.pause()
    primary.bucket.hold("put", "head.json")
    worker.submit(Push())
    assert primary.bucket.reached.wait(PATIENCE)
    worker.resume()
    assert primary.left() is None, "the end of this push says when the next is due"
    write(primary, "2")
    primary.bucket.let_go()
    primary.settle()
    assert pushed(primary) == ["1"]
    assert primary.left() == 300.0


def test_a_standby_that_is_paused_does_not_poll(standby: Bench) -> None:
    worker = standby.start()
    worker.pause()
    standby.settle()
    assert standby.left() is None
    assert worker.snapshot().next_pull_at is None


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


# Ending


def test_a_stop_ends_a_push_within_a_chunk_and_the_next_process_goes_on(primary: Bench) -> None:
    write(primary, "1")
    worker = primary.start()
    primary.bucket.hold("put", "chunks/")
    asked = worker.submit(Push())
    assert primary.bucket.reached.wait(PATIENCE)
    worker.stop()
    primary.bucket.let_go()
    worker.join()
    ended = worker.find(asked.id)
    assert ended is not None
    assert isinstance(ended.error, Cancelled)
    assert pushed(primary) == []
    worker.release()

    sent = {call.key for call in primary.bucket.calls if call.method == "put"}
    assert primary.start().snapshot().epoch == 1
    calls = primary.asked(primary.ring)
    assert pushed(primary) == ["1"]
    again = {call.key for call in calls if call.method == "put"} & sent
    assert again <= {"head.json", "nodes/host-a.json"}


def test_after_its_end_nothing_is_left_and_nothing_breaks(primary: Bench) -> None:
    worker = primary.start()
    threads = {"work-orders", "watch-orders", "tell-orders"}
    assert threads <= {thread.name for thread in threading.enumerate()}
    with pytest.raises(Busy), PipelineLock(lock_path(primary.host.home, "orders")):
        raise AssertionError
    primary.end()

    assert not threads & {thread.name for thread in threading.enumerate()}
    with PipelineLock(lock_path(primary.host.home, "orders")):
        assert primary.left() is None
    assert worker.status.startswith("orders: ")
    for ask in (worker.snapshot, worker.pause, worker.resume, worker.cancel_switchover):
        with pytest.raises(Busy):
            ask()
    assert isinstance(worker.submit(Push()).error, Cancelled)
    worker.release()


def test_a_lock_that_is_held_keeps_a_worker_from_being(primary: Bench) -> None:
    with PipelineLock(lock_path(primary.host.home, "orders")), pytest.raises(Busy):
        primary.begin()
    primary._worker = None
    assert primary.start().snapshot().role is Role.PRIMARY


def test_a_worker_that_cannot_be_made_lets_go_of_everything(primary: Bench) -> None:
    primary.start()
    primary.end()
    (primary.host.home / "state.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(IntegrityError):
        primary.begin()

    with PipelineLock(lock_path(primary.host.home, "orders")):
        primary._worker = None


def test_a_snapshot_never_waits_for_the_bucket(primary: Bench) -> None:
    write(primary, "1")
    worker: Worker = primary.start()
    primary.bucket.hold("put", "head.json")
    worker.submit(Push())
    assert primary.bucket.reached.wait(PATIENCE)

    told: Any = worker.snapshot().running
    assert (told.kind, told.state) == ("push", Phase.RUNNING)
    assert told.moved > 0
