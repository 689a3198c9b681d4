"""The life of the daemon, in a thread of the test: pipelines come and go, systemd is told."""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ckptsync.daemon import service as services
from ckptsync.daemon.crew import Plan
from ckptsync.daemon.duty import Pace
from ckptsync.daemon.request import Phase
from ckptsync.daemon.service import Service
from ckptsync.daemon.systemd import Notifier
from ckptsync.errors import (
    Busy,
    Cancelled,
    CkptsyncError,
    ConfigError,
    ForeignWriter,
    HeadLost,
    LocalDiskFull,
    RollbackDetected,
    UnfitStore,
    WrongRepository,
)
from ckptsync.model import Role
from ckptsync.operations.orders import Push
from ckptsync.operations.pipeline import StandbySettings
from ckptsync.state.lock import PipelineLock, lock_path
from ckptsync.stores.memory import MemoryStore
from tests.daemon.bench import AWAY, PATIENCE, Bucket, eventually, wiring
from tests.fakes.stores import LyingStore
from tests.pipelines import Host, a_small_checkpoint, copy_of

QUICK = Pace(
    push_interval=timedelta(milliseconds=20),
    pull_interval=timedelta(milliseconds=20),
    fence_check_interval=timedelta(seconds=5),
)
BY_HAND = replace(QUICK, push_interval=None)


class Doors:
    """Notes which pipelines can be reached."""

    def __init__(self) -> None:
        self.open_now: set[str] = set()
        self.error: CkptsyncError | None = None

    def open(self, pipeline: str) -> None:
        if self.error is not None:
            raise self.error
        self.open_now.add(pipeline)

    def shut(self, pipeline: str) -> None:
        self.open_now.discard(pipeline)


class Systemd:
    """The service manager: what it was told, a message each."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self._told: list[str] = []

    @property
    def told(self) -> list[str]:
        with suppress(BlockingIOError):
            while True:
                self._told.append(self._socket.recv(65536).decode())
        return self._told

    @property
    def kinds(self) -> list[str]:
        """The first word of each message, without statuses and signs of life."""
        words = (each.split("=")[0] for each in self.told)
        return [word for word in words if word not in ("STATUS", "WATCHDOG")]

    @property
    def status(self) -> str:
        lines = [line for each in self.told for line in each.split("\n")]
        return [line for line in lines if line.startswith("STATUS=")][-1]

    def close(self) -> None:
        self._socket.close()


class Daemon:
    """A service, and the configuration that it reads."""

    def __init__(self, home: Path, systemd: Systemd, **told: str) -> None:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.address, **told})
        self.home = home
        self.systemd = systemd
        self.buckets: dict[str, Bucket] = {}
        self.plans: dict[str, Plan] = {}
        self.refusal: CkptsyncError | None = None
        self.doors = Doors()
        self.stop = threading.Event()
        self.service = Service(self._load, notifier, self.stop)
        self.raised: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def host(self, name: str) -> Host:
        host = Host(home=self.home / name, pipeline=name)
        host.root.mkdir(parents=True, exist_ok=True)
        return host

    def add(self, name: str, *, pace: Pace = BY_HAND, settings: object = None) -> Bucket:
        """To the configuration."""
        bucket = self.buckets.setdefault(name, Bucket(MemoryStore()))
        self.plans[name] = Plan(
            settings=(pace, settings), wiring=wiring(self.host(name), bucket, pace=pace)
        )
        return bucket

    def start(self) -> None:
        self._thread.start()

    def ready(self) -> None:
        self.start()
        eventually(lambda: "READY" in self.systemd.kinds or not self._thread.is_alive())
        assert self.raised is None, self.raised

    def end(self) -> None:
        self.stop.set()
        for bucket in self.buckets.values():
            bucket.let_go()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive()

    def await_end(self) -> BaseException | None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.raised

    def pushed(self, name: str) -> list[str]:
        return [entry.engine_id for entry in self.buckets[name].head.checkpoints]

    def locked(self, name: str) -> bool:
        try:
            with PipelineLock(lock_path(self.home / name, name)):
                return False
        except Busy:
            return True

    def ended(self, name: str, id: str) -> Any:
        def end() -> Any:
            found = self.service.find(name, id)
            assert found is not None
            return found if found.finished_at is not None else None

        return eventually(end)

    def _load(self) -> Mapping[str, Plan]:
        if self.refusal is not None:
            raise self.refusal
        return dict(self.plans)

    def _run(self) -> None:
        try:
            self.service.run(self.doors)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.raised = error


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks around at once, not every second."""
    monkeypatch.setattr(services, "_GLANCE", 0.01)
    monkeypatch.setattr(services, "_FILL_EVERY", 0.02)


@pytest.fixture
def systemd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    manager = Systemd(tmp_path_factory.mktemp("s"))
    yield manager
    manager.close()


@pytest.fixture
def daemon(tmp_path: Path, systemd: Systemd) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path, systemd)
    yield daemon
    daemon.end()


def has_ended(daemon: Daemon) -> bool:
    """Whether nothing is left of it."""
    names = {thread.name.partition("-")[0] for thread in threading.enumerate()}
    return (
        not names & {"work", "watch", "tell", "reload"}
        and daemon.doors.open_now == set()
        and not any(map(daemon.locked, daemon.plans))
    )


def test_it_runs_until_it_is_stopped_and_leaves_nothing_behind(
    daemon: Daemon, systemd: Systemd
) -> None:
    for name in ("orders", "stock"):
        daemon.add(name, pace=QUICK)
        daemon.host(name).checkpoint("1", a_small_checkpoint(name))
    daemon.ready()
    for name in ("orders", "stock"):
        eventually(lambda name=name: daemon.pushed(name) == ["1"])  # type: ignore[misc]
        assert daemon.locked(name)
    assert daemon.doors.open_now == {"orders", "stock"}
    assert systemd.status == "STATUS=orders: primary, epoch 1; stock: primary, epoch 1"

    daemon.end()
    assert daemon.raised is None
    assert systemd.kinds == ["READY", "STOPPING"]
    assert has_ended(daemon)


def test_a_watchdog_is_told_that_it_lives(tmp_path: Path, systemd: Systemd) -> None:
    daemon = Daemon(tmp_path, systemd, WATCHDOG_USEC="20000")
    daemon.add("orders")
    daemon.ready()
    eventually(lambda: systemd.told.count("WATCHDOG=1") > 5)
    daemon.end()

    told = systemd.told
    assert told.index("WATCHDOG=1") > next(i for i, each in enumerate(told) if "READY" in each)


def test_a_bucket_that_is_away_does_not_keep_it_from_being_ready(
    daemon: Daemon, systemd: Systemd
) -> None:
    bucket = daemon.add("orders", pace=QUICK)
    daemon.host("orders").checkpoint("1", a_small_checkpoint())
    with bucket.away():
        daemon.ready()
        assert systemd.status.endswith(f"cannot start: {AWAY}")

    eventually(lambda: daemon.service.snapshot("orders").last_start_failure is None)
    eventually(lambda: daemon.pushed("orders") == ["1"])
    assert systemd.status == "STATUS=orders: primary, epoch 1"


def test_it_is_ready_once_the_first_pull_has_ended_however_long_that_takes(
    daemon: Daemon, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, host = daemon.add("orders"), daemon.host("orders")
    host.push_new("1", bucket)
    (host.root / "1").rename(host.home / "1")
    host = replace(host, standby=StandbySettings(start_from="latest"))
    daemon.plans["orders"] = Plan(settings=None, wiring=wiring(host, bucket, pace=BY_HAND))
    bucket.hold("read_into", "")
    daemon.start()
    assert bucket.reached.wait(PATIENCE)
    monkeypatch.setattr(services, "_FIRST_START", 0.0)
    eventually(lambda: "EXTEND_TIMEOUT_USEC" in systemd.kinds)
    assert "READY" not in systemd.kinds
    assert daemon.service.snapshot("orders").role is Role.PRIMARY

    bucket.let_go()
    eventually(lambda: "READY" in systemd.kinds)
    assert (host.root / "1" / "text").exists()


# Refusals


def rebuilt(daemon: Daemon) -> None:
    replace(daemon.host("other"), pipeline="orders").push_new("1", daemon.add("orders"))


def another_pipelines(daemon: Daemon) -> None:
    host = replace(daemon.host("other"), pipeline="other")
    host.push_new("1", daemon.add("orders"))


def head_lost(daemon: Daemon) -> None:
    bucket = daemon.add("orders")
    daemon.host("orders").push_new("1", bucket)
    bucket.delete(["head.json"])


def rolled_back(daemon: Daemon) -> None:
    bucket = daemon.add("orders")
    daemon.host("orders").push_new("1", bucket)
    assert isinstance(bucket._inner, MemoryStore)
    older = copy_of(bucket._inner)
    daemon.host("orders").push_new("2", bucket)
    bucket._inner._objects = older._objects


def unfit(daemon: Daemon) -> None:
    daemon.buckets["orders"] = Bucket(LyingStore(MemoryStore()))
    daemon.add("orders")


REFUSALS: list[tuple[Callable[[Daemon], None], type[CkptsyncError], int]] = [
    (rebuilt, ForeignWriter, 11),
    (another_pipelines, WrongRepository, 2),
    (head_lost, HeadLost, 12),
    (rolled_back, RollbackDetected, 11),
    (unfit, UnfitStore, 13),
]


@pytest.mark.parametrize(("refused", "kind", "code"), REFUSALS)
def test_it_ends_where_no_pipeline_can_start_and_trying_again_mends_nothing(
    daemon: Daemon,
    systemd: Systemd,
    refused: Callable[[Daemon], None],
    kind: type[CkptsyncError],
    code: int,
) -> None:
    refused(daemon)
    daemon.start()
    error = daemon.await_end()

    assert type(error) is kind
    assert isinstance(error, CkptsyncError)
    assert error.exit_code == code
    assert systemd.kinds == ["STOPPING"]
    assert has_ended(daemon)


@pytest.mark.parametrize(("refused", "kind", "code"), REFUSALS)
def test_it_stays_for_the_sake_of_a_pipeline_that_can_start(
    daemon: Daemon,
    systemd: Systemd,
    refused: Callable[[Daemon], None],
    kind: type[CkptsyncError],
    code: int,
) -> None:
    del kind, code
    refused(daemon)
    daemon.add("stock", pace=QUICK)
    daemon.host("stock").checkpoint("1", a_small_checkpoint())
    daemon.ready()

    eventually(lambda: daemon.pushed("stock") == ["1"])
    told = daemon.service.snapshot("orders")
    assert told.role is Role.STOPPED
    assert told.last_start_failure is not None
    assert "orders: stopped" in systemd.status


def test_it_ends_where_every_pipeline_is_at_work_already_and_says_by_whom(daemon: Daemon) -> None:
    daemon.add("orders")
    with PipelineLock(lock_path(daemon.home / "orders", "orders")):
        daemon.start()
        error = daemon.await_end()

    assert isinstance(error, Busy)
    assert f"process {os.getpid()} " in str(error)


def test_a_pipeline_that_is_at_work_elsewhere_is_run_as_soon_as_it_can_be(
    daemon: Daemon, systemd: Systemd
) -> None:
    daemon.add("orders")
    daemon.add("stock")
    with PipelineLock(lock_path(daemon.home / "orders", "orders")):
        daemon.ready()
        assert f"orders: process {os.getpid()} " in systemd.status
        assert daemon.doors.open_now == {"stock"}
        with pytest.raises(ConfigError):
            daemon.service.snapshot("orders")

    eventually(lambda: daemon.doors.open_now == {"orders", "stock"})
    eventually(lambda: daemon.service.snapshot("orders").role is Role.PRIMARY)
    eventually(lambda: "process" not in systemd.status)


def test_a_configuration_that_is_wrong_is_the_end_of_a_start(daemon: Daemon) -> None:
    daemon.refusal = ConfigError("no such file")
    daemon.start()

    assert daemon.await_end() is daemon.refusal


# Reloads


def test_a_reload_leaves_alone_what_has_not_changed(daemon: Daemon, systemd: Systemd) -> None:
    bucket = daemon.add("orders")
    daemon.host("orders").checkpoint("1", a_small_checkpoint())
    daemon.ready()
    bucket.hold("put", "head.json")
    asked = daemon.service.submit("orders", Push(), id=None)
    assert bucket.reached.wait(PATIENCE)

    daemon.add("orders")
    daemon.add("stock")
    daemon.service.reload()
    eventually(lambda: daemon.service.snapshot("stock").role is Role.PRIMARY)
    running = daemon.service.snapshot("orders").running
    assert running is not None
    assert running.id == asked.id
    bucket.let_go()
    assert daemon.ended("orders", asked.id).state is Phase.DONE
    assert systemd.kinds == ["READY", "RELOADING", "READY"]


def test_a_reload_changes_the_pace_of_a_pipeline(daemon: Daemon) -> None:
    daemon.add("orders")
    daemon.host("orders").checkpoint("1", a_small_checkpoint())
    daemon.ready()
    assert daemon.pushed("orders") == []

    daemon.add("orders", pace=QUICK)
    daemon.service.reload()
    eventually(lambda: daemon.pushed("orders") == ["1"])
    assert daemon.buckets["orders"].head.epoch == 1


def test_a_reload_ends_what_is_configured_no_more(daemon: Daemon) -> None:
    daemon.add("orders")
    daemon.add("stock")
    daemon.ready()
    del daemon.plans["orders"]
    daemon.service.reload()

    assert daemon.doors.open_now == {"stock"}
    assert not daemon.locked("orders")
    with pytest.raises(ConfigError, match="serves no pipeline 'orders' any more"):
        daemon.service.submit("orders", Push(), id=None)
    assert daemon.service.find("orders", "1") is None


def test_a_daemon_that_has_worked_stays_where_a_reload_leaves_it_nothing_to_do(
    daemon: Daemon, systemd: Systemd
) -> None:
    daemon.add("orders")
    daemon.ready()
    right = daemon.buckets.pop("orders")
    replace(daemon.host("other"), pipeline="other").push_new("1", daemon.add("orders", pace=QUICK))
    daemon.service.reload()
    eventually(lambda: "orders: stopped" in systemd.status)
    assert daemon.service.snapshot("orders").role is Role.STOPPED

    daemon.buckets["orders"] = right
    daemon.add("orders")
    daemon.service.reload()
    eventually(lambda: daemon.service.snapshot("orders").role is Role.PRIMARY)


def test_who_waits_for_a_request_that_a_reload_ended_is_told_so(daemon: Daemon) -> None:
    bucket = daemon.add("orders")
    daemon.host("orders").checkpoint("1", a_small_checkpoint())
    daemon.ready()
    bucket.hold("put", "chunks/")
    asked = daemon.service.submit("orders", Push(), id=None)
    assert bucket.reached.wait(PATIENCE)
    daemon.add("orders", settings="other")
    reloading = threading.Thread(target=daemon.service.reload)
    reloading.start()
    bucket.let_go()
    reloading.join()

    ended = daemon.ended("orders", asked.id)
    assert isinstance(ended.error, Cancelled)
    assert daemon.service.submit("orders", Push(), id=None).id != asked.id


def test_a_configuration_with_a_mistake_changes_nothing_and_systemd_shows_it(
    daemon: Daemon, systemd: Systemd
) -> None:
    daemon.add("orders")
    daemon.ready()
    worker = daemon.service._crew.workers["orders"]
    daemon.refusal = ConfigError("sync.bucket is missing")
    with pytest.raises(ConfigError):
        daemon.service.reload()

    assert daemon.service._crew.workers == {"orders": worker}
    assert systemd.kinds == ["READY", "RELOADING", "READY"]
    assert systemd.status == (
        "STATUS=the configuration was not read anew: sync.bucket is missing; "
        "orders: primary, epoch 1"
    )
    daemon.refusal = None
    daemon.service.reload()
    assert systemd.status == "STATUS=orders: primary, epoch 1"


def test_a_signal_reloads_and_a_mistake_ends_nothing(daemon: Daemon, systemd: Systemd) -> None:
    daemon.add("orders")
    daemon.ready()
    daemon.refusal = ConfigError("sync.bucket is missing")
    daemon.service.ask_reload()
    eventually(lambda: systemd.kinds == ["READY", "RELOADING", "READY"])
    daemon.refusal = None
    daemon.add("stock")
    daemon.service.ask_reload()

    eventually(lambda: daemon.doors.open_now == {"orders", "stock"})


def test_what_a_reload_cannot_run_is_said_and_tried_again(daemon: Daemon) -> None:
    daemon.add("orders")
    daemon.ready()
    daemon.add("stock")
    with PipelineLock(lock_path(daemon.home / "stock", "stock")):
        with pytest.raises(Busy):
            daemon.service.reload()
        assert daemon.doors.open_now == {"orders"}

    eventually(lambda: daemon.doors.open_now == {"orders", "stock"})


def test_the_only_pipeline_may_be_missing_after_a_reload_for_a_while(daemon: Daemon) -> None:
    daemon.add("orders")
    daemon.ready()
    daemon.doors.error = LocalDiskFull("no space left for the socket")
    daemon.add("orders", settings="other")
    with pytest.raises(LocalDiskFull):
        daemon.service.reload()
    assert not daemon.locked("orders"), "where it cannot be asked it does not run"

    daemon.doors.error = None
    eventually(lambda: daemon.doors.open_now == {"orders"})
    assert daemon.service.snapshot("orders").pipeline == "orders"


def test_a_reload_comes_too_late_for_a_daemon_that_is_stopping(daemon: Daemon) -> None:
    daemon.add("orders")
    daemon.ready()
    daemon.end()
    with pytest.raises(Cancelled):
        daemon.service.reload()

    assert has_ended(daemon)


def test_a_stop_in_the_middle_of_a_reload_waits_for_it_and_ends_everything(daemon: Daemon) -> None:
    bucket = daemon.add("orders")
    daemon.host("orders").checkpoint("1", a_small_checkpoint())
    daemon.ready()
    bucket.hold("put", "chunks/")
    daemon.service.submit("orders", Push(), id=None)
    assert bucket.reached.wait(PATIENCE)
    daemon.add("orders", settings="other")
    daemon.service.ask_reload()
    eventually(lambda: any(each.name == "reload" for each in threading.enumerate()))
    daemon.stop.set()
    bucket.let_go()
    daemon.end()

    assert daemon.raised is None
    assert has_ended(daemon)


def test_whoever_looks_while_pipelines_come_and_go_breaks_nothing(daemon: Daemon) -> None:
    daemon.add("orders")
    daemon.add("stock")
    daemon.ready()
    over = threading.Event()
    broken: list[BaseException] = []

    def look() -> None:
        asks = (
            lambda: daemon.service.snapshot("orders"),
            lambda: daemon.service.pause("orders"),
            lambda: daemon.service.resume("orders"),
            daemon.service._status,
        )
        while not over.is_set():
            for ask in asks:
                try:
                    ask()
                except (Busy, ConfigError):
                    continue
                except BaseException as bug:  # noqa: BLE001 - the test looks at it
                    broken.append(bug)

    looking = [threading.Thread(target=look) for _ in range(3)]
    for thread in looking:
        thread.start()
    for round_ in range(20):
        daemon.add("orders", settings=round_)
        daemon.service.reload()
    over.set()
    for thread in looking:
        thread.join()

    assert broken == []
    assert daemon.raised is None


def test_a_hundred_reloads_leave_nothing_behind(daemon: Daemon) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    daemon.add("orders")
    daemon.ready()
    for round_ in range(100):
        if round_ == 2:
            before, threads = descriptors(), threading.active_count()
        daemon.add("orders", settings=round_)
        daemon.service.reload()
    eventually(lambda: descriptors() <= before)
    eventually(lambda: threading.active_count() <= threads)


# Bugs


class Broken(Exception):
    pass


@pytest.fixture
def pushing(daemon: Daemon) -> Iterator[Daemon]:
    """In the middle of a push that does not end."""
    bucket = daemon.add("orders")
    daemon.host("orders").checkpoint("1", a_small_checkpoint())
    daemon.add("stock", pace=QUICK)
    daemon.ready()
    bucket.hold("put", "head.json")
    daemon.service.submit("orders", Push(), id=None)
    assert bucket.reached.wait(PATIENCE)
    yield daemon
    bucket.let_go()
    for worker in daemon.service._crew.workers.values():
        worker.join()
        worker.release()


def test_a_bug_of_a_pipeline_ends_it_at_once(pushing: Daemon) -> None:
    pushing.buckets["stock"].error = Broken()  # type: ignore[assignment]  # nobody expects it
    pushing.host("stock").checkpoint("1", a_small_checkpoint())

    assert isinstance(pushing.await_end(), Broken)
    assert pushing.systemd.kinds == ["READY", "STOPPING"]


def test_a_bug_of_its_own_ends_it_at_once(pushing: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_self: object) -> None:
        raise Broken

    monkeypatch.setattr("ckptsync.daemon.alarm.Alarm.check", check)
    assert isinstance(pushing.await_end(), Broken)
