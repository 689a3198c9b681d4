"""The rules of retention once more, as an operator would read them: slow and plain, for tests.

Nothing here is shared with what it is held against: each rule is asked of each checkpoint, with all
the others at hand.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ckptsync.model import CheckpointId
from ckptsync.repository import keys
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import Repository
from ckptsync.repository.retention import Policy

READER_GRACE: Final = timedelta(hours=24)
PLACES: Final = ("chunks/", "packs/", "manifests/", "catalog/", "condemned/")

State = str | None
"""`live`, `retired` or `bad`; None for a checkpoint that head does not name."""

_PERIODS: Final[Mapping[str, Callable[[datetime], object]]] = {
    "hourly": lambda at: (at.date(), at.hour),
    "daily": lambda at: at.date(),
    "weekly": lambda at: tuple(at.isocalendar())[:2],
    "monthly": lambda at: (at.year, at.month),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the rules look at, at one moment."""

    head: Head
    entries: Sequence[Entry]
    """All of head, in pages too."""
    in_use: Collection[CheckpointId]
    """Named by a heartbeat younger than two hours."""
    policy: Policy
    now: datetime

    def keep(self, entry: Entry) -> bool:
        """Whether an entry that is whole has to stay."""
        newer = [each for each in self._way() if each.seq > entry.seq]
        return (
            entry.id == self.head.latest
            or self._is_named(entry)
            or entry.id in self.in_use
            or self._is_young_fork(entry)
            or len(newer) < max(1, self.policy.min_count)
            or self.now - entry.at < self.policy.min_age
            or any(self._is_newest_of(entry, period) for period in _PERIODS)
        )

    def fate(self, entry: Entry, *, bad: bool) -> State:
        """What pruning makes of an entry; `bad` is what `--bad` says."""
        if entry.state == "bad":
            return None if bad and not self._is_named(entry) else "bad"
        if self.keep(entry):
            return "live"
        if entry.state == "live":
            return "retired"
        assert entry.retired_at is not None
        return None if self.now - entry.retired_at >= READER_GRACE else "retired"

    def has_enough_newer(self, entry: Entry) -> bool:
        """Whether as many live ones are newer on the active timeline's path as have to be."""
        newer = [each for each in self._way() if each.seq > entry.seq and each.state == "live"]
        return len(newer) >= max(1, self.policy.min_count)

    def _way(self) -> list[Entry]:
        return [each for each in way_of(self.head, self.entries) if each.state != "bad"]

    def _is_named(self, entry: Entry) -> bool:
        return any(
            keep.checkpoint == entry.id and (keep.until is None or keep.until > self.now)
            for keep in self.head.keeps.values()
        )

    def _is_young_fork(self, entry: Entry) -> bool:
        return any(
            begun.parent is not None
            and begun.parent.checkpoint == entry.id
            and self.now - begun.at < self.policy.min_age
            for begun in self.head.timelines
        )

    def _is_newest_of(self, entry: Entry, period: str) -> bool:
        """Of one of the newest hours, days, weeks or months that have a checkpoint."""
        of, most = _PERIODS[period], getattr(self.policy, period)
        newest = {of(each.at): each for each in self._way()}
        chosen = sorted(newest.values(), key=lambda each: each.seq, reverse=True)[:most]
        return any(each.id == entry.id for each in chosen)


def way_of(head: Head, entries: Sequence[Entry]) -> list[Entry]:
    """What the latest came by, and itself, oldest first."""
    on_way = [each for each in entries if _is_on_way(head, each)]
    return sorted(on_way, key=lambda each: each.seq)


def _is_on_way(head: Head, entry: Entry) -> bool:
    timeline, bound = head.timeline, head.next_seq
    while entry.timeline != timeline:
        (begun,) = (each for each in head.timelines if each.id == timeline)
        if begun.parent is None or begun.parent.checkpoint is None:
            return False
        timeline = begun.parent.timeline
        bound = min(bound, keys.seq(begun.parent.checkpoint))
    return entry.seq <= bound


def needed(repository: Repository, head: Head) -> frozenset[str]:
    """Every key that a head leads to."""
    return frozenset(_needed(repository, head))


def _needed(repository: Repository, head: Head) -> Iterator[str]:
    yield from (page.key for page in head.pages)
    yield from (named.key for named in head.sweep.lists)
    for entry in repository.entries(head):
        yield keys.manifest(entry.id)
        yield from (stored.key for stored in repository.manifest(entry).objects)
