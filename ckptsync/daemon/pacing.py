"""When the next push or poll is due. Times are by the local clock, which may jump."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

_FIRST: Final = 1.0  # seconds
_CEILING: Final = 300.0  # seconds
_LOOK_AGAIN: Final = 5.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """What came of pushing, or of polling, so far."""

    ended_at: datetime | None = None
    """The end of the last one."""
    succeeded_at: datetime | None = None
    """The end of the last one that moved a checkpoint."""
    failures: int = 0
    """Since one last did not fail."""

    def succeeded(self, at: datetime) -> "Attempts":
        return Attempts(ended_at=at, succeeded_at=at)

    def found_nothing(self, at: datetime) -> "Attempts":
        return replace(self, ended_at=at, failures=0)

    def failed(self, at: datetime) -> "Attempts":
        return replace(self, ended_at=at, failures=self.failures + 1)


def seconds_to_push(
    attempts: Attempts, interval: timedelta, *, now: datetime, chance: float
) -> float:
    """How long until the disk is to be looked at for something to push; 0 if that is due.

    Where the last look found nothing, a checkpoint may appear at any moment: it is looked for
    every 5 s, or at the interval if that is shorter. `chance` is drawn from 0 to 1.
    """
    if attempts.failures:
        return _left(backoff(attempts.failures, chance=chance), attempts.ended_at, now)
    seconds = interval.total_seconds()
    return max(
        _left(seconds, attempts.succeeded_at, now),
        _left(min(seconds, _LOOK_AGAIN), attempts.ended_at, now),
    )


def seconds_to_poll(
    attempts: Attempts, interval: timedelta, *, now: datetime, chance: float
) -> float:
    """How long until the bucket is to be asked for something new; 0 if that is due."""
    if attempts.failures:
        return _left(backoff(attempts.failures, chance=chance), attempts.ended_at, now)
    return _left(interval.total_seconds(), attempts.ended_at, now)


def backoff(failures: int, *, chance: float) -> float:
    """Seconds to wait after so many failures in a row: it doubles, from 1 s to 5 min.

    Of that, at least half; `chance` from 0 to 1 decides about the other half, so that many hosts
    do not come back at the same moment.
    """
    # 2^64 is beyond the ceiling, and a larger power would overflow a float.
    grown = min(_FIRST * 2.0 ** min(failures - 1, 64), _CEILING)
    return grown * (1 + chance) / 2


def _left(seconds: float, since: datetime | None, now: datetime) -> float:
    """What is left of a time that began then; what lies in the future counts as now."""
    if since is None:
        return 0.0
    passed = max(0.0, (now - since).total_seconds())
    return max(0.0, seconds - passed)
