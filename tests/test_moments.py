"""Moments that a bucket gives."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.moments import utc

offsets = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@given(st.datetimes(timezones=offsets))
def test_a_moment_stays_the_same_or_becomes_the_nearest_that_there_is(at: datetime) -> None:
    moved = utc(at)

    assert moved.tzinfo is UTC
    assert moved == max(FIRST, min(at, LAST))


@pytest.mark.parametrize(
    ("at", "nearest"),
    [
        ("0001-01-01T00:00:00+14:00", FIRST),
        ("9999-12-31T23:00:00-14:00", LAST),
        ("2026-11-20T08:00:00+08:00", datetime(2026, 11, 20, tzinfo=UTC)),
    ],
)
def test_offsets_may_lead_beyond_the_years_that_there_are(at: str, nearest: datetime) -> None:
    assert utc(datetime.fromisoformat(at)) == nearest
