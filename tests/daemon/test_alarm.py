"""Calls at their time, whatever happens to the clock of the host."""

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from ckptsync.daemon.alarm import Alarm

PATIENCE = 30.0
"""Seconds until a test that hangs fails; none of them waits as long."""
YEARS = timedelta(days=3_650)
HOUR = 3_600.0


class Clocks:
    """Those of the host, and how far they are set apart from them."""

    def __init__(self) -> None:
        self.wall_ahead = timedelta()
        self.monotonic_ahead = 0.0
        self.wall_read = threading.Semaphore(0)

    def wall(self) -> datetime:
        self.wall_read.release()
        return datetime.now(UTC) + self.wall_ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.monotonic_ahead


class Bell:
    """Counts how often it was rung."""

    def __init__(self) -> None:
        self._rung = threading.Semaphore(0)
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self._rung.release()

    def heard(self, times: int = 1) -> bool:
        return all(self._rung.acquire(timeout=PATIENCE) for _ in range(times))


class Holding:
    """A call that does not return until it is told to."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> None:
        self.began.set()
        self.go.wait(PATIENCE)


def taken(key: str, alarm: Alarm) -> None:
    """Wait until APScheduler has handed an alarm over to the thread that makes the calls."""
    while alarm._scheduler.get_job(key) is not None:
        time.sleep(0.001)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def bugs() -> list[BaseException]:
    return []


@pytest.fixture
def alarm(
    clocks: Clocks, bugs: list[BaseException], caplog: pytest.LogCaptureFixture
) -> Iterator[Alarm]:
    """Not started yet. APScheduler must find nothing to complain of."""
    alarm = Alarm(bugs.append, wall=clocks.wall, monotonic=clocks.monotonic, chance=lambda: 0.5)
    yield alarm
    alarm.close()
    logged = caplog.get_records("call") + caplog.records
    assert [each for each in logged if each.levelno >= logging.WARNING] == []


def test_it_rings_once_and_forgets(alarm: Alarm, bell: Bell) -> None:
    alarm.start()
    alarm.at("push", 0.01, bell)
    assert bell.heard()

    alarm.at("last", 0, bell)
    assert bell.heard()
    assert (bell.count, alarm.next("push")) == (2, None)


def test_it_rings_again_and_again(alarm: Alarm, bell: Bell) -> None:
    alarm.start()
    alarm.every("fence", 0.001, bell)

    assert bell.heard(times=5)
    assert alarm.next("fence") is not None


def test_each_time_the_jitter_is_drawn_anew(bell: Bell, bugs: list[BaseException]) -> None:
    chances = iter([0.0, 1.0])
    alarm = Alarm(bugs.append, chance=lambda: next(chances))
    alarm.start()
    alarm.every("fence", 0.001, bell, jitter=HOUR)

    assert bell.heard()
    at = alarm.next("fence")
    alarm.close()

    assert at is not None
    assert at - datetime.now(UTC) > timedelta(seconds=HOUR - PATIENCE)
    assert bugs == []


def test_nothing_rings_before_the_start_and_then_what_is_due(alarm: Alarm, bell: Bell) -> None:
    later = Bell()
    alarm.at("push", 0, bell)
    alarm.at("pull", HOUR, later)
    assert bell.count == 0

    alarm.start()

    assert bell.heard()
    assert later.count == 0


def test_it_says_when_it_will_ring(alarm: Alarm, bell: Bell) -> None:
    before = datetime.now(UTC)
    alarm.at("push", HOUR, bell)
    alarm.every("fence", 10, bell, jitter=4)
    after = datetime.now(UTC) + timedelta(seconds=PATIENCE)

    for key, seconds in (("push", HOUR), ("fence", 10 + 4 * 0.5)):
        at = alarm.next(key)
        assert at is not None
        assert before <= at - timedelta(seconds=seconds) <= after
    assert alarm.next("nonesuch") is None


@pytest.mark.parametrize("seconds", [1e15, float("inf")])
def test_what_is_to_ring_at_the_end_of_time_harms_nothing(
    alarm: Alarm, bell: Bell, seconds: float
) -> None:
    alarm.at("never", seconds, bell)
    alarm.every("seldom", seconds, bell)
    alarm.start()
    alarm.at("now", -1, bell)

    assert bell.heard()
    assert alarm.next("never") is not None


def test_a_later_alarm_replaces_the_one_under_its_key(alarm: Alarm, bell: Bell) -> None:
    replaced = Bell()
    alarm.start()
    alarm.every("push", HOUR, replaced)
    alarm.at("push", HOUR, replaced)
    alarm.at("push", 0, bell)

    assert bell.heard()
    assert (replaced.count, alarm.next("push")) == (0, None)


def test_one_prefix_is_dropped_and_others_stay(alarm: Alarm, bell: Bell) -> None:
    dropped = Bell()
    alarm.at("orders/pull", 0, dropped)
    alarm.start()
    alarm.drop("orders/pull")
    alarm.every("orders/push", HOUR, bell)
    alarm.every("orders-eu/push", HOUR, bell)

    alarm.drop("orders/")
    alarm.drop("nonesuch")

    assert alarm.next("orders/push") is None
    assert alarm.next("orders-eu/push") is not None


def test_what_is_dropped_while_another_call_holds_it_up_does_not_ring(
    alarm: Alarm, bell: Bell
) -> None:
    holding, dropped = Holding(), Bell()
    alarm.start()
    alarm.at("holding", 0, holding)
    assert holding.began.wait(PATIENCE)
    for key in ("dropped", "replaced"):
        alarm.at(key, 0, dropped)
        taken(key, alarm)

    alarm.drop("dropped")
    alarm.at("replaced", 0, bell)
    holding.go.set()

    assert bell.heard()
    assert dropped.count == 0


def test_a_call_that_sets_its_own_alarm_is_never_skipped(alarm: Alarm, bell: Bell) -> None:
    def again() -> None:
        bell()
        if bell.count < 50:
            alarm.at("push", 0, again)
            taken("push", alarm)

    alarm.start()
    alarm.at("push", 0, again)

    assert bell.heard(times=50)


def test_a_call_that_takes_long_delays_others_and_drops_none(alarm: Alarm, bell: Bell) -> None:
    holding, ticking = Holding(), Bell()
    alarm.start()
    alarm.every("ticking", 0.001, ticking)
    assert ticking.heard()
    alarm.at("holding", 0, holding)
    assert holding.began.wait(PATIENCE)
    before = ticking.count
    for number in range(20):
        alarm.at(f"late-{number}", 0, bell)
        alarm.check()
    holding.go.set()

    assert bell.heard(times=20)
    assert ticking.heard(times=before + 5)


def test_after_the_clock_jumped_back_by_ten_years_it_rings_as_before(
    alarm: Alarm, clocks: Clocks, bell: Bell
) -> None:
    ticking = Bell()
    clocks.wall_ahead = YEARS
    alarm.start()
    alarm.at("push", 0.001, bell)
    alarm.every("fence", 0.001, ticking)

    clocks.wall_ahead = timedelta()
    with structlog.testing.capture_logs() as logged:
        alarm.check()
        alarm.check()

    assert bell.heard()
    assert ticking.heard(times=3)
    assert [entry["event"] for entry in logged] == ["clock.jumped"]
    assert logged[0]["seconds"] == pytest.approx(-YEARS.total_seconds(), abs=PATIENCE)


def test_after_the_clock_jumped_ahead_nothing_rings_too_early(
    alarm: Alarm, clocks: Clocks, bell: Bell
) -> None:
    clocks.wall_ahead = -YEARS  # so that for APScheduler, which reads the real one, it is overdue
    alarm.at("push", HOUR, bell)
    alarm.start()
    for _ in range(2 + 3):  # by the start, and then whenever it is woken too early
        assert clocks.wall_read.acquire(timeout=PATIENCE)
    clocks.wall_ahead = timedelta()
    other = Bell()
    alarm.at("other", 0, other)
    assert other.heard()
    assert bell.count == 0

    clocks.monotonic_ahead = HOUR
    alarm.check()

    assert bell.heard()


def test_small_steps_of_the_clock_are_let_be_until_they_add_up(
    alarm: Alarm, clocks: Clocks
) -> None:
    alarm.start()
    told = []
    for _ in range(3):
        clocks.wall_ahead += timedelta(seconds=0.9)
        with structlog.testing.capture_logs() as logged:
            alarm.check()
        told.append(len(logged))

    assert told == [0, 0, 1]


@pytest.mark.parametrize("bug", [KeyError("x"), SystemExit(3)])
def test_what_a_call_raises_is_handed_on_and_the_clock_goes_on(
    alarm: Alarm, bell: Bell, bugs: list[BaseException], bug: BaseException
) -> None:
    def broken() -> None:
        bell()
        raise bug

    alarm.start()
    alarm.every("broken", 0.001, broken)

    assert bell.heard(times=3)
    alarm.close()
    assert bugs == [bug] * bell.count


def test_a_clock_that_stands_still_is_told_of_once(
    alarm: Alarm, clocks: Clocks, bugs: list[BaseException], bell: Bell
) -> None:
    holding = Holding()
    alarm.start()
    alarm.at("holding", 0, holding)
    assert holding.began.wait(PATIENCE)
    alarm.at("push", 0, bell)
    clocks.monotonic_ahead += HOUR
    for _ in range(59):
        alarm.check()
    assert bugs == []

    alarm.check()
    alarm.check()

    assert [str(bug) for bug in bugs] == ["alarms do not ring: push"]
    holding.go.set()
    assert bell.heard()


def test_a_process_that_was_frozen_catches_up(
    alarm: Alarm, clocks: Clocks, bugs: list[BaseException], bell: Bell
) -> None:
    holding = Holding()
    alarm.start()
    for _ in range(3):
        alarm.at("holding", 0, holding)
        assert holding.began.wait(PATIENCE)
        alarm.at("push", 0, bell)
        clocks.monotonic_ahead += HOUR
        for _ in range(30):
            alarm.check()
        holding.go.set()
        assert bell.heard()
        alarm.check()
        holding.began.clear()
        holding.go.clear()

    assert bugs == []


def test_closing_waits_for_a_call_that_sets_alarms_and_does_not_deadlock(
    alarm: Alarm, bell: Bell
) -> None:
    holding = Holding()

    def call() -> None:
        holding()
        alarm.at("push", 0, bell)
        alarm.every("fence", 0.001, bell)
        alarm.drop("fence")
        alarm.check()
        assert alarm.next("push") is None

    alarm.start()
    alarm.at("other", HOUR, bell)
    alarm.at("call", 0, call)
    assert holding.began.wait(PATIENCE)
    closer = threading.Thread(target=alarm.close, daemon=True)
    closer.start()
    while alarm._scheduler.running:
        time.sleep(0.001)
    assert closer.is_alive()
    holding.go.set()
    closer.join(PATIENCE)

    assert not closer.is_alive()
    assert bell.count == 0


def test_after_closing_nothing_rings(alarm: Alarm, bell: Bell) -> None:
    alarm.start()
    alarm.every("fence", 0.001, bell)
    assert bell.heard()
    alarm.close()
    count = bell.count

    alarm.at("push", 0, bell)
    alarm.check()
    alarm.close()

    assert alarm.next("push") is None
    assert alarm.next("fence") is None
    assert bell.count == count


def test_one_that_was_never_started_can_be_checked_and_closed(alarm: Alarm, bell: Bell) -> None:
    alarm.at("push", 0, bell)
    with structlog.testing.capture_logs() as logged:
        alarm.check()
    alarm.close()

    assert logged == []
    assert bell.count == 0


def test_many_threads_may_set_and_drop_alarms_at_once(alarm: Alarm, bell: Bell) -> None:
    alarm.start()

    def act(name: str) -> None:
        for number in range(50):
            alarm.at(f"{name}/{number % 5}", 0, Bell())
            alarm.every(f"{name}/fence", 0.001, Bell())
            alarm.check()
            alarm.drop(f"{name}/")
        alarm.at(name, 0, bell)

    threads = [threading.Thread(target=act, args=(name,)) for name in ("a", "b", "c", "d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert bell.heard(times=4)
