"""Which checkpoints may go: tables that an operator would recognise, and what always holds."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ckptsync.model import CheckpointId
from ckptsync.repository.head import Fork, Head, Keep, Timeline
from ckptsync.repository.retention import Listed, Plan, Policy, Verdict, Why, judge, plan
from ckptsync.repository.timelines import on_path, path
from ckptsync.units import parse_duration
from tests.repository.samples import NOW, a_head, an_entry, an_id

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
GRACE: Final = 24 * HOUR
KEEP_LITTLE: Final = Policy(min_count=1, min_age=timedelta(0))


def a_listed(
    seq: int,
    *,
    age: timedelta = timedelta(0),
    timeline: int = 1,
    state: str = "live",
    retired_at: datetime | None = None,
) -> Listed:
    return replace(
        Listed.of(an_entry(seq, timeline=timeline)),
        at=NOW - age,
        state=state,
        retired_at=retired_at,
    )


def a_history(*ages: timedelta) -> tuple[Listed, ...]:
    """One timeline; the oldest comes first, as seq 1."""
    return tuple(a_listed(seq, age=age) for seq, age in enumerate(ages, start=1))


def head_of(listed: Iterable[Listed], **changes: object) -> Head:
    """Of one timeline, unless the changes say otherwise; the newest is the latest."""
    newest = max(listed, key=lambda each: each.seq)
    fields = {"latest": newest.id, "next_seq": newest.seq + 1, **changes}
    return a_head().model_copy(update=fields)


def judged(
    listed: Iterable[Listed],
    policy: Policy,
    *,
    head: Head | None = None,
    in_use: Mapping[CheckpointId, str] | None = None,
) -> tuple[Verdict, ...]:
    found = tuple(listed)
    return judge(found, head=head or head_of(found), in_use=in_use or {}, policy=policy, now=NOW)


def seqs_kept(verdicts: Iterable[Verdict]) -> list[int]:
    return sorted(verdict.checkpoint.seq for verdict in verdicts if verdict.keep)


def reasons(verdicts: Iterable[Verdict]) -> dict[int, tuple[str, str]]:
    return {each.checkpoint.seq: (each.why, each.detail) for each in verdicts}


# What an operator expects


def test_ten_checkpoints_and_thirty_days_by_default() -> None:
    twice_a_day = a_history(*(each * 12 * HOUR for each in reversed(range(120))))

    verdicts = judged(twice_a_day, Policy(min_count=10, min_age=30 * DAY))

    assert seqs_kept(verdicts) == list(range(61, 121)), "those of thirty days, the rest may go"


def test_ten_are_kept_however_old_they_are() -> None:
    once_a_month = a_history(*(each * 30 * DAY for each in reversed(range(1, 25))))

    verdicts = judged(once_a_month, Policy(min_count=10, min_age=30 * DAY))

    assert seqs_kept(verdicts) == list(range(15, 25))


def test_a_minimal_age_may_be_hours() -> None:
    hourly = a_history(*(each * HOUR for each in reversed(range(48))))

    verdicts = judged(hourly, Policy(min_count=1, min_age=36 * HOUR))

    assert [verdict.checkpoint.seq for verdict in verdicts] == list(range(48, 0, -1))
    assert seqs_kept(verdicts) == list(range(13, 49))
    assert reasons(verdicts)[13] == ("age", "younger than 1d12h")
    assert reasons(verdicts)[12] == ("expired", "36 newer, 1d12h old")


def test_a_year_of_hourly_pushes_thins_out_to_days_weeks_and_months() -> None:
    hours = 400 * 24
    hourly = a_history(*(each * HOUR for each in reversed(range(hours))))
    policy = Policy(min_count=10, min_age=2 * DAY, hourly=72, daily=14, weekly=8, monthly=12)

    verdicts = judged(hourly, policy)

    counts = Counter(verdict.why for verdict in verdicts if verdict.keep)
    assert counts == {
        "latest": 1,
        "count": 9,
        "age": 38,
        "hourly": 72 - 48,
        "daily": 14 - 4,
        "weekly": 8 - 3,
        "monthly": 12 - 1,
    }, "a period that is there already for another reason is not counted again"
    kept = {each.checkpoint.at: each.detail for each in verdicts if each.keep}
    assert kept[datetime(2026, 11, 17, 10, 30, 1, 234567, UTC)] == "newest of hour 2026-11-17 10:00"
    assert kept[datetime(2026, 11, 10, 23, 30, 1, 234567, UTC)] == "newest of day 2026-11-10"
    assert kept[datetime(2026, 10, 4, 23, 30, 1, 234567, UTC)] == "newest of week 2026-W40"
    assert kept[datetime(2025, 12, 31, 23, 30, 1, 234567, UTC)] == "newest of month 2025-12"
    assert min(kept) == datetime(2025, 12, 31, 23, 30, 1, 234567, UTC)


def test_a_period_without_a_checkpoint_takes_no_place() -> None:
    listed = a_history(90 * DAY, 60 * DAY, 59 * DAY, HOUR, timedelta(0))

    verdicts = judged(listed, replace(KEEP_LITTLE, daily=3))

    assert seqs_kept(verdicts) == [2, 3, 5], "today, and the two days before that have any"


def test_hours_and_days_are_those_of_utc() -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    midnight = datetime(2026, 11, 20, tzinfo=UTC)
    listed = [
        replace(each, at=at.astimezone(kathmandu))
        for each, at in zip(
            a_history(DAY, DAY, HOUR, HOUR),
            [midnight - HOUR, midnight - HOUR / 60, midnight, midnight + HOUR],
            strict=True,
        )
    ]

    verdicts = judged(listed, replace(KEEP_LITTLE, daily=9))

    assert seqs_kept(verdicts) == [2, 4]


def test_a_week_that_begins_in_december_is_one() -> None:
    sunday = datetime(2026, 1, 4, tzinfo=UTC)
    listed = [
        replace(each, at=sunday - days * DAY)
        for each, days in zip(a_history(*[DAY] * 3), [7, 4, 0], strict=True)
    ]

    assert seqs_kept(judged(listed, replace(KEEP_LITTLE, weekly=9))) == [1, 3]


@pytest.mark.parametrize(
    "at",
    [
        datetime.min.replace(tzinfo=timezone(14 * HOUR)),
        datetime.max.replace(tzinfo=timezone(-14 * HOUR)),
    ],
)
def test_a_time_beyond_all_years_is_no_accident(at: datetime) -> None:
    oldest, *newer = a_history(DAY, DAY, DAY)

    verdicts = judged([replace(oldest, at=at), *newer], replace(KEEP_LITTLE, daily=2))

    assert seqs_kept(verdicts) == [1, 3]


def test_a_clock_that_once_ran_ahead_takes_no_place_for_years() -> None:
    ahead = a_history(5 * DAY, 4 * DAY, -3650 * DAY, 2 * DAY, DAY, timedelta(0))

    assert 3 in seqs_kept(judged(ahead, KEEP_LITTLE)), "it seems young"
    in_ten_years = judge(
        ahead,
        head=head_of(ahead),
        in_use={},
        policy=replace(KEEP_LITTLE, daily=3),
        now=NOW + 3651 * DAY,
    )
    assert seqs_kept(in_ten_years) == [4, 5, 6]


def test_every_reason_is_told_in_a_few_words() -> None:
    listed = (
        *a_history(*[50 * DAY] * 6, 40 * DAY, 40 * DAY, 10 * DAY, DAY, HOUR),
        a_listed(12, timeline=2, age=90 * DAY),
    )
    listed = (*listed[:4], replace(listed[4], state="bad"), *listed[5:])
    forks = (
        Timeline(id=1, epoch=1, reason="create", at=NOW - 99 * DAY),
        a_fork(2, of=1, at_seq=8, age=90 * DAY),
        a_fork(3, of=1, at_seq=3, age=2 * DAY),
    )
    head = head_of(
        listed,
        timelines=forks,
        latest=an_id(11),
        keeps={
            "pre-upgrade": Keep(
                checkpoint=an_id(1), by="ann", until=datetime(2027, 1, 1, tzinfo=UTC)
            )
        },
    )
    policy = Policy(min_count=2, min_age=30 * DAY, daily=3, monthly=9)

    verdicts = judged(listed, policy, head=head, in_use={an_id(2): "host-b"})

    assert reasons(verdicts) == {
        12: ("count", "left behind, with fewer than 2 newer on the active timeline"),
        11: ("latest", "what a pull takes"),
        10: ("count", "one of the 2 newest"),
        9: ("age", "younger than 30d"),
        8: ("monthly", "newest of month 2026-10"),
        7: ("expired", "4 newer, 40d old"),
        6: ("expired", "5 newer, 50d old"),
        5: ("bad", "found damaged"),
        4: ("expired", "6 newer, 50d old"),
        3: ("fork", "timeline 3 began there 2d ago"),
        2: ("in-use", "node 'host-b' holds it"),
        1: ("kept", "kept as 'pre-upgrade' until 2027-01-01 00:00:00 UTC"),
    }


@pytest.mark.parametrize("min_count", [0, 1])
def test_one_is_always_kept(min_count: int) -> None:
    listed = a_history(9 * DAY, 8 * DAY, 7 * DAY)
    policy = Policy(min_count=min_count, min_age=timedelta(0))

    verdicts = judged(listed, policy, head=head_of(listed, latest=None))

    assert reasons(verdicts)[3] == ("count", "the newest")
    assert seqs_kept(verdicts) == [3]


def test_those_that_a_timeline_left_behind_go_once_enough_follow() -> None:
    left_behind = a_history(*[40 * DAY] * 6)
    policy = Policy(min_count=2, min_age=30 * DAY)

    def with_following(count: int) -> list[int]:
        following = [a_listed(7 + each, timeline=2, age=35 * DAY) for each in range(count)]
        listed = (*left_behind, *following)
        forks = (*a_head().timelines, a_fork(2, of=1, at_seq=3, age=40 * DAY))
        latest = following[-1].id if following else an_id(3)
        return seqs_kept(
            judged(listed, policy, head=head_of(listed, timeline=2, timelines=forks, latest=latest))
        )

    assert with_following(0) == [2, 3, 4, 5, 6]
    assert with_following(1) == [3, 4, 5, 6, 7]
    assert with_following(2) == [7, 8]


def test_a_bad_one_counts_for_none() -> None:
    listed = a_history(*[9 * DAY] * 5)
    listed = (*listed[:3], replace(listed[3], state="bad"), listed[4])

    verdicts = judged(listed, Policy(min_count=2, min_age=DAY))

    assert seqs_kept(verdicts) == [3, 4, 5]


# From verdicts to a plan


def retired(seq: int, ago: timedelta | None) -> Listed:
    at = None if ago is None else NOW - ago
    return a_listed(seq, age=9 * DAY, state="retired", retired_at=at)


def test_one_is_retired_first_and_forgotten_a_grace_later() -> None:
    listed = (
        retired(1, GRACE),
        retired(2, GRACE - timedelta(microseconds=1)),
        retired(3, -99 * DAY),
        retired(4, None),
        *(a_listed(seq, age=9 * DAY) for seq in (5, 6)),
    )

    found = plan(judged(listed, KEEP_LITTLE), now=NOW, reader_grace=GRACE)

    assert found == Plan(
        retire=frozenset({an_id(3), an_id(4), an_id(5)}),
        revive=frozenset(),
        forget=frozenset({an_id(1)}),
    ), "3 was retired by a clock that ran ahead"


def test_a_retired_one_comes_back_when_the_rules_keep_it_again() -> None:
    listed = (retired(1, HOUR), retired(2, 99 * DAY), retired(3, HOUR), a_listed(4))

    wider = judged(listed, Policy(min_count=3, min_age=DAY))

    assert plan(wider, now=NOW, reader_grace=GRACE) == Plan(
        retire=frozenset(), revive=frozenset({an_id(2), an_id(3)}), forget=frozenset()
    )


def test_a_day_that_was_retired_comes_back_when_days_are_to_be_kept() -> None:
    listed = (retired(1, HOUR), retired(2, HOUR), a_listed(3))

    found = plan(judged(listed, replace(KEEP_LITTLE, daily=7)), now=NOW, reader_grace=GRACE)

    assert found.revive == {an_id(2)}


def test_bad_ones_are_forgotten_on_command_only_unless_they_are_kept() -> None:
    bad = [a_listed(seq, age=9 * DAY, state="bad") for seq in (1, 2, 3)]
    listed = (*bad, a_listed(4), a_listed(5, state="bad"))
    head = head_of(listed, latest=an_id(3), keeps={"x": Keep(checkpoint=an_id(1), by="ann")})
    verdicts = judged(listed, KEEP_LITTLE, head=head)

    assert plan(verdicts, now=NOW, reader_grace=GRACE).forget == frozenset()
    assert plan(verdicts, now=NOW, reader_grace=GRACE, bad=True) == Plan(
        retire=frozenset(), revive=frozenset(), forget=frozenset({an_id(2), an_id(5)})
    )


# How head remembers a policy


@pytest.mark.parametrize(
    ("policy", "record"),
    [
        (Policy(min_count=10, min_age=30 * DAY), {"min_count": 10, "min_age": "30d"}),
        (Policy(min_count=0, min_age=36 * HOUR), {"min_count": 0, "min_age": "1d12h"}),
        (
            Policy(min_count=1, min_age=timedelta(0), hourly=24, monthly=12),
            {"min_count": 1, "min_age": "0s", "hourly": 24, "monthly": 12},
        ),
        (
            Policy(min_count=1, min_age=timedelta(seconds=1234, microseconds=500_001)),
            {"min_count": 1, "min_age": "1234.500001s"},
        ),
    ],
)
def test_a_policy_is_remembered_as_it_would_be_written(
    policy: Policy, record: dict[str, Any]
) -> None:
    assert policy.record() == record


ages = st.timedeltas(min_value=timedelta(0)) | st.sampled_from(
    [
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(milliseconds=1),
        HOUR,
        DAY,
        timedelta(days=999_999_999, milliseconds=1),
        timedelta.max,
    ]
)
any_policies = st.builds(
    Policy,
    min_count=st.integers(min_value=0, max_value=3),
    min_age=ages,
    hourly=st.integers(min_value=0, max_value=1),
    weekly=st.integers(min_value=0, max_value=1),
)


@given(any_policies, any_policies)
def test_policies_are_equal_when_their_records_are(one: Policy, other: Policy) -> None:
    assert (one.record() == other.record()) is (one == other)


@given(ages)
@example(timedelta(days=999_999_999, milliseconds=1))
def test_a_remembered_age_can_be_read_again(age: timedelta) -> None:
    assert parse_duration(Policy(min_count=1, min_age=age).record()["min_age"]) == age


@given(st.sampled_from(["live", "retired", "bad"]), st.none() | st.just(NOW))
def test_what_is_listed_is_what_the_entry_says(state: str, retired_at: datetime | None) -> None:
    entry = an_entry(7, timeline=3).model_copy(update={"state": state, "retired_at": retired_at})
    listed = Listed.of(entry)

    assert {name: getattr(entry, name) for name in Listed.__slots__} == {
        name: getattr(listed, name) for name in Listed.__slots__
    }


# What holds for every bucket


def a_fork(id: int, *, of: int, at_seq: int | None, age: timedelta) -> Timeline:
    parent = None if at_seq is None else an_id(at_seq, timeline=of)
    return Timeline(
        id=id,
        parent=Fork(timeline=of, checkpoint=parent),
        epoch=1,
        reason="pull",
        at=NOW - age,
    )


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """What retention gets to see of one."""

    listed: tuple[Listed, ...]
    head: Head
    in_use: Mapping[CheckpointId, str]

    def judged(self, policy: Policy) -> tuple[Verdict, ...]:
        return judged(self.listed, policy, head=self.head, in_use=self.in_use)

    def gone(self, policy: Policy) -> set[CheckpointId]:
        return {each.checkpoint.id for each in self.judged(policy) if not each.keep}

    def good(self, *states: str) -> list[Listed]:
        """Those on the path in these states, without the code under test."""
        way = path(self.head)
        return [each for each in self.listed if each.state in states and _is_on(each, way)]


def _is_on(listed: Listed, way: Mapping[int, int]) -> bool:
    return on_path(an_entry(listed.seq, timeline=listed.timeline), way)


entry_ages = st.sampled_from(
    [each * HOUR for each in (-24 * 3650, -1, 0, 1, 2, 23, 25, 48, 24 * 7, 24 * 8, 24 * 40)]
)
policies = st.builds(
    Policy,
    min_count=st.integers(min_value=0, max_value=4),
    min_age=st.sampled_from([each * HOUR for each in (0, 1, 2, 24, 24 * 7, 24 * 30)]),
    hourly=st.integers(min_value=0, max_value=3),
    daily=st.integers(min_value=0, max_value=3),
    weekly=st.integers(min_value=0, max_value=2),
    monthly=st.integers(min_value=0, max_value=2),
)


@st.composite
def buckets(draw: st.DrawFn) -> Bucket:
    """Forks at any checkpoint or at none, gaps, bad and retired ones, clocks that jump."""
    timelines = [Timeline(id=1, epoch=1, reason="create", at=NOW - 99 * DAY)]
    active, committed, listed = 1, list[tuple[int, int]](), list[Listed]()
    states = st.sampled_from(["live"] * 4 + ["retired"] * 2 + ["bad", "forgotten"])
    moments = st.none() | st.sampled_from([NOW - 2 * DAY, NOW - GRACE, NOW - HOUR, NOW + HOUR])
    steps = draw(st.lists(st.sampled_from(["commit"] * 4 + ["fork"]), max_size=20))
    for step in steps:
        if step == "commit":
            seq, state = len(committed) + 1, draw(states)
            committed.append((active, seq))
            if state == "forgotten":
                continue
            at = draw(moments) if state == "retired" else None
            age = draw(entry_ages)
            listed.append(a_listed(seq, age=age, timeline=active, state=state, retired_at=at))
        else:
            of, at_seq = draw(st.sampled_from([*committed, (active, None)]))
            active = timelines[-1].id + 1
            timelines.append(a_fork(active, of=of, at_seq=at_seq, age=draw(entry_ages)))
    ids = [each.id for each in listed]
    some = st.sampled_from([*ids, an_id(99)])
    until = st.none() | st.sampled_from([NOW - HOUR, NOW, NOW + HOUR])
    keeps = st.builds(Keep, checkpoint=some, by=st.just("ann"), until=until)
    head = a_head().model_copy(
        update={
            "timeline": active,
            "timelines": tuple(timelines),
            "next_seq": len(committed) + 1,
            "keeps": draw(st.dictionaries(st.sampled_from("ab"), keeps, max_size=2)),
        }
    )
    in_use = draw(st.dictionaries(some, st.sampled_from(["host-b", "host-c"]), max_size=2))
    bucket = Bucket(listed=tuple(listed), head=head, in_use=in_use)
    live = bucket.good("live")
    latest = live[-1].id if live else None
    return replace(bucket, head=head.model_copy(update={"latest": latest}))


def changed(bucket: Bucket, by: Plan, *, at: datetime = NOW) -> Bucket:
    """What the next run finds."""

    def of(each: Listed) -> Listed:
        if each.id in by.retire:
            return replace(each, state="retired", retired_at=at)
        if each.id in by.revive:
            return replace(each, state="live", retired_at=None)
        return each

    return replace(
        bucket, listed=tuple(of(each) for each in bucket.listed if each.id not in by.forget)
    )


@given(buckets(), policies)
def test_every_checkpoint_is_judged_once_the_newest_first(bucket: Bucket, policy: Policy) -> None:
    verdicts = bucket.judged(policy)

    assert [each.checkpoint for each in verdicts] == list(reversed(bucket.listed))
    assert all(each.keep is (each.why is not Why.EXPIRED) for each in verdicts)
    assert all(each.detail for each in verdicts)


@given(buckets(), policies)
def test_only_live_and_retired_ones_may_go_and_never_the_latest(
    bucket: Bucket, policy: Policy
) -> None:
    gone = bucket.gone(policy)

    assert gone <= {each.id for each in bucket.listed if each.state in ("live", "retired")}
    assert bucket.head.latest not in gone


@given(buckets(), policies)
def test_as_many_live_ones_remain_as_were_asked_for(bucket: Bucket, policy: Policy) -> None:
    found = plan(bucket.judged(policy), now=NOW, reader_grace=GRACE)

    remaining = changed(bucket, found).good("live")

    wanted = max(1, policy.min_count)
    assert len(remaining) >= min(wanted, len(bucket.good("live", "retired")))
    newest = bucket.good("live", "retired")[-wanted:]
    assert {each.id for each in newest} <= {each.id for each in remaining}


@given(buckets(), policies)
def test_each_that_goes_has_enough_live_ones_after_it(bucket: Bucket, policy: Policy) -> None:
    found = plan(bucket.judged(policy), now=NOW, reader_grace=GRACE)
    remaining = changed(bucket, found).good("live")

    for each in bucket.listed:
        if each.id in found.retire | found.forget:
            newer = [other for other in remaining if other.seq > each.seq]
            assert len(newer) >= max(1, policy.min_count)


@given(buckets(), policies)
def test_nothing_young_goes_nor_what_seems_to_come_from_the_future(
    bucket: Bucket, policy: Policy
) -> None:
    gone = bucket.gone(policy)

    for each in bucket.listed:
        if each.id in gone:
            assert NOW - each.at >= policy.min_age
            assert each.at <= NOW


@given(buckets(), policies)
def test_what_is_kept_by_name_or_held_by_a_node_stays(bucket: Bucket, policy: Policy) -> None:
    valid = {
        keep.checkpoint
        for keep in bucket.head.keeps.values()
        if keep.until is None or keep.until > NOW
    }

    assert not bucket.gone(policy) & (valid | bucket.in_use.keys())


@given(buckets(), policies)
def test_where_a_young_timeline_began_stays(bucket: Bucket, policy: Policy) -> None:
    young = {
        each.parent.checkpoint
        for each in bucket.head.timelines
        if each.parent and NOW - each.at < policy.min_age
    }

    assert not bucket.gone(policy) & young


@given(buckets(), policies, policies)
def test_a_policy_that_asks_for_more_keeps_more(
    bucket: Bucket, policy: Policy, more: Policy
) -> None:
    wider = Policy(
        **{name: max(getattr(policy, name), getattr(more, name)) for name in Policy.__slots__}
    )

    assert bucket.gone(wider) <= bucket.gone(policy)


@given(buckets(), policies)
def test_periods_only_ever_add(bucket: Bucket, policy: Policy) -> None:
    without = Policy(min_count=policy.min_count, min_age=policy.min_age)

    assert bucket.gone(policy) <= bucket.gone(without)


@given(buckets(), policies)
def test_each_period_is_represented_by_its_newest(bucket: Bucket, policy: Policy) -> None:
    forms = {"hourly": "%Y-%j-%H", "daily": "%Y-%j", "weekly": "%G-%V", "monthly": "%Y-%m"}
    gone = bucket.gone(policy)

    for name, form in forms.items():
        periods: dict[str, Listed] = {}
        for each in reversed(bucket.good("live", "retired")):
            periods.setdefault(each.at.strftime(form), each)
        chosen = list(periods.values())[: getattr(policy, name)]
        assert not {each.id for each in chosen} & gone


@given(buckets(), policies)
def test_a_second_run_finds_nothing_more_to_do(bucket: Bucket, policy: Policy) -> None:
    first = plan(bucket.judged(policy), now=NOW, reader_grace=GRACE)
    after = changed(bucket, first)

    second = plan(after.judged(policy), now=NOW, reader_grace=GRACE)

    assert second == Plan(retire=frozenset(), revive=frozenset(), forget=frozenset())


@given(buckets(), policies, st.data())
def test_what_goes_first_does_not_matter(
    bucket: Bucket, policy: Policy, data: st.DataObject
) -> None:
    """The rest are kept, or not, for the same reason as before."""
    before = {each.checkpoint.id: each.why for each in bucket.judged(policy)}
    gone = data.draw(st.sets(st.sampled_from(sorted(bucket.gone(policy)) or [an_id(99)])))
    fewer = replace(bucket, listed=tuple(each for each in bucket.listed if each.id not in gone))

    after = {each.checkpoint.id: each.why for each in fewer.judged(policy)}

    assert after == {id: why for id, why in before.items() if id not in gone}


@given(buckets(), policies, st.randoms(use_true_random=False))
def test_the_order_in_which_they_come_does_not_matter(
    bucket: Bucket, policy: Policy, chance: random.Random
) -> None:
    shuffled = list(bucket.listed)
    chance.shuffle(shuffled)

    assert replace(bucket, listed=tuple(shuffled)).judged(policy) == bucket.judged(policy)


@given(buckets(), policies, st.integers(min_value=0, max_value=20))
def test_what_is_older_does_not_change_what_becomes_of_the_newer(
    bucket: Bucket, policy: Policy, cut: int
) -> None:
    newer = replace(bucket, listed=bucket.listed[cut:])

    assert newer.judged(policy) == bucket.judged(policy)[: len(newer.listed)]


@given(buckets(), policies)
def test_a_plan_is_what_the_verdicts_say(bucket: Bucket, policy: Policy) -> None:
    verdicts = bucket.judged(policy)

    found = plan(verdicts, now=NOW, reader_grace=GRACE)

    for verdict in verdicts:
        each = verdict.checkpoint
        assert (each.id in found.revive) is (each.state == "retired" and verdict.keep)
        ripe = each.retired_at is not None and each.retired_at <= NOW - GRACE
        may_go = not verdict.keep
        assert (each.id in found.forget) is (may_go and each.state == "retired" and ripe)
        begins = each.state == "live" or each.retired_at is None or each.retired_at > NOW
        assert (each.id in found.retire) is (may_go and begins)
    changes = [*found.retire, *found.revive, *found.forget]
    assert len(changes) == len(set(changes))


@given(buckets(), policies)
def test_a_bad_one_goes_only_on_command_and_never_the_latest_or_a_kept_one(
    bucket: Bucket, policy: Policy
) -> None:
    verdicts = bucket.judged(policy)
    usual = plan(verdicts, now=NOW, reader_grace=GRACE)

    found = plan(verdicts, now=NOW, reader_grace=GRACE, bad=True)

    assert (found.retire, found.revive) == (usual.retire, usual.revive)
    kept = {
        keep.checkpoint
        for keep in bucket.head.keeps.values()
        if keep.until is None or keep.until > NOW
    }
    bad = {each.id for each in bucket.listed if each.state == "bad"}
    assert found.forget - usual.forget == bad - kept - {bucket.head.latest}
