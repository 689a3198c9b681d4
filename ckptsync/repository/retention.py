"""Retention: which checkpoints may go, and why the others may not. Pure.

A checkpoint's rank is its place in the order of seq; its age is by the store's clock. Live and
retired ones are judged alike, since both are whole: so what a plan does never changes what becomes
of the rest, and one that was retired by mistake comes back once the rules keep it again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any, Final

from ckptsync.model import CheckpointId
from ckptsync.moments import utc
from ckptsync.repository import keeps, timelines
from ckptsync.repository.head import Entry, Head
from ckptsync.units import format_age, format_duration

_MILLISECOND: Final = timedelta(milliseconds=1)
_EXACT: Final = 1 << 53  # milliseconds that a float, and so format_duration, can tell apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What retention needs of an entry, wherever it lies."""

    id: CheckpointId
    seq: int
    timeline: int
    at: datetime
    """When it was committed, by the store's clock."""
    state: str
    """`live`, `retired` or `bad`."""
    retired_at: datetime | None
    engine_id: str
    bytes: int
    new_bytes: int

    @classmethod
    def of(cls, entry: Entry) -> "Listed":
        return cls(
            id=entry.id,
            seq=entry.seq,
            timeline=entry.timeline,
            at=entry.at,
            state=entry.state,
            retired_at=entry.retired_at,
            engine_id=entry.engine_id,
            bytes=entry.bytes,
            new_bytes=entry.new_bytes,
        )

    @property
    def whole(self) -> bool:
        """Whether it can be restored, as far as anybody knows."""
        return self.state in ("live", "retired")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator asked to keep. A checkpoint may go only if no rule keeps it."""

    min_count: int
    """0 acts as 1."""
    min_age: timedelta
    hourly: int = 0
    """The newest checkpoint of each of so many hours, by UTC; likewise those below."""
    daily: int = 0
    weekly: int = 0
    """By ISO weeks, which begin on Monday."""
    monthly: int = 0

    def record(self) -> dict[str, Any]:
        """As head keeps it. Two policies are equal if and only if their records are."""
        periods = {
            "hourly": self.hourly,
            "daily": self.daily,
            "weekly": self.weekly,
            "monthly": self.monthly,
        }
        return {
            "min_count": self.min_count,
            "min_age": _exactly(self.min_age),
            **{name: count for name, count in periods.items() if count},
        }


class Why(StrEnum):
    """The rule that keeps a checkpoint, the first that does; or that none does."""

    LATEST = "latest"
    KEPT = "kept"
    BAD = "bad"
    IN_USE = "in-use"
    FORK = "fork"
    COUNT = "count"
    AGE = "age"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    EXPIRED = "expired"


Reason = tuple[Why, str]
"""With what a person wants to know besides, as the rest of a table's cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    checkpoint: Listed
    keep: bool
    why: Why
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one swap of head is to do. No checkpoint is in two of these."""

    retire: frozenset[CheckpointId]
    """From the store's present time, which becomes their `retired_at`."""
    revive: frozenset[CheckpointId]
    forget: frozenset[CheckpointId]


def judge(
    listed: Iterable[Listed],
    *,
    head: Head,
    in_use: Mapping[CheckpointId, str],
    policy: Policy,
    now: datetime,
) -> tuple[Verdict, ...]:
    """Say of each checkpoint whether the rules keep it and why, the newest first.

    `listed` is all that head names, each once, in any order; `in_use` has the name of a node for
    each checkpoint that one holds; `now` is the store's time. Those that an abandoned timeline
    left behind follow the same rules, but count for no other and represent no day or week.
    """
    newest_first = sorted(listed, key=lambda each: (each.seq, each.timeline, each.id), reverse=True)
    way = timelines.path(head)
    path = [each for each in newest_first if each.whole and each.seq <= way.get(each.timeline, 0)]
    rules = _Rules(
        latest=head.latest,
        kept=keeps.told(head, now),
        in_use=in_use,
        forks=_forks(head, policy, now),
        periods=_periods(path, policy),
        policy=policy,
        now=now,
    )
    on_path = {each.id for each in path}
    verdicts: list[Verdict] = []
    newer = 0
    for each in newest_first:
        why, detail = rules.reason(each, newer, on_path=each.id in on_path)
        keep = why is not Why.EXPIRED
        verdicts.append(Verdict(checkpoint=each, keep=keep, why=why, detail=detail))
        newer += each.id in on_path
    return tuple(verdicts)


def plan(
    verdicts: Iterable[Verdict], *, now: datetime, reader_grace: timedelta, bad: bool = False
) -> Plan:
    """What is to change in head, so that the verdicts come true.

    `reader_grace` is how long a checkpoint stays retired, so that who still pulls it can finish.
    One that was retired in the future, by a clock that ran ahead, is retired anew.
    `bad` forgets the bad ones at once, but for the latest and those kept by name. Retire, revive
    and forget in one swap: the verdicts of those that go count on those that come back.
    """
    retire, revive, forget = set(), set(), set()
    for verdict in verdicts:
        each = verdict.checkpoint
        if verdict.keep:
            if each.state == "retired":
                revive.add(each.id)
            elif bad and verdict.why is Why.BAD:
                forget.add(each.id)
        elif each.state != "retired" or each.retired_at is None or each.retired_at > now:
            retire.add(each.id)
        elif now - each.retired_at >= reader_grace:
            forget.add(each.id)
    return Plan(retire=frozenset(retire), revive=frozenset(revive), forget=frozenset(forget))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    latest: CheckpointId | None
    kept: Mapping[CheckpointId, str]
    in_use: Mapping[CheckpointId, str]
    forks: Mapping[CheckpointId, str]
    periods: Mapping[CheckpointId, Reason]
    policy: Policy
    now: datetime

    def reason(self, of: Listed, newer: int, *, on_path: bool) -> Reason:
        """`newer` is how many whole ones of the active timeline's path are newer."""
        if of.id == self.latest:
            return Why.LATEST, "what a pull takes"
        if of.id in self.kept:
            return Why.KEPT, self.kept[of.id]
        if not of.whole:
            return Why.BAD, "found damaged"
        if of.id in self.in_use:
            return Why.IN_USE, f"node '{self.in_use[of.id]}' holds it"
        if of.id in self.forks:
            return Why.FORK, self.forks[of.id]
        wanted = max(1, self.policy.min_count)
        if newer < wanted:
            return Why.COUNT, _counted(wanted, on_path=on_path)
        age = self.now - of.at
        if age < self.policy.min_age:
            return Why.AGE, f"younger than {format_duration(self.policy.min_age)}"
        if of.id in self.periods:
            return self.periods[of.id]
        return Why.EXPIRED, f"{newer} newer, {format_age(age).replace(' ago', ' old')}"


def _counted(min_count: int, *, on_path: bool) -> str:
    if on_path:
        return "the newest" if min_count == 1 else f"one of the {min_count} newest"
    few = "none" if min_count == 1 else f"fewer than {min_count}"
    return f"left behind, with {few} newer on the active timeline"


def _forks(head: Head, policy: Policy, now: datetime) -> Mapping[CheckpointId, str]:
    """The checkpoints at which young timelines began: their nodes may go back there."""
    return {
        begun.parent.checkpoint: f"timeline {begun.id} began there {format_age(now - begun.at)}"
        for begun in head.timelines
        if begun.parent is not None
        and begun.parent.checkpoint is not None
        and now - begun.at < policy.min_age
    }


def _periods(path: Iterable[Listed], policy: Policy) -> Mapping[CheckpointId, Reason]:
    """The newest checkpoint of each of the newest periods that have one.

    `path` begins with the newest. By rank, not by the calendar: a clock that once ran ahead must
    not fill a place for years, and what is older must not change what is chosen of the newer.
    """
    if not any((policy.hourly, policy.daily, policy.weekly, policy.monthly)):
        return {}
    hours = _newest_of(path, "hour %Y-%m-%d %H:00")
    days = _newest_of(hours.values(), "day %Y-%m-%d")  # the newest of a day is that of an hour
    levels = (
        (Why.HOURLY, policy.hourly, hours),
        (Why.DAILY, policy.daily, days),
        (Why.WEEKLY, policy.weekly, _newest_of(days.values(), "week %G-W%V")),
        (Why.MONTHLY, policy.monthly, _newest_of(days.values(), "month %Y-%m")),
    )
    chosen: dict[CheckpointId, Reason] = {}
    for why, most, periods in levels:
        for period, each in islice(periods.items(), most):
            chosen.setdefault(each.id, (why, f"newest of {period}"))
    return chosen


def _newest_of(path: Iterable[Listed], form: str) -> Mapping[str, Listed]:
    newest: dict[str, Listed] = {}
    for each in path:
        newest.setdefault(f"{utc(each.at):{form}}", each)
    return newest


def _exactly(duration: timedelta) -> str:
    """A text for each duration, whatever is too fine or too long for format_duration included."""
    milliseconds, finer = divmod(duration, _MILLISECOND)
    if not finer and milliseconds < _EXACT:
        return format_duration(duration)
    seconds = duration.days * 86_400 + duration.seconds
    return f"{seconds}.{duration.microseconds:06}".rstrip("0").rstrip(".") + "s"
