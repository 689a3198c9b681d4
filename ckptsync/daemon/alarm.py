"""The alarm clock, and the one door to APScheduler."""

import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

log = structlog.get_logger()

_LONGEST: Final = 100 * 365 * 86_400.0  # seconds; much later there is no date to write it as
_JUMP: Final = 2.0  # seconds; slower corrections of the wall clock do no harm
_LATE: Final = 5.0  # seconds
_LATE_CHECKS: Final = 60


@dataclass(slots=True, kw_only=True, eq=False)
class _Entry:
    key: str
    call: Callable[[], object]
    due: float
    """On the monotonic clock."""
    every: float | None
    jitter: float


class Alarm:
    """Makes calls at their time, one after the other, in a thread of its own.

    They must be short: one that takes long delays the others. What a call raises is a bug, and
    goes to `fail`. Safe to share between threads.

    APScheduler waits for a time of day, so every alarm is kept with its time on the monotonic
    clock too, and `check` sets them anew after the time of day has jumped.
    """

    def __init__(
        self,
        fail: Callable[[BaseException], None],
        *,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`wall` is aware. Nothing rings before `start`."""
        self._fail = fail
        self._wall = wall
        self._monotonic = monotonic
        self._chance = chance
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._closed = False
        self._apart = 0.0
        self._late = 0
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(1, {"thread_name_prefix": "alarm"})},
            job_defaults={
                "misfire_grace_time": None,  # the default, 1 s, drops late calls
                # One thread makes all calls, so two of a key come one after the other; the
                # default, 1, would drop the second.
                "max_instances": sys.maxsize,
            },
            timezone=UTC,
        )

    def at(self, key: str, seconds_from_now: float, call: Callable[[], object]) -> None:
        """Call once. It replaces the alarm under that key; after `close` it does nothing."""
        self._set(key, call, seconds_from_now, every=None, jitter=0.0)

    def every(
        self, key: str, seconds: float, call: Callable[[], object], *, jitter: float = 0.0
    ) -> None:
        """Call again and again, first after that time, and each time up to `jitter` s later.

        It replaces the alarm under that key; after `close` it does nothing.
        """
        self._set(key, call, seconds + jitter * self._chance(), every=seconds, jitter=jitter)

    def drop(self, prefix: str) -> None:
        """Forget the alarms whose keys begin so; a call that has begun goes on."""
        with self._lock:
            for key in [key for key in self._entries if key.startswith(prefix)]:
                del self._entries[key]
                with suppress(JobLookupError):  # it is about to ring, and will find no entry
                    self._scheduler.remove_job(key)

    def next(self, key: str) -> datetime | None:
        """When it will ring, by the wall clock of now; None if there is no such alarm."""
        with self._lock:
            entry = self._entries.get(key)
            return None if entry is None else self._time_of_day(entry)

    def start(self) -> None:
        with self._lock:
            self._scheduler.start()
            self._set_anew()

    def check(self) -> None:
        """Call it every second: it notices jumps of the wall clock, and calls that do not happen.

        A clock that stands still is a bug, and goes to `fail`.
        """
        with self._lock:
            if not self._scheduler.running:
                return
            jumped = self._clocks_apart() - self._apart
            if abs(jumped) > _JUMP:
                self._set_anew()
            # Counted in checks: after a process was frozen it is late too, but not for many.
            limit = self._monotonic() - _LATE
            overdue = [key for key, entry in self._entries.items() if entry.due < limit]
            self._late = self._late + 1 if overdue else 0
            stuck = self._late == _LATE_CHECKS
        if abs(jumped) > _JUMP:
            log.warning("clock.jumped", seconds=round(jumped, 1))
        if stuck:
            self._fail(RuntimeError(f"alarms do not ring: {', '.join(overdue)}"))

    def close(self) -> None:
        """Ring no more, and wait for a call that has begun. Not from within a call."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._entries.clear()
            started: bool = self._scheduler.running
            if started:
                # APScheduler's thread dies with a traceback if a job is due at the shutdown.
                self._scheduler.remove_all_jobs()
        if started:
            # Adding a job meanwhile would deadlock; nobody does once `_closed` is set.
            self._scheduler.shutdown(wait=True)

    def _set(
        self,
        key: str,
        call: Callable[[], object],
        seconds: float,
        *,
        every: float | None,
        jitter: float,
    ) -> None:
        with self._lock:
            if not self._closed:
                due = self._monotonic() + min(max(0.0, seconds), _LONGEST)
                entry = _Entry(key=key, call=call, due=due, every=every, jitter=jitter)
                self._entries[key] = entry
                self._schedule(entry)

    def _set_anew(self) -> None:
        self._apart = self._clocks_apart()
        for entry in self._entries.values():
            self._schedule(entry)

    def _schedule(self, entry: _Entry) -> None:
        if self._scheduler.running:
            self._scheduler.add_job(
                self._ring,
                DateTrigger(self._time_of_day(entry), timezone=UTC),
                args=(entry,),
                id=entry.key,
                replace_existing=True,
            )

    def _time_of_day(self, entry: _Entry) -> datetime:
        left = entry.due - self._monotonic()
        return self._wall() + timedelta(seconds=left)

    def _clocks_apart(self) -> float:
        return self._wall().timestamp() - self._monotonic()

    def _ring(self, entry: _Entry) -> None:
        try:
            if self._is_due(entry):
                entry.call()
        except BaseException as bug:  # noqa: BLE001 - APScheduler would swallow even SystemExit
            self._fail(bug)

    def _is_due(self, entry: _Entry) -> bool:
        """Whether to call now; what comes after that is set."""
        with self._lock:
            if self._entries.get(entry.key) is not entry:
                return False  # dropped or replaced when it was about to ring
            now = self._monotonic()
            if now < entry.due:  # the wall clock jumped ahead
                self._schedule(entry)
                return False
            if entry.every is None:
                del self._entries[entry.key]
            else:
                entry.due = now + entry.every + entry.jitter * self._chance()
                self._schedule(entry)
            return True
