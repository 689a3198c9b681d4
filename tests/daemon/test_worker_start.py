"""How a worker finds out what its node is."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from structlog.testing import capture_logs

from ckptsync.daemon.request import Phase
from ckptsync.errors import (
    PrimaryActive,
)
from ckptsync.model import Role
from ckptsync.operations.orders import AcceptRollback, Activate
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.repository import nodes
from ckptsync.stores.memory import MemoryStore
from tests.daemon.bench import (
    AWAY,
    PATIENCE,
    Bench,
    Clock,
    bench,
    eventually,
    pushed,
    write,
)
from tests.fakes.stores import Call
from tests.pipelines import Host, copy_of, snapshot

MINUTE = timedelta(minutes=1)


def test_a_bucket_that_is_away_at_the_start_is_tried_again(primary: Bench) -> None:
    write(primary, "1")
    with primary.bucket.away():
        worker = primary.start()
        assert worker.has_begun
        assert worker.gave_up is None
        failure = worker.snapshot().last_start_failure
        assert failure is not None
        assert failure.message == str(AWAY)
        assert f"cannot start: {AWAY}" in worker.status
        assert worker.snapshot().next_push_at is None, "what is due next is no push"
        left = primary.left()
        assert left is not None
        assert 0.5 <= left <= 1.0

    primary.ring()
    assert worker.snapshot().last_start_failure is None
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

    worker = primary.start()
    assert worker.has_started
    assert worker.snapshot().last_pull_failure is None
    primary.ring()
    assert worker.has_begun
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
    worker = primary.start()
    with capture_logs() as logged:
        primary.alarm.ring("orders:duty")
        assert primary.bucket.reached.wait(PATIENCE)
        worker.stop()
        primary.bucket.let_go()
        worker.join()

    assert not worker.has_begun
    assert "start.not_pulled" not in [each["event"] for each in logged]
