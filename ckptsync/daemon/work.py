"""The work on one pipeline: what it is asked for and what is its duty, one thing at a time."""

import random
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from ckptsync.daemon.alarm import Alarm
from ckptsync.daemon.duties import Duties, standing
from ckptsync.daemon.duty import Duty, Pace, duty_of, seconds_until
from ckptsync.daemon.lane import Lane
from ckptsync.daemon.request import Request
from ckptsync.daemon.tally import Tally
from ckptsync.errors import (
    Cancelled,
    CkptsyncError,
    HeadLost,
    IntegrityError,
    PrimaryActive,
    Refused,
    RollbackDetected,
    StoreError,
    UnfitStore,
    UnsupportedFormat,
)
from ckptsync.model import CheckpointId, Progress, Role
from ckptsync.operations import fence
from ckptsync.operations.carry_out import carry_out, follow_up
from ckptsync.operations.orders import Activate, Order, Push, Switchover, kind
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import role_after, role_of
from ckptsync.operations.standby import Poll, Standby
from ckptsync.operations.warm import WarmCheckpoint

log = structlog.get_logger()

_DUTIES: Final = {Push: Duty.LOOK, Activate: Duty.ACTIVATE}
"""The duty that an order is another way to do."""
_FINAL: Final = (IntegrityError, PrimaryActive, UnfitStore, UnsupportedFormat)
"""With what makes a primary stop: errors of a start that trying again does not mend."""
_AS_PRIMARY: Final = (Push, Switchover)
"""What swaps head without being a way out of whatever keeps this node from starting."""
_PLAN_AGAIN: Final = 5.0  # seconds


class Work:
    """In a thread of its own. Safe to share between threads."""

    def __init__(
        self,
        pipeline: Pipeline,
        pace: Pace,
        alarm: Alarm,
        *,
        answered: Callable[[CkptsyncError | None], None],
        changed: Callable[[], None],
        held: Callable[[], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """Nothing is done before `begin`.

        `answered` is told how the bucket did, `changed` that a start has come to an end; `held`
        that this node has started, or holds another checkpoint.
        """
        self._pipeline = pipeline
        self._pace = pace
        self._alarm = alarm
        self._answered = answered
        self._changed = changed
        self._held = held
        self._key = f"{pipeline.node.pipeline}:duty"
        pushed = pipeline.state.history.last_success("push")
        self._tally = Tally(pushed_at=None if pushed is None else pushed.finished_at)
        self._standby = Standby(pipeline)
        self._withdraw = threading.Event()
        self._duties = Duties(pipeline, self._standby, self._withdraw)
        self._started = False
        self._told_of: CheckpointId | None = None
        self._planning = threading.Lock()
        self._planned: Duty | None = None
        self._closing = False
        self.lane: Final = Lane(
            f"work-{pipeline.node.pipeline}",
            pipeline=pipeline.node.pipeline,
            interrupt=pipeline.stop.set,
            ready=pipeline.stop.clear,
            fail=fail,
            now=pipeline.now,
        )

    @property
    def role(self) -> Role:
        return Role.STOPPED if self.gave_up is not None else role_of(self._pipeline)

    @property
    def started(self) -> bool:
        """Whether this node has found out what it is."""
        return self._started

    @property
    def begun(self) -> bool:
        """Whether the first start and the first try of its pull have ended, well or badly."""
        if not self._started:
            return self._tally.error(Duty.START) is not None
        due = self._duties.first_pull_due
        return not due or self._tally.error(Duty.FIRST_PULL) is not None

    @property
    def at_work(self) -> bool:
        """Whether the bucket is known to be this node's, even if it cannot be written now."""
        return self._started or isinstance(self.gave_up, RollbackDetected | HeadLost)

    @property
    def gave_up(self) -> CkptsyncError | None:
        """Why it cannot start, if trying again does not mend that."""
        error = self._tally.error(Duty.START)
        if error is None:
            return None
        if role_after(error) is Role.STOPPED:
            return error
        if isinstance(error, IntegrityError) and self._tally.attempts(Duty.START).failures == 1:
            return None  # a damaged answer is believed once a second one was damaged, too
        return error if isinstance(error, _FINAL) else None

    @property
    def warm(self) -> WarmCheckpoint | None:
        """The newest checkpoint that a standby holds."""
        return self._standby.warm

    @property
    def pulling(self) -> CheckpointId | None:
        return self._standby.pulling

    @property
    def polled(self) -> Poll | None:
        """What the last poll found."""
        return self._duties.polled

    def error(self, duty: Duty) -> CkptsyncError | None:
        """Why it could not be done the last time."""
        return self._tally.error(duty)

    def next(self, duty: Duty) -> datetime | None:
        """When it will be done; None if something else will be, or is now."""
        return self._alarm.next(self._key) if self._planned is duty else None

    def begin(self) -> None:
        self._plan()

    def submit(self, order: Order, *, id: str | None = None, duty: bool = False) -> Request:
        """Ask for something; what is the same and under way is joined, not done twice.

        As a `duty` it is done of our own accord, so every failure makes the next try wait.

        An activation is known by its own request; once it has ended, how that is now is found
        out by asking for it again.
        """
        if isinstance(order, Activate):
            before = self.lane.find(order.request)
            ended = before is not None and before.snapshot().finished_at is not None
            id = None if ended else order.request
        return self.lane.submit(
            kind(order),
            lambda progress: self._carry_out(order, progress, duty=duty),
            id=id,
            merge=_is_plain(order),
            urgent=isinstance(order, Activate) and self._is_wanting(),
        )

    def _is_wanting(self) -> bool:
        """Whether an activation is worth more than what runs: not to who writes already."""
        return not self._closing and self.role not in (Role.PRIMARY, Role.RELEASED)

    def plan(self) -> None:
        """What may be due has changed."""
        # One that is running may have read what held before.
        self.lane.submit("plan", lambda _progress: self._plan(), merge=False)

    def go_on(self) -> None:
        """The bucket answers again: what failed because it did not is due."""
        self._tally.forgive(StoreError)
        self.plan()

    def start_anew(self) -> None:
        """What this node was stopped for is over: find out once more what it is."""
        self.lane.submit("recover", lambda _progress: self._recover())

    def _recover(self) -> None:
        self._started = False
        self._tally.forget(Duty.START)
        self._plan()

    def look_into(self, trouble: CkptsyncError) -> None:
        """Head says that this node is not its writer: what runs is in vain."""
        self.lane.submit("settle", lambda _progress: self._settle(trouble), urgent=True)

    def take_back(self) -> None:
        """Withdraw a switchover, if the other node has not taken over yet."""
        self._withdraw.set()

    def stop(self) -> None:
        """End what is under way within a chunk; do not wait."""
        with self._planning:
            self._closing = True
            self._alarm.drop(self._key)
        self.lane.stop()

    def _plan(self) -> None:
        """Set the alarm for the next duty, if there is one."""
        with self._planning:
            try:
                duty = None if self._closing else self._duty_now()
            except CkptsyncError as error:
                log.error("duty.unknown", error=str(error))
                self._alarm.at(self._key, _PLAN_AGAIN, self.plan)
                return
            self._planned = duty
            if duty is None:
                self._alarm.drop(self._key)
            else:
                self._alarm.at(self._key, self._seconds_until(duty), lambda: self._do(duty))

    def _duty_now(self) -> Duty | None:
        role = self.role if self._started or self.gave_up is not None else None
        now = standing(
            self._pipeline,
            role,
            activation_failure=self._tally.error(Duty.ACTIVATE),
            first_pull_due=self._duties.first_pull_due,
        )
        return duty_of(now, self._pace)

    def _seconds_until(self, duty: Duty) -> float:
        return seconds_until(
            duty,
            self._tally.attempts(duty),
            self._pace,
            now=self._pipeline.now(),
            chance=random.random(),  # noqa: S311 - spreads load, guards nothing
        )

    def _do(self, duty: Duty) -> None:
        self.lane.submit(duty, lambda progress: self._duty(duty, progress))

    def _duty(self, duty: Duty, progress: Progress) -> None:
        follows: Order | None = None
        try:
            if duty is not self._duty_now():
                return  # the role changed since the alarm was set
            follows = self._duties.do(duty, progress)
            if follows is None or duty is Duty.POLL:
                self._succeeded(duty)
            if duty is Duty.POLL and self._seconds_until(Duty.ACTIVATE):
                follows = None  # it was tried a while ago, and failed
        except Cancelled:
            raise
        except CkptsyncError as error:
            if self._failed(duty, error):
                log.error("duty.failed", duty=str(duty), error=str(error), hint=error.hint)
        finally:
            if (
                follows is None
                or self.submit(follows, duty=True).snapshot().finished_at is not None
            ):
                self._plan()  # else it is done at the end of what follows

    def _carry_out(self, order: Order, progress: Progress, *, duty: bool) -> object:
        attempted = _DUTIES.get(type(order))
        try:
            if isinstance(order, _AS_PRIMARY) and not self._started:
                self._start(progress)
            if isinstance(order, Switchover):
                self._withdraw.clear()
            document = carry_out(
                self._pipeline,
                order,
                standby=self._standby,
                withdraw=self._withdraw,
                progress=progress,
            )
        except Cancelled:
            raise
        except CkptsyncError as error:
            if attempted is not None and (duty or _would_fail_again(order, error)):
                self._failed(attempted, error)
            raise
        else:
            if attempted is not None:
                self._succeeded(attempted, moved=True)
            if self.role is Role.STOPPED:
                self._recover()  # a way out may have been taken
            after = follow_up(order, document)
            if after is not None:
                self.submit(after)
            return document
        finally:
            self._plan()

    def _start(self, progress: Progress) -> None:
        """Find out what this node is, for an order that would write in its name."""
        try:
            self._duties.do(Duty.START, progress)
        except Cancelled:
            raise
        except CkptsyncError as error:
            self._failed(Duty.START, error)
            raise
        self._succeeded(Duty.START)

    def _settle(self, trouble: CkptsyncError) -> None:
        """Take the role that it asks for."""
        try:
            fence.settle(self._pipeline, trouble)
            if role_of(self._pipeline) is Role.FENCED and self.gave_up is not None:
                self._succeeded(Duty.START)  # it has found out what it is after all
        except Cancelled:
            raise
        except CkptsyncError as unclear:
            log.warning("fence.unchecked", error=str(unclear))  # the next check settles it
        finally:
            self._plan()

    def _succeeded(self, duty: Duty, *, moved: bool = False) -> None:
        failures = self._tally.succeeded(duty, self._pipeline.now(), moved=moved)
        if failures:
            log.info("duty.recovered", duty=str(duty), failures=failures)
        if moved or duty in (Duty.POLL, Duty.RECONNECT):
            self._answered(None)
        if duty is Duty.START:
            self._started = True
            self._changed()
        warm = None if self.warm is None else self.warm.entry.id
        if duty is Duty.START or warm != self._told_of:
            self._told_of = warm
            self._held()

    def _failed(self, duty: Duty, error: CkptsyncError) -> bool:
        """Whether that is news."""
        news = self._tally.failed(duty, error, self._pipeline.now())
        if isinstance(error, StoreError):
            self._answered(error)
        if duty is Duty.START:
            self._changed()
        return news


def _would_fail_again(order: Order, error: CkptsyncError) -> bool:
    """Whether the daemon would fail like that by itself: not for what somebody mistyped."""
    if isinstance(order, Activate):
        return not isinstance(error, Refused)
    return order == Push()


def _is_plain(order: Order) -> bool:
    """Whether nothing is insisted on, so that another one like it does as well."""
    if not isinstance(order, Activate):
        return order == Push()
    return not (order.force or order.detach_replica or order.engine_stopped)
