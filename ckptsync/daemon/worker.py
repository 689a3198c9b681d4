"""One pipeline in the daemon, from its lock to its last thread."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from ckptsync import __version__
from ckptsync.daemon import snapshots
from ckptsync.daemon.alarm import Alarm
from ckptsync.daemon.duty import Duty, Pace
from ckptsync.daemon.lane import Lane
from ckptsync.daemon.request import RequestState
from ckptsync.daemon.snapshot import Asked, Snapshot
from ckptsync.daemon.watch import BEAT_EVERY, Watch
from ckptsync.daemon.work import Work
from ckptsync.errors import Busy, CkptsyncError, NothingToDo, Refused
from ckptsync.model import CheckpointId
from ckptsync.operations.orders import Order, Switchover
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import announce
from ckptsync.state.role import RoleChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """A pipeline twice: whoever watches the bucket must not wait for whoever works on it."""

    work: Pipeline
    watch: Pipeline
    """With a stop, a database and stores of its own, which give up soon."""
    pace: Pace


Wiring = Callable[[Callable[[RoleChange], None]], AbstractContextManager[Wired]]
"""Opens what a worker needs, its lock too; gets what is told of each change of role."""


class Worker:
    """One thread works, a second watches the bucket, a third runs the hook on_role_change.

    Safe to share between threads.
    """

    def __init__(
        self,
        wiring: Wiring,
        alarm: Alarm,
        *,
        changed: Callable[[], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """Nothing is done before `begin`. Raises what the wiring raises, Busy above all.

        `changed` is called, in any thread, when the role or the outcome of the start changes.
        """
        with ExitStack() as opening:
            wired = opening.enter_context(wiring(self._role_changed))
            self._pipeline = wired.work
            self._pace = wired.pace
            self._alarm = alarm
            self._changed = changed
            self._fail = fail
            self._since = wired.work.now()
            self._using = threading.Lock()
            self._released = False
            self._untold = threading.Event()
            self._watch = Watch(
                wired.watch,
                at_work=lambda: self._work.at_work,
                warm=self._warm,
                pulling=lambda: self._work.pulling,
                trouble=lambda trouble: self._work.look_into(trouble),
                back=lambda: self._work.go_on(),
                mended=lambda: self._work.start_anew(),
            )
            self._work = Work(
                wired.work,
                wired.pace,
                alarm,
                answered=self._watch.answered,
                changed=changed,
                held=self._ask_another_beat,
                fail=fail,
            )
            self._watching = self._lane("watch", wired.watch.stop)
            self._telling = self._lane("tell", self._untold)
            self._opened = opening.pop_all()

    @property
    def name(self) -> str:
        return self._pipeline.node.pipeline

    @property
    def status(self) -> str:
        """For people, short."""
        try:
            with self._open():
                role, epoch = self._work.role, self._pipeline.state.identity.remembered().epoch
        except CkptsyncError as error:
            return f"{self.name}: {error}"
        problem = self._work.error(Duty.START)
        waiting = "" if problem is None else f", cannot start: {problem}"
        return f"{self.name}: {role}, epoch {epoch}{waiting}"

    @property
    def gave_up(self) -> CkptsyncError | None:
        """Why it cannot start, if trying again does not mend that."""
        return self._work.gave_up

    @property
    def has_started(self) -> bool:
        """Whether this node has found out what it is."""
        return self._work.started

    @property
    def has_begun(self) -> bool:
        """Whether the first start and its pull have come to an end, good or bad."""
        return self._work.begun

    def begin(self) -> None:
        self._work.begin()
        every = self._pace.fence_check_interval.total_seconds()
        self._alarm.every(self._key("check"), every, self._ask_check)
        self._alarm.every(self._key("beat"), BEAT_EVERY, self._ask_beat)

    def submit(self, order: Order, *, id: str | None = None) -> RequestState:
        """Ask for something; what is the same and under way is joined, not done twice."""
        with self._using:  # so that the database stays open
            if isinstance(order, Switchover):
                self._require_no_switchover()
            return self._work.submit(order, id=id).snapshot()

    def find(self, id: str) -> RequestState | None:
        request = self._work.lane.find(id)
        return None if request is None else request.snapshot()

    def snapshot(self) -> Snapshot:
        """From memory and the local database: no store is asked. Raises Busy after the end."""
        work, state = self._work, self._pipeline.state
        running = work.lane.running()
        with self._open():
            current = state.roles.current()
            return Snapshot(
                pipeline=self.name,
                node=self._pipeline.node.name,
                version=__version__,
                pid=os.getpid(),
                started_at=self._since,
                role=work.role,
                since=None if current is None else current.at,
                reason=None if current is None else current.reason,
                problem=None if current is None else current.problem,
                epoch=state.identity.remembered().epoch,
                paused_since=state.roles.paused_since(),
                contact=snapshots.contact(self._watch.heard),
                running=None if running is None else Asked.of(running),
                queued=tuple(map(Asked.of, work.lane.queued())),
                last_start_failure=snapshots.failure(work.error(Duty.START)),
                last_push_failure=snapshots.failure(work.error(Duty.LOOK)),
                last_pull_failure=snapshots.failure(
                    work.error(Duty.POLL) or work.error(Duty.FIRST_PULL)
                ),
                next_push_at=work.next(Duty.LOOK),
                next_pull_at=work.next(Duty.POLL),
                warm=snapshots.warm(work.warm, work.polled),
                pulling=work.pulling,
                switching=snapshots.switching(state.handovers.current()),
            )

    def _require_no_switchover(self) -> None:
        handover = self._pipeline.state.handovers.current()
        if handover is not None:
            raise Refused(
                f"a switchover of pipeline '{self.name}' to node '{handover.node}' is under way",
                hint=f"ckptsync switchover --cancel {self.name}",
            )

    def cancel_switchover(self) -> None:
        """Raises NothingToDo if none is under way."""
        with self._open():
            if self._pipeline.state.handovers.current() is None:
                raise NothingToDo(f"no switchover of pipeline '{self.name}' is under way")
        self._work.take_back()

    def pause(self) -> None:
        with self._open():
            self._pipeline.state.roles.pause(self._pipeline.now())
        self._work.plan()

    def resume(self) -> None:
        with self._open():
            self._pipeline.state.roles.resume()
        self._work.plan()

    def stop(self) -> None:
        """End what is under way within a chunk; do not wait."""
        self._alarm.drop(self._key(""))
        self._work.stop()
        self._watching.stop()
        self._telling.stop()

    def join(self) -> None:
        """Wait until everything has ended."""
        for lane in (self._work.lane, self._watching, self._telling):
            lane.close()

    def release(self) -> None:
        """Let go of the pipeline: another process may have it. A second time does nothing."""
        with self._using:
            self._released = True
            self._opened.close()

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Keep the database open meanwhile, for threads that nobody waits for. Raises Busy."""
        with self._using:
            if self._released:
                raise Busy(
                    f"the daemon has just let go of pipeline '{self.name}'", hint="ask again"
                )
            yield

    def _lane(self, name: str, stop: threading.Event) -> Lane:
        return Lane(
            f"{name}-{self.name}",
            pipeline=self.name,
            interrupt=stop.set,
            ready=stop.clear,
            fail=self._fail,
            now=self._pipeline.now,
        )

    def _key(self, what: str) -> str:
        return f"{self.name}:{what}"

    def _ask_check(self) -> None:
        self._watching.submit("check", self._watch.check)

    def _ask_beat(self) -> None:
        self._watching.submit("beat", self._watch.beat)

    def _ask_another_beat(self) -> None:
        """What has changed, one that is under way may not tell."""
        self._watching.submit("beat", self._watch.beat, merge=False)

    def _role_changed(self, change: RoleChange) -> None:
        """Called in whatever thread changed it."""
        self._ask_another_beat()
        self._telling.submit(
            "tell",
            lambda _progress: announce(self._pipeline.hooks, change, stop=self._untold),
            merge=False,
        )
        self._changed()

    def _warm(self) -> CheckpointId | None:
        warm = self._work.warm
        return None if warm is None else warm.entry.id
