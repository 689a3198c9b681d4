"""A host's worker on a bench: real threads and files, a bucket that can be held or taken away, and
an alarm clock that rings when the test says so.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from ckptsync.daemon.alarm import Alarm
from ckptsync.daemon.duty import Pace
from ckptsync.daemon.request import Phase, RequestState
from ckptsync.daemon.worker import Wired, Wiring, Worker
from ckptsync.errors import CkptsyncError, Unavailable
from ckptsync.model import ignore
from ckptsync.operations.activate import activate
from ckptsync.operations.orders import Activate, Order
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.standby import Standby
from ckptsync.repository.head import Head
from ckptsync.repository.repository import read_head
from ckptsync.sources.directory import Directory
from ckptsync.state.lock import PipelineLock, lock_path
from ckptsync.state.role import RoleChange
from ckptsync.stores.base import ObjectStore
from tests.fakes.stores import Call, FaultyStore
from tests.pipelines import Host, a_small_checkpoint

T = TypeVar("T")

PATIENCE: Final = 60.0  # seconds, for a machine that does much else
STARTED: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PUSH_EVERY: Final = timedelta(minutes=5)
PULL_EVERY: Final = timedelta(seconds=10)
PACE: Final = Pace(
    push_interval=PUSH_EVERY, pull_interval=PULL_EVERY, fence_check_interval=timedelta(seconds=5)
)
AWAY: Final = Unavailable("memory://", "reach", "the store", "it is away")


def eventually(ask: Callable[[], T | None]) -> T:
    """What `ask` gives as soon as that is true. Raises AssertionError if it never is."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"it never came to pass: {answer!r}"
        time.sleep(0.001)
    return answer


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.at = STARTED

    def __call__(self) -> datetime:
        return self.at

    def advance(self, by: timedelta) -> None:
        self.at += by


class HandAlarm(Alarm):
    """Never started; a test rings it."""

    def __init__(self, fail: Callable[[BaseException], None], clock: Clock) -> None:
        super().__init__(
            fail,
            wall=clock,
            monotonic=lambda: (clock.at - STARTED).total_seconds(),
            chance=lambda: 0.0,
        )
        self._clock = clock

    def left(self, key: str) -> float | None:
        """Seconds until it rings by itself; None if there is no such alarm."""
        at = self.next(key)
        return None if at is None else (at - self._clock.at).total_seconds()

    def call(self, key: str) -> Callable[[], object]:
        return self._entries[key].call

    def ring(self, key: str) -> None:
        """Now, whenever it is due."""
        with self._lock:
            entry = self._entries[key]
            if entry.every is None:
                del self._entries[key]
        entry.call()


class Bucket(FaultyStore):
    """Counts its calls; those that a test picks are refused, or held until it lets them go."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.error: CkptsyncError | None = None
        """What every call raises, while it is not None."""
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._held: Call | None = None
        self._after = False

    def hold(self, method: str, key: str, *, after: bool = False) -> None:
        """Hold the next calls of this method with keys that begin so, or only their answers."""
        self.reached.clear()
        self.opened.clear()
        self._held = Call(method, key)
        self._after = after

    def let_go(self) -> None:
        self._held = None
        self.opened.set()

    @contextmanager
    def away(self, error: CkptsyncError = AWAY) -> Iterator[None]:
        self.error = error
        try:
            yield
        finally:
            self.error = None

    def _call(self, method: str, key: str, action: Callable[[], T]) -> T:
        held = self._held
        holds = held is not None and method == held.method and key.startswith(held.key)
        if holds and not self._after:
            self._wait()
        if self.error is not None:
            raise self.error
        done = super()._call(method, key, action)
        if holds and self._after:
            self._wait()
        return done

    def _wait(self) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE), "nobody let it go"

    @property
    def head(self) -> Head:
        """Without a call that would count."""
        return read_head(self._inner).head


def wiring(
    host: Host,
    store: ObjectStore,
    *,
    pace: Pace = PACE,
    stop: Callable[[], threading.Event] = threading.Event,
    engine_running: Callable[[], bool] = lambda: False,
) -> Wiring:
    """A worker's, with the lock of the pipeline in the home of the host."""

    @contextmanager
    def wired(on_role: Callable[[RoleChange], None]) -> Iterator[Wired]:
        def told(change: RoleChange) -> None:
            host.roles.append(change)
            on_role(change)

        def ready(pipeline: Pipeline) -> Pipeline:
            layout = Directory(host.root, quiet=timedelta(0), engine_running=engine_running)
            return replace(pipeline, stop=stop(), on_role=told, layout=layout)

        with (
            PipelineLock(lock_path(host.home, host.pipeline)),
            host.running(store) as work,
            host.running(store) as watch,
        ):
            yield Wired(work=ready(work), watch=ready(watch), pace=pace)

    return wired


@dataclass(slots=True, kw_only=True)
class Bench:
    """One host, and the life of its daemon, which may begin again and again."""

    host: Host
    bucket: Bucket
    clock: Clock
    pace: Pace = PACE
    stop: Callable[[], threading.Event] = threading.Event
    engine_runs: bool = False
    bugs: list[BaseException] = field(default_factory=list)
    changes: int = 0
    """How often the worker said that its status changed."""
    _alarm: HandAlarm | None = None
    _worker: Worker | None = None

    @property
    def worker(self) -> Worker:
        assert self._worker is not None
        return self._worker

    @property
    def alarm(self) -> HandAlarm:
        assert self._alarm is not None
        return self._alarm

    @property
    def pipeline(self) -> Pipeline:
        """The worker's own."""
        return self.worker._pipeline

    def begin(self) -> Worker:
        """A process begins; nothing is done yet."""
        self._alarm = HandAlarm(self.bugs.append, self.clock)
        self._worker = Worker(
            wiring(
                self.host,
                self.bucket,
                pace=self.pace,
                stop=self.stop,
                engine_running=lambda: self.engine_runs,
            ),
            self._alarm,
            changed=self._changed,
            fail=self.bugs.append,
        )
        self._worker.begin()
        return self._worker

    def start(self) -> Worker:
        """A process begins, and finds out what it is."""
        worker = self.begin()
        self.ring("duty")
        return worker

    def end(self) -> None:
        """The process ends as it should."""
        worker, self._worker = self._worker, None
        if worker is not None:
            self.bucket.let_go()
            worker.stop()
            worker.join()
            worker.release()

    def again(self) -> Worker:
        """End and start."""
        self.end()
        return self.start()

    def ring(self, what: str = "duty") -> None:
        """Let the time come for something, and wait until all that follows is done."""
        self.alarm.ring(f"orders:{what}")
        self.settle()

    def settle(self) -> None:
        """Wait until every lane has nothing to do."""
        worker = self.worker
        lanes = (worker._work.lane, worker._watching, worker._telling)

        def idle() -> bool:
            for lane in lanes:
                with lane._changed:
                    if lane._running is not None or lane._queue:
                        return False
            return True

        # Twice: what one lane did may have given work to one that was looked at before.
        eventually(lambda: idle() and idle())

    def left(self, what: str = "duty") -> float | None:
        """Seconds until something is due; None if it is not to be."""
        return self.alarm.left(f"orders:{what}")

    def done(self, order: Order) -> RequestState:
        """Ask for something, and wait for its end."""
        asked = self.worker.submit(order)
        return self.ended(asked.id)

    def ended(self, id: str) -> RequestState:
        def end() -> RequestState | None:
            found = self.worker.find(id)
            assert found is not None
            return found if found.state in (Phase.DONE, Phase.FAILED) else None

        ended = eventually(end)
        self.settle()
        return ended

    def asked(self, action: Callable[[], object]) -> Sequence[Call]:
        """The calls of the bucket while something is done."""
        before = len(self.bucket.calls)
        action()
        return self.bucket.calls[before:]

    def _changed(self) -> None:
        self.changes += 1


def write(bench: Bench, name: str) -> None:
    """As the engine does."""
    bench.host.checkpoint(name, a_small_checkpoint(name))


def pushed(bench: Bench) -> list[str]:
    """What the bucket holds, by the engine's ids."""
    return [entry.engine_id for entry in bench.bucket.head.checkpoints]


def taken_over(host: Host, store: ObjectStore) -> None:
    """This host becomes the primary by force, whoever is it now."""
    host.root.mkdir(parents=True, exist_ok=True)
    with host.running(store) as pipeline:
        order = Activate(request="other", force=True, engine_stopped=True)
        activate(pipeline, order, Standby(pipeline), progress=ignore)


@contextmanager
def bench(host: Host, store: ObjectStore, clock: Clock) -> Iterator[Bench]:
    """Its bugs are looked for at the end: a test that wants some takes them out."""
    with ExitStack() as ending:
        made = Bench(host=replace(host, now=clock), bucket=Bucket(store), clock=clock)
        ending.callback(made.end)
        yield made
    assert made.bugs == []
