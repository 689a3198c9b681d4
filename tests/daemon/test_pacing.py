"""When the next push or poll is due."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.daemon.pacing import Attempts, backoff, seconds_to_poll, seconds_to_push

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CEILING = 300.0

Due = Callable[..., float]

times = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - what hypothesis wants
maybe_times = st.none() | times
attempts = st.builds(
    Attempts,
    ended_at=maybe_times,
    succeeded_at=maybe_times,
    failures=st.integers(0, 10_000),
)
intervals = st.timedeltas(timedelta(milliseconds=1), timedelta.max)
chances = st.floats(0, 1)
both = st.sampled_from([seconds_to_push, seconds_to_poll])


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def push(attempts: Attempts, interval: float = 300, chance: float = 1) -> float:
    return seconds_to_push(attempts, timedelta(seconds=interval), now=NOW, chance=chance)


def poll(attempts: Attempts, interval: float = 10, chance: float = 1) -> float:
    return seconds_to_poll(attempts, timedelta(seconds=interval), now=NOW, chance=chance)


@pytest.mark.parametrize("due", [push, poll])
def test_what_was_never_tried_is_due(due: Due) -> None:
    assert due(Attempts()) == 0


@pytest.mark.parametrize(("due", "left"), [(push, 200), (poll, 0)])
def test_the_interval_counts_from_the_end_of_the_last_success(due: Due, left: float) -> None:
    assert due(Attempts().succeeded(ago(100))) == left


def test_a_poll_that_found_nothing_is_a_poll() -> None:
    assert poll(Attempts().succeeded(ago(100)).found_nothing(ago(4))) == 6


@pytest.mark.parametrize(("interval", "left"), [(300, 5), (2, 2)])
def test_a_push_that_found_nothing_looks_again_soon(interval: float, left: float) -> None:
    found_nothing = Attempts().succeeded(ago(1_000)).found_nothing(NOW)

    assert push(found_nothing, interval) == left


def test_a_push_by_hand_that_found_nothing_does_not_hasten_the_next() -> None:
    assert push(Attempts().succeeded(ago(100)).found_nothing(ago(1))) == 200


@pytest.mark.parametrize("due", [push, poll])
def test_failures_are_tried_again_later_and_later(due: Due) -> None:
    waits = []
    attempts = Attempts().succeeded(ago(1))
    for _ in range(11):
        attempts = attempts.failed(NOW)
        waits.append(due(attempts))

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


@pytest.mark.parametrize("due", [push, poll])
def test_whatever_does_not_fail_ends_the_back_off(due: Due) -> None:
    failed = Attempts().failed(NOW).failed(NOW)

    assert due(failed.found_nothing(NOW)) == due(Attempts(ended_at=NOW))
    assert due(failed.succeeded(NOW)) == due(Attempts(ended_at=NOW, succeeded_at=NOW))
    assert due(failed.found_nothing(NOW).failed(NOW)) == 1


def test_a_failure_does_not_hide_when_the_last_push_was() -> None:
    pushed = Attempts().succeeded(ago(100)).failed(ago(90)).found_nothing(ago(80))

    assert push(pushed) == 200


@pytest.mark.parametrize("due", [push, poll])
def test_a_success_in_the_future_counts_as_now(due: Due) -> None:
    assert due(Attempts().succeeded(ago(-1e9)), 20) == 20
    assert due(Attempts().failed(ago(-1e9)), 20) == 1


@given(both, attempts, intervals, times, chances)
def test_it_is_never_negative_and_never_later_than_the_interval_or_the_ceiling(
    due: Due, attempts: Attempts, interval: timedelta, now: datetime, chance: float
) -> None:
    seconds = due(attempts, interval, now=now, chance=chance)

    limit = CEILING if attempts.failures else interval.total_seconds()
    assert 0 <= seconds <= limit
    assert seconds == due(attempts, interval, now=now, chance=chance)


@given(both, attempts, intervals, times, chances)
def test_after_a_failure_there_is_always_a_pause(
    due: Due, attempts: Attempts, interval: timedelta, now: datetime, chance: float
) -> None:
    assert due(attempts.failed(now), interval, now=now, chance=chance) >= 0.5


@given(both, attempts, intervals, times, chances)
def test_after_anything_else_there_is_a_pause_as_long_as_the_interval_or_five_seconds(
    due: Due, attempts: Attempts, interval: timedelta, now: datetime, chance: float
) -> None:
    for ended in (attempts.succeeded(now), attempts.found_nothing(now)):
        pause = min(interval.total_seconds(), 5)
        assert due(ended, interval, now=now, chance=chance) >= pause


@given(both, attempts, intervals, times, chances, st.floats(0, 1e6))
def test_it_comes_nearer_as_time_goes_by(
    due: Due,
    attempts: Attempts,
    interval: timedelta,
    now: datetime,
    chance: float,
    passed: float,
) -> None:
    later = now + timedelta(seconds=passed)

    before = due(attempts, interval, now=now, chance=chance)
    assert due(attempts, interval, now=later, chance=chance) <= before


@given(st.integers(1, 10_000), chances)
def test_a_back_off_is_between_half_and_the_whole_of_what_it_may_be(
    failures: int, chance: float
) -> None:
    whole = backoff(failures, chance=1)

    assert whole == min(2.0 ** min(failures - 1, 20), CEILING)
    assert whole / 2 <= backoff(failures, chance=chance) <= whole
    assert backoff(failures, chance=0) == whole / 2
