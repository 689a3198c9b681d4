"""What a bucket holds in the long run, and how often it is asked. Pure, from the settings.

All numbers are those of a primary that pushes at each push_interval for longer than anything is
kept. They are upper bounds, but for the data objects of a push, which are as few as can be.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from ckptsync.config.model import Pipeline, Retention, Sync
from ckptsync.config.providers import Scheme

MONTH: Final = timedelta(days=30)

_MICROSECOND: Final = timedelta(microseconds=1)
_A_SECOND: Final = timedelta(seconds=1)
_READER_GRACE: Final = timedelta(hours=24)
_BEAT_EVERY: Final = timedelta(seconds=10)
_SWEEP_EVERY: Final = timedelta(hours=1)
_LIST_EVERY: Final = timedelta(days=1)
_LISTED_AT_ONCE: Final = 1_000
_IN_HEAD: Final = 512
"""Checkpoints; where there are more, the older ones lie in catalog pages."""
PERIODS: Final = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "monthly": timedelta(days=31),
}
"""Of `retention`: the longest of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Of checkpoints, in bytes."""

    whole: int
    new: int
    """What one holds that the one before did not; at most all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """A month's."""

    writes: int = 0
    """PUT and LIST, which stores charge for alike."""
    reads: int = 0
    """GET and HEAD."""

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(writes=self.writes + other.writes, reads=self.reads + other.reads)

    def __mul__(self, times: int) -> "Requests":
        return Requests(writes=self.writes * times, reads=self.reads * times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    checkpoints: int
    """Not counting those that are retired."""
    retired: int
    """Those that may go, but are still whole for the readers that hold them."""
    bytes: int
    requests: Mapping[str, Requests]
    """By what they are made for; empty for a directory."""

    @property
    def total(self) -> Requests:
        return sum(self.requests.values(), Requests())


def at_least(sync: Sync) -> int:
    """How many checkpoints retention leaves, however old they are."""
    return max(1, sync.retention_min_count)


def forecast(pipeline: Pipeline, sizes: Sizes, *, standbys: int) -> Forecast | None:
    """The long run of a pipeline with so many standbys; None if nothing is pushed by itself.

    Checkpoints: one a push_interval for retention_min_age, or retention_min_count if that is
    more; and what `retention` keeps beyond, each period counted once where a longer one has the
    same newest checkpoint. Retired: one a push_interval for a day.

    Bytes: one whole checkpoint, and what each other one has that its newer neighbour lacks: the
    new bytes of every push between the two, at most a whole checkpoint.
    """
    sync = pipeline.sync
    if sync.push_interval is None:
        return None
    every = max(sync.push_interval, _A_SECOND)
    in_a_row = max(at_least(sync), _steps(sync.retention_min_age, every))
    retired = _steps(_READER_GRACE, every)
    extra = list(_extras(in_a_row, every, sync.retention))
    extra_bytes = sum(
        number * min(sizes.whole, sizes.new * _steps(apart, every)) for number, apart in extra
    )
    checkpoints = in_a_row + sum(number for number, _ in extra)
    objects = _ceil(sizes.new, pipeline.repository.chunk_size) + 1  # its small files are in a pack
    return Forecast(
        checkpoints=checkpoints,
        retired=retired,
        bytes=sizes.whole + sizes.new * (in_a_row + retired - 1) + extra_bytes,
        requests={}
        if sync.bucket.scheme is Scheme.FILE
        else _requests(sync, every, checkpoints + retired, objects, standbys),
    )


def _extras(
    in_a_row: int, every: timedelta, retention: Retention
) -> Iterator[tuple[int, timedelta]]:
    """How many `retention` adds, and how far they are apart."""
    # Microseconds back from the newest checkpoint: no length of time holds what may be kept.
    covered = (in_a_row - 1) * (every // _MICROSECOND)
    for name, longest in PERIODS.items():
        kept, apart = getattr(retention, name), max(longest, every)
        period = apart // _MICROSECOND
        # The newest of each of these periods is kept anyway.
        number = kept - (covered // period + 1)
        if number > 0:
            yield number, apart
            if name != "weekly":  # the newest of a month need not be that of a week
                covered = max(covered, (kept - 2) * period)


def _requests(
    sync: Sync, every: timedelta, held: int, objects: int, standbys: int
) -> Mapping[str, Requests]:
    """A month's, of a bucket that holds so many checkpoints of so many new objects.

    pushes      head twice and the descriptor; data, manifest and head
    retention   after each push head, a list of the nodes and the heartbeat of each; head, and
                with catalog pages that of what is retired and that of what is forgotten
    sweeps      once an hour head; the list of what goes, and head. What goes is deleted for free.
                Once a day all names are listed
    heartbeats  of every node, every 10 s
    checks      of the primary, every fence_check_interval
    standbys    head at each pull_interval; the manifest and the data of each new checkpoint
    """
    nodes = 1 + standbys
    pages = 2 if held > _IN_HEAD else 0
    pushes = MONTH // every
    polls = MONTH // max(sync.pull_interval, _A_SECOND)
    sweeps = min(pushes, MONTH // _SWEEP_EVERY)
    listed = _ceil(held * (objects + 1), _LISTED_AT_ONCE)
    return {
        "pushes": Requests(writes=objects + 2, reads=3) * pushes,
        "retention": Requests(writes=2 + pages, reads=1 + nodes + pages) * pushes,
        "sweeps": Requests(writes=2, reads=1) * sweeps
        + Requests(writes=listed) * (MONTH // _LIST_EVERY),
        "heartbeats": Requests(writes=1) * (MONTH // _BEAT_EVERY) * nodes,
        "checks": Requests(reads=1) * (MONTH // sync.fence_check_interval),
        "standbys": (Requests(reads=1) * polls + Requests(reads=objects + 1) * min(pushes, polls))
        * standbys,
    }


def _steps(amount: timedelta, step: timedelta) -> int:
    """How many it takes to cover an amount."""
    return -(-amount // step)


def _ceil(amount: int, step: int) -> int:
    return -(-amount // step)
