"""Moments as a bucket gives them: with any offset, and as far off as times go."""

from datetime import UTC, datetime
from typing import Final

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


def utc(at: datetime) -> datetime:
    """The same moment in UTC.

    Before the year 1 and after 9999, where an offset can lead, it is the first or the last.
    """
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return _FIRST if at.year == 1 else _LAST
