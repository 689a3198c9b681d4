"""A retention that keeps far fewer checkpoints and reaches back as far. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ckptsync.config.forecast import Forecast, Sizes, forecast
from ckptsync.config.model import MOST_PERIODS, Pipeline, Retention, Sync

MANY: Final = 1_000
"""Checkpoints, beyond which it is worth a thought whether all of them are wanted."""
_FEW_ENOUGH: Final = 5_000
_A_DAY: Final = timedelta(days=1)
_AN_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaner:
    settings: Mapping[str, str]
    """What would change, as it is written in the file."""
    forecast: Forecast


def leaner(pipeline: Pipeline, sizes: Sizes, *, standbys: int) -> Leaner | None:
    """What to set where more than MANY checkpoints would be kept.

    None where they are not so many, or where no such setting would halve them.
    """
    now = forecast(pipeline, sizes, standbys=standbys)
    if now is None or now.checkpoints <= MANY:
        return None
    found = None
    for sync in _candidates(pipeline.sync):
        changed = pipeline.model_copy(update={"sync": sync})
        then = forecast(changed, sizes, standbys=standbys)
        if then is None or then.checkpoints * 2 > now.checkpoints:
            continue
        found = Leaner(settings=_changes(pipeline.sync, sync), forecast=then)
        if then.checkpoints <= _FEW_ENOUGH:
            break
    return found


def _candidates(sync: Sync) -> Iterator[Sync]:
    """From what changes least to what keeps least."""
    default = Sync.model_fields["retention_min_count"].default
    count = sync.retention_min_count if sync.retention_min_count <= MANY else default
    counted = sync.model_copy(update={"retention_min_count": count})
    yield counted
    age = sync.retention_min_age
    days = min(-(-age // _A_DAY), MOST_PERIODS)
    for shorter, hours in ((7 * _A_DAY, 0), (_A_DAY, 0), (_AN_HOUR, 24)):
        if shorter < age:
            kept = sync.retention
            retention = kept.model_copy(
                update={"hourly": max(kept.hourly, hours), "daily": max(kept.daily, days)}
            )
            yield counted.model_copy(update={"retention_min_age": shorter, "retention": retention})


def _changes(old: Sync, new: Sync) -> Mapping[str, str]:
    written = {
        "retention_min_count": str(new.retention_min_count),
        "retention_min_age": _age(new.retention_min_age),
        "retention": _table(new.retention),
    }
    return {key: text for key, text in written.items() if getattr(old, key) != getattr(new, key)}


def _age(age: timedelta) -> str:
    """Whole days or hours."""
    return f'"{age // _AN_HOUR}h"' if age % _A_DAY else str(age // _A_DAY)


def _table(retention: Retention) -> str:
    pairs = (f"{name} = {kept}" for name, kept in retention.model_dump().items() if kept)
    return f"{{ {', '.join(pairs)} }}"
