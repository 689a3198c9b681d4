"""What a bucket holds in the long run is what its retention leaves there, never less."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptsync.config.forecast import Forecast, Sizes, at_least, forecast
from ckptsync.config.leaner import Leaner, leaner
from ckptsync.config.model import Pipeline, Retention, Sync

GIB: Final = 1 << 30
LARGE: Final = Sizes(whole=100 * GIB, new=2 * GIB)


def a_pipeline(**sync: Any) -> Pipeline:
    whole = {"bucket": "s3://dr/orders", "push_interval": "5m", **sync}
    return Pipeline.model_validate({"storage_path": "/srv/orders", "sync": whole})


def forecasted(sizes: Sizes = LARGE, *, standbys: int = 1, **sync: Any) -> Forecast:
    found = forecast(a_pipeline(**sync), sizes, standbys=standbys)
    assert found is not None
    return found


def suggested(sizes: Sizes = LARGE, **sync: Any) -> Leaner | None:
    return leaner(a_pipeline(**sync), sizes, standbys=1)


@pytest.mark.parametrize(
    ("sync", "checkpoints", "retired"),
    [
        ({}, 8_640, 288),
        ({"push_interval": "1h", "retention_min_age": 1}, 24, 24),
        ({"push_interval": "7h", "retention_min_age": 1}, 10, 4),
        ({"push_interval": "7h", "retention_min_age": 1, "retention_min_count": 0}, 4, 4),
        ({"retention_min_age": 0, "retention_min_count": 0}, 1, 288),
        ({"retention_min_age": 0, "retention_min_count": 25}, 25, 288),
        ({"push_interval": "3d"}, 10, 1),
        # Days that lie within the 30 days are kept anyway.
        ({"retention": {"daily": 30}}, 8_640, 288),
        ({"retention_min_age": 7, "retention": {"daily": 30}}, 2_016 + 23, 288),
        ({"retention_min_age": 1, "retention": {"daily": 7, "weekly": 4}}, 288 + 6 + 3, 288),
        # Periods longer than a push is away have one checkpoint each, at most.
        ({"push_interval": "1d", "retention": {"hourly": 40}}, 40, 1),
    ],
)
def test_the_long_run_of_ordinary_settings(
    sync: dict[str, Any], checkpoints: int, retired: int
) -> None:
    found = forecasted(**sync)

    assert (found.checkpoints, found.retired) == (checkpoints, retired)


_PERIODS: Final[dict[str, Callable[[datetime], object]]] = {
    "hourly": lambda at: (at.date(), at.hour),
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
}


def left(sync: Sync, every: timedelta, now: datetime) -> int:
    """How many of all pushes of two years the rules leave, counted one by one."""
    pushes = [now - number * every for number in range(timedelta(days=730) // every)]
    kept = set(pushes[: at_least(sync)])
    kept |= {at for at in pushes if now - at < sync.retention_min_age}
    for name, period in _PERIODS.items():
        newest: dict[object, datetime] = {}
        for at in pushes:
            newest.setdefault(period(at), at)
        kept |= set(list(newest.values())[: getattr(sync.retention, name)])
    return len(kept)


@settings(max_examples=100, deadline=None)
@given(
    every=st.integers(60, 4_000).map(lambda minutes: timedelta(minutes=minutes)),
    age=st.integers(0, 40 * 24).map(lambda hours: timedelta(hours=hours)),
    count=st.integers(0, 50),
    retention=st.builds(
        Retention,
        hourly=st.integers(0, 60),
        daily=st.integers(0, 40),
        weekly=st.integers(0, 12),
        monthly=st.integers(0, 12),
    ),
    now=st.integers(0, 1_500_000).map(
        lambda minutes: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    ),
)
def test_no_retention_leaves_more_than_is_foretold_nor_much_less(
    every: timedelta, age: timedelta, count: int, retention: Retention, now: datetime
) -> None:
    sync = {"push_interval": every, "retention_min_age": age, "retention_min_count": count}
    pipeline = a_pipeline(**sync, retention=retention)
    found = forecast(pipeline, LARGE, standbys=1)
    assert found is not None

    actual = left(pipeline.sync, every, now)

    # Where a month and a week end on one day, they share a checkpoint.
    assert actual <= found.checkpoints <= actual + 4 + min(retention.weekly, retention.monthly)


def test_every_checkpoint_beyond_the_first_costs_what_is_new_in_it() -> None:
    found = forecasted(Sizes(whole=1_000, new=10), retention_min_age=0, push_interval="12h")

    assert (found.checkpoints, found.retired) == (10, 2)
    assert found.bytes == 1_000 + 11 * 10


def test_one_that_is_kept_of_a_day_holds_what_was_new_in_all_of_it() -> None:
    daily: dict[str, Any] = {
        "retention_min_age": 0,
        "push_interval": "12h",
        "retention": {"daily": 8},
    }

    # The ten newest reach back into a fifth day.
    assert forecasted(Sizes(whole=1_000, new=10), **daily).bytes == 1_000 + 11 * 10 + 3 * 20
    assert forecasted(Sizes(whole=12, new=10), **daily).bytes == 12 + 11 * 10 + 3 * 12


def test_a_leaner_retention_never_takes_more_room() -> None:
    whole = forecasted()
    lean = forecasted(retention_min_age=7, retention={"daily": 30})

    assert lean.bytes < whole.bytes


def test_the_requests_of_a_month_are_told_by_what_they_are_for() -> None:
    found = forecasted(
        Sizes(whole=1 << 30, new=64 << 20),
        standbys=2,
        push_interval="1h",
        retention_min_age=1,
        fence_check_interval="1m",
        pull_interval="30s",
    )
    told = {name: (each.writes, each.reads) for name, each in found.requests.items()}

    # 720 pushes of two chunks and a pack; 24 checkpoints and as many retired ones: one list a day.
    assert told == {
        "pushes": (720 * 5, 720 * 3),
        "retention": (720 * 2, 720 * 4),
        "sweeps": (720 * 2 + 30, 720),
        "heartbeats": (259_200 * 3, 0),
        "checks": (0, 43_200),
        "standbys": (0, 2 * (86_400 + 720 * 4)),
    }
    assert found.total.writes == sum(writes for writes, _ in told.values())
    assert found.total.reads == sum(reads for _, reads in told.values())


def test_with_catalog_pages_retention_writes_them_anew() -> None:
    few = forecasted(push_interval="1h", retention_min_age=20).requests["retention"]
    many = forecasted(push_interval="1h", retention_min_age=30).requests["retention"]

    assert (many.writes - few.writes, many.reads - few.reads) == (2 * 720, 2 * 720)


def test_a_directory_is_asked_nothing_that_anybody_counts() -> None:
    assert forecasted(bucket="file:///mnt/dr").requests == {}


@pytest.mark.parametrize(
    "sync",
    [
        {"retention_min_age": 999_999_999, "push_interval": "1s"},
        {"push_interval": "999999999d", "retention": {"monthly": 10_000}},
        {"retention_min_count": 2**32 - 1, "push_interval": "999999999d"},
    ],
)
def test_no_setting_is_too_large_to_be_foretold(sync: dict[str, Any]) -> None:
    assert forecasted(**sync).bytes > 0
    suggested(**sync)


def test_without_a_push_interval_nothing_is_foretold() -> None:
    pipeline = a_pipeline(push_interval=None)

    assert forecast(pipeline, LARGE, standbys=1) is None
    assert leaner(pipeline, LARGE, standbys=1) is None


@pytest.mark.parametrize(
    ("sync", "settings"),
    [
        ({}, {"retention_min_age": "7", "retention": "{ daily = 30 }"}),
        (
            {"retention": {"daily": 20, "weekly": 52}},
            {"retention_min_age": "7", "retention": "{ daily = 30, weekly = 52 }"},
        ),
        (
            {"retention_min_age": "4d", "retention": {"daily": 4}},
            {"retention_min_age": "1"},
        ),
        (
            {"push_interval": "1s"},
            {"retention_min_age": '"1h"', "retention": "{ hourly = 24, daily = 30 }"},
        ),
        (
            {"retention_min_count": 5_000, "retention_min_age": 1},
            {"retention_min_count": "10"},
        ),
    ],
)
def test_a_leaner_retention_is_suggested_as_it_is_written(
    sync: dict[str, Any], settings: dict[str, str]
) -> None:
    found = suggested(**sync)

    assert found is not None
    assert found.settings == settings
    assert found.forecast.checkpoints * 2 <= forecasted(**sync).checkpoints


@pytest.mark.parametrize(
    "sync",
    [
        {"push_interval": "1h"},
        {"push_interval": "1h", "retention_min_age": 1, "retention": {"hourly": 5_000}},
    ],
)
def test_nothing_leaner_is_suggested_where_there_are_few_or_each_was_asked_for(
    sync: dict[str, Any],
) -> None:
    assert suggested(**sync) is None
