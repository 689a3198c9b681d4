"""What goes on by itself after an answer was lost, a disk was full, or a hook failed."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from ckptsync.daemon.request import Phase
from ckptsync.errors import (
    AccessDenied,
    CkptsyncError,
    LocalDiskFull,
    PrimaryActive,
    RollbackDetected,
    Unavailable,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.operations.may_start import may_start
from ckptsync.operations.orders import Activate, Push, Switchover
from ckptsync.operations.pipeline import StandbySettings, Takeover
from ckptsync.repository import keys
from ckptsync.repository.repository import read_head
from ckptsync.state.activation import Activation, Activations, Stage
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.daemon.bench import AWAY, Bench, Bucket, Clock, bench, eventually, taken_over, write
from tests.operations.takeovers import HookLog
from tests.pipelines import Host

T = TypeVar("T")

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class Impatient(threading.Event):
    """A stop for who does not wait between tries."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return self.is_set()


class Blinking(Bucket):
    """Once armed, its next swaps of head are stored as usual, but for one; then it is away.

    That one is answered by nothing: it was stored if `stores`, and was not otherwise.
    """

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.answers: int | None = None
        """How many swaps are answered before; None: not armed."""
        self.stores = True
        self._silent = 0

    def _call(self, method: str, key: str, action: Callable[[], T]) -> T:
        if self._silent:
            self._silent -= 1
            raise AWAY
        if self.answers is None or (method, key) != ("put", keys.HEAD):
            return super()._call(method, key, action)
        if self.answers:
            self.answers -= 1
            return super()._call(method, key, action)
        self.answers, self._silent = None, 6
        if self.stores:
            super()._call(method, key, action)
        raise AWAY


def time_passes(*benches: Bench) -> None:
    """Each does what is due by now, a few times."""
    for _ in range(8):
        for each in benches:
            each.clock.advance(MINUTE)
            if each.left() is not None:
                each.ring()
            each.ring("beat")
            each.ring("check")


def with_one_checkpoint(primary: Bench) -> None:
    write(primary, "1")
    primary.start()
    primary.ring()


def gone(primary: Bench) -> None:
    """It has pushed something, and its heartbeat is old."""
    with_one_checkpoint(primary)
    primary.end()
    primary.clock.advance(MINUTE)


def released(primary: Bench, standby: Bench) -> str:
    """The primary waits for the standby to take over; the request."""
    with_one_checkpoint(primary)
    standby.start()
    standby.ring()
    standby.ring("beat")
    order = Switchover(to="host-b", timeout=HOUR, engine_stopped=True)
    asked = primary.worker.submit(order)
    eventually(lambda: primary.bucket.head.writer.released_to == "host-b")
    return asked.id


def test_a_switchover_whose_claim_got_no_answer_is_gone_on_with(
    primary: Bench, standby: Bench, store: MemoryStore
) -> None:
    standby.bucket, standby.stop = Blinking(store), Impatient
    asked = released(primary, standby)
    standby.bucket.answers = 0
    standby.ring()
    assert primary.ended(asked).state is Phase.DONE
    assert standby.worker.snapshot().role is Role.STANDBY

    time_passes(standby)
    assert standby.worker.snapshot().role is Role.PRIMARY


def test_a_full_disk_as_the_epoch_is_noted_ends_no_activation(
    primary: Bench, standby: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone(primary)
    standby.start()
    standby.ring()
    save, full = Activations.save, [False, True, True]

    def saved(self: Activations, activation: Activation) -> Activation:
        if (activation.stage is Stage.FENCED or full == [True]) and full.pop():
            raise LocalDiskFull("state.sqlite: no space left on the disk")
        return save(self, activation)

    monkeypatch.setattr(Activations, "save", saved)
    assert standby.done(Activate(request="dr", engine_stopped=True)).state is Phase.FAILED
    full[:] = [False] * 9

    time_passes(standby)
    assert standby.worker.snapshot().role is Role.PRIMARY


def test_credentials_that_expire_in_the_last_pull_are_waited_for(
    primary: Bench, standby: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = released(primary, standby)
    denied = AccessDenied("memory://", "read", keys.HEAD, "the token has expired")
    bucket, save = standby.bucket, Activations.save

    def saved(self: Activations, activation: Activation) -> Activation:
        if activation.stage is Stage.FENCED and activation.problem is None:
            bucket.error = denied
        return save(self, activation)

    monkeypatch.setattr(Activations, "save", saved)
    standby.ring()
    monkeypatch.undo()
    primary.ended(asked)
    assert standby.worker.snapshot().role is Role.ACTIVATION_FAILED

    bucket.error = None
    time_passes(standby)
    assert standby.worker.snapshot().role is Role.PRIMARY


def test_a_bucket_that_blinks_at_the_confirmation_of_a_reconnect_is_tried_again(
    primary: Bench, tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    gone(primary)
    host = Host(
        home=tmp_path / "b",
        node="host-b",
        standby=StandbySettings(initially=True),
        takeover=Takeover(on_pull_failure="local", max_staleness=timedelta(days=9999)),
    )
    with bench(host, store, clock) as other:
        other.bucket, other.stop = Blinking(store), Impatient
        other.start()
        other.ring()
        with other.bucket.away():
            other.done(Activate(request="dr", force=True, engine_stopped=True))
        assert other.worker.snapshot().role is Role.UNFENCED
        other.bucket.answers, other.bucket.stores = 1, False
        other.ring()
        assert other.worker.snapshot().role is Role.ACTIVATION_FAILED

        time_passes(other)
        assert other.worker.snapshot().role is Role.PRIMARY


def test_an_engine_that_started_although_its_hook_failed_is_stopped_when_displaced(
    primary: Bench, tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    gone(primary)
    hooks = HookLog(tmp_path)
    hooks.fail(Hook.ON_ACTIVATE)
    host = Host(
        home=tmp_path / "b",
        node="host-b",
        standby=StandbySettings(initially=True),
        hooks=hooks.commands(Hook.ON_ACTIVATE, Hook.ON_FENCED),
    )
    with bench(host, store, clock) as other:
        other.start()
        other.ring()
        assert other.done(Activate(request="dr", engine_stopped=True)).state is Phase.FAILED
        may_start(other.pipeline, fresh=False)
        other.engine_runs = True
        other.ring("check")
        assert other.worker.snapshot().role is Role.ACTIVATION_FAILED
        taken_over(Host(home=tmp_path / "c", node="host-c"), store)

        time_passes(other)
        assert other.worker.snapshot().role is Role.FENCED
        assert hooks.names()[-1] == "on_fenced"
        other.again()
        time_passes(other)
        assert hooks.names().count("on_fenced") == 1


def _went_back_and_forth(bench: Bench, store: MemoryStore) -> None:
    """A stale answer for a while: the node has stopped."""
    worker = bench.start()
    older = dict(store._objects)
    bench.ring()
    newer = dict(store._objects)
    store._objects = older
    bench.ring("check")
    assert worker.snapshot().role is Role.STOPPED
    store._objects = newer


def test_a_node_that_stopped_for_its_own_bucket_goes_on_when_that_is_well_again(
    primary: Bench, tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    hooks = HookLog(tmp_path)
    primary.host = replace(primary.host, hooks=hooks.commands(Hook.ON_FENCED))
    write(primary, "1")
    _went_back_and_forth(primary, store)
    assert primary.worker.snapshot().role is Role.STOPPED
    time_passes(primary)
    assert primary.worker.snapshot().role is Role.PRIMARY
    host = replace(Host(home=tmp_path / "c", node="host-c"), now=clock)
    with bench(host, store, clock) as other:
        other.host = replace(other.host, standby=StandbySettings(initially=True))
        other.host.root.mkdir(parents=True)
        other.start()
        refused = other.done(Activate(request="unforced", engine_stopped=True))
        assert isinstance(refused.error, PrimaryActive)
    assert hooks.names() == []

    taken_over(Host(home=tmp_path / "d", node="host-d"), store)
    time_passes(primary)
    assert primary.worker.snapshot().role is Role.FENCED
    assert hooks.names() == ["on_fenced"]


def test_a_node_that_stopped_at_its_start_is_fenced_too_when_it_is_displaced(
    primary: Bench, tmp_path: Path, store: MemoryStore
) -> None:
    hooks = HookLog(tmp_path)
    primary.host = replace(primary.host, hooks=hooks.commands(Hook.ON_FENCED))
    write(primary, "1")
    primary.start()
    older = dict(store._objects)
    primary.ring()
    newer = dict(store._objects)
    store._objects = older
    assert isinstance(primary.again().gave_up, RollbackDetected)
    store._objects = newer
    taken_over(Host(home=tmp_path / "c", node="host-c"), store)

    time_passes(primary)
    assert primary.worker.snapshot().role is Role.FENCED
    assert hooks.names() == ["on_fenced"]


def test_a_head_that_is_damaged_once_is_no_reason_to_give_up(
    primary: Bench, store: MemoryStore
) -> None:
    with_one_checkpoint(primary)
    primary.end()
    good = store.get(keys.HEAD, limit=1 << 20).data
    store.put(keys.HEAD, good[:-20])
    worker = primary.start()
    assert worker.gave_up is None
    assert worker.has_begun

    store.put(keys.HEAD, good)
    primary.ring()
    assert worker.snapshot().role is Role.PRIMARY
    assert worker.has_started


def test_a_head_that_stays_damaged_is_given_up(primary: Bench, store: MemoryStore) -> None:
    with_one_checkpoint(primary)
    primary.end()
    store.put(keys.HEAD, b"{")
    worker = primary.start()
    primary.ring()
    assert worker.gave_up is not None
    assert primary.left() is None


def test_a_copy_whose_start_was_refused_pushes_nothing(
    primary: Bench, tmp_path: Path, store: MemoryStore, clock: Clock
) -> None:
    with_one_checkpoint(primary)

    class BesideItsOriginal(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            clock.advance(timedelta(seconds=timeout or 0.0))
            primary.ring("beat")
            return self.is_set()

    with bench(primary.host.copied_to(tmp_path / "copy"), store, clock) as copy:
        copy.stop = BesideItsOriginal
        worker = copy.start()
        assert isinstance(worker.gave_up, PrimaryActive)
        before = read_head(store).head.revision
        write(copy, "2")

        assert isinstance(copy.done(Push()).error, PrimaryActive)
        assert read_head(store).head.revision == before


def test_a_stray_activation_interrupts_nothing_that_a_primary_does(
    primary: Bench, standby: Bench
) -> None:
    asked = released(primary, standby)
    stray = primary.worker.submit(Activate(request="stray"))
    assert [each.id for each in primary.worker.snapshot().queued] == [stray.id]
    standby.ring()

    assert primary.ended(asked).state is Phase.DONE
    assert isinstance(primary.ended(stray.id).error, CkptsyncError)
    assert standby.worker.snapshot().role is Role.PRIMARY


def test_a_resume_while_the_pause_is_being_planned_is_not_lost(
    primary: Bench, standby: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_one_checkpoint(primary)
    standby.start()
    standby.ring()
    reached, resumed = threading.Event(), threading.Event()
    drop = standby.alarm.drop

    def slowly(prefix: str) -> None:
        reached.set()
        assert resumed.wait(60)
        drop(prefix)

    monkeypatch.setattr(standby.alarm, "drop", slowly)
    standby.worker.pause()
    assert reached.wait(60)
    standby.worker.resume()
    resumed.set()
    standby.settle()
    assert standby.left() is not None


def test_a_primary_beats_and_checks_while_its_first_pull_fails(
    primary: Bench, tmp_path: Path, store: MemoryStore
) -> None:
    with_one_checkpoint(primary)
    primary.end()
    (primary.host.root / "1").rename(tmp_path / "1")
    primary.host = replace(primary.host, standby=StandbySettings(start_from="latest"))
    worker = primary.start()
    with primary.bucket.away():
        primary.ring()
        assert worker.has_begun
        failure = worker.snapshot().last_pull_failure
        assert failure is not None
        assert failure.kind == Unavailable.__name__
    assert worker.snapshot().role is Role.PRIMARY
    calls = [call.method for call in primary.asked(lambda: primary.ring("beat"))]
    assert "put" in calls

    primary.ring()
    assert (primary.host.root / "1" / "text").exists()
    assert worker.snapshot().last_pull_failure is None
