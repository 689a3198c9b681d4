"""Moments and what else people read, whoever wrote it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.cli.wording import counted, moment, state
from ckptsync.model import CheckpointId
from ckptsync.operations import documents
from ckptsync.repository.head import Keep

_OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)


def test_a_moment_is_told_in_utc_wherever_it_was_written() -> None:
    nepal = datetime(2026, 1, 2, 10, 0, tzinfo=timezone(timedelta(hours=5, minutes=45)))

    assert moment(nepal) == "2026-01-02 04:15:00 UTC"
    assert documents.time(nepal) == "2026-01-02T04:15:00+00:00"


@given(st.datetimes(timezones=_OFFSETS))
def test_every_moment_can_be_told(at: datetime) -> None:
    told = datetime.fromisoformat(documents.time(at))

    assert told.utcoffset() == timedelta(0)
    assert abs(told - at) < timedelta(days=1)
    if 1 < at.year < 9999:
        assert told == at


@pytest.mark.parametrize(
    ("number", "told"), [(0, "0 objects"), (1, "1 object"), (40_000, "40,000 objects")]
)
def test_a_count_of_many_can_be_read(number: int, told: str) -> None:
    assert counted(number, "object") == told


def test_a_state_says_whether_it_is_the_latest_and_what_keeps_it() -> None:
    kept = CheckpointId("0001-00000001-0123456789ab")
    until = datetime(2027, 1, 31, 23, 59, 59, tzinfo=UTC)
    keeps = {
        "drill": Keep(checkpoint=kept, by="ops@host-a", until=until),
        "pre-upgrade": Keep(checkpoint=kept, by="ops@host-a"),
    }

    assert state("retired", latest=False, keeps={}) == "retired"
    assert state("live", latest=True, keeps=keeps) == (
        "live, latest, kept as drill (until 2027-01-31 23:59:59 UTC), pre-upgrade"
    )
