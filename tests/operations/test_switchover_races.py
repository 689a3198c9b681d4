"""Switchovers whose replies get lost, whose nodes crash, and with which somebody meddles."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

import pytest

from ckptsync.errors import Cancelled, Fenced, PreconditionFailed, Refused, TimedOut
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.repository import keys
from ckptsync.stores.base import Body, Expect, ObjectStore, Version
from tests.fakes.stores import Call, Crash, FaultyStore
from tests.operations.actors import LOST, Late, Odd, Stored, Verdict, before
from tests.operations.races import READ, SWAP, unavailable
from tests.operations.switchovers import (
    a_site,
    hand_over,
    patiently,
    require_one_primary,
    takes,
)
from tests.operations.takeovers import HookLog, Site, Waits, crashes

T = TypeVar("T")
RELEASE, TAKE_BACK = 0, 1
_FOR_LONG: Final = (lambda: None,) * 8  # more pauses than a swap without an answer is looked for
_REFUSED: Final = PreconditionFailed("s3://dr/orders", "replace", keys.HEAD, "it has changed")


# Replies that get lost


@pytest.mark.parametrize("verdict", [LOST, unavailable(SWAP), Stored(_REFUSED), _REFUSED], ids=str)
@pytest.mark.parametrize("swap", [RELEASE, TAKE_BACK], ids=["release", "take back"])
def test_whatever_the_answer_to_a_swap_there_is_one_primary(
    disk: Path, swap: int, verdict: Verdict
) -> None:
    site = a_site(disk)
    site.push(site.a)  # so that the first swap is the release
    swaps = 0

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal swaps
        if call != SWAP:
            return None
        swaps += 1
        return verdict if swaps == swap + 1 else None

    odd = Odd(site.store, decide)
    if swap == RELEASE:
        hand_over(site, odd)
        assert require_one_primary(site) == "host-b"
    else:
        with pytest.raises(TimedOut):
            hand_over(site, odd, patiently(lambda: site.clock.passes(hours=2)))
        assert swaps > TAKE_BACK
        assert require_one_primary(site) == "host-a"


@pytest.mark.parametrize("swap", [RELEASE, TAKE_BACK], ids=["release", "take back"])
def test_a_swap_that_arrives_after_it_was_missed_makes_no_second_primary(
    disk: Path, swap: int
) -> None:
    site = a_site(disk)
    site.push(site.a)
    late = Late(site.store, swap=swap)
    if swap == RELEASE:
        hand_over(site, late)
        assert require_one_primary(site) == "host-b"
    else:
        with pytest.raises(TimedOut):
            hand_over(site, late, patiently(lambda: site.clock.passes(hours=2)))
        assert late.calls.count(SWAP) > TAKE_BACK
        assert require_one_primary(site) == "host-a"


@pytest.mark.parametrize("stored", [True, False])
def test_a_release_of_which_nobody_can_tell_starts_no_engine_beside_another(
    disk: Path, stored: bool
) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_ACTIVATE))
    site.push(site.a)
    away: bool | None = None  # not yet

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal away
        if call == SWAP and away is None:
            away = True
            return LOST if stored else unavailable(call)
        return unavailable(call) if away and call in (SWAP, READ) else None

    def comes_back() -> None:
        nonlocal away
        away = False
        assert log.names() == [], "the engine was started, though the other node may take over"
        assert site.a.role is not Role.PRIMARY

    report = hand_over(
        site,
        Odd(site.store, decide),
        patiently(*_FOR_LONG, comes_back, lambda: takes(site, site.b)),
    )

    assert report.node == "host-b"
    assert log.names() == []
    assert require_one_primary(site) == "host-b"


def test_a_release_on_its_way_cannot_arrive_after_it_was_taken_back(disk: Path) -> None:
    """Its swap is not answered, and is carried out when nobody expects it any more."""
    site = a_site(disk)
    site.push(site.a)
    slow = Slow(site.store)

    def comes_back() -> None:
        slow.away = False
        site.clock.passes(hours=2)

    with pytest.raises(TimedOut):
        hand_over(site, slow, patiently(*_FOR_LONG, comes_back))

    assert slow.arrive is not None
    with pytest.raises(PreconditionFailed):
        slow.arrive()
    takes(site, site.b)
    assert require_one_primary(site) == "host-a"


class Slow(FaultyStore):
    """Goes away as head is first swapped; that swap arrives when a test lets it."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.away = False
        self.arrive: Callable[[], object] | None = None

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        if key == keys.HEAD and self.arrive is None:
            self.arrive = partial(self._inner.put, key, bytes(body), expect=expect)
            self.away = True
        return super().put(key, body, expect=expect)

    def _call(self, method: str, key: str, action: Callable[[], T]) -> T:
        if self.away:
            raise unavailable(Call(method, key))
        return super()._call(method, key, action)


# Crashes


def test_a_crash_at_any_call_of_the_one_that_gives_leaves_one_primary(disk: Path) -> None:
    outcomes = set()

    def give(each: Site, store: ObjectStore) -> None:
        hand_over(each, store, patiently(lambda: takes(each, each.b)))

    for left in crashes(a_site(disk), disk, give):
        left.a.carry_on(left.store, stop=_waits(partial(takes, left, left.b)))

        outcomes.add(require_one_primary(left))
        assert left.a.start(left.store) is left.a.role
    assert outcomes == {"host-a", "host-b"}


def test_a_crash_at_any_call_of_the_one_that_takes_leaves_one_primary(disk: Path) -> None:
    """It crashes once, starts again and goes on; meanwhile the other one waits."""
    for number in count():
        for crash_after in (False, True):
            site = a_site(disk / f"{number}-{crash_after}")
            faulty = FaultyStore(site.store, crash_at=number, crash_after=crash_after)

            hand_over(site, meanwhile=patiently(partial(_take, site, faulty)))

            site.b.carry_on(site.store)
            assert require_one_primary(site) == "host-b"
            if number >= len(faulty.calls):
                assert number >= 8
                return
            if faulty.calls[number].method != "put":
                break


def _take(site: Site, faulty: FaultyStore) -> None:
    """With a store that crashes at the first try."""
    if not faulty.calls:
        with suppress(Crash):
            site.b.activate(faulty, site.head.write_id)
    elif site.b.carry_on(site.store) is Role.STANDBY:
        takes(site, site.b)


def test_a_crash_while_it_is_taken_back_is_gone_on_from(disk: Path) -> None:
    def give(each: Site, store: ObjectStore) -> None:
        each.b.beat(each.store)  # the clock is that of all the copies
        with pytest.raises(TimedOut):
            hand_over(each, store, patiently(lambda: each.clock.passes(hours=2)))

    for left in crashes(a_site(disk), disk, give):
        with suppress(TimedOut):
            left.a.carry_on(left.store, stop=_waits(partial(left.clock.passes, hours=2)))

        assert require_one_primary(left) == "host-a"


def _waits(*steps: Callable[[], object]) -> threading.Event:
    return Waits(patiently(*steps))


def test_what_was_withdrawn_before_a_crash_is_not_offered_again(disk: Path) -> None:
    def give(each: Site, store: ObjectStore) -> None:
        withdraw = threading.Event()
        withdrawn.clear()

        def change_of_mind() -> None:
            withdrawn.append(True)
            withdraw.set()

        with pytest.raises(Cancelled):
            hand_over(each, store, patiently(change_of_mind), withdraw=withdraw)

    withdrawn: list[bool] = []
    outcomes = set()
    for left in crashes(a_site(disk), disk, give):
        node = left.b
        with suppress(TimedOut):
            left.a.carry_on(left.store, stop=_waits(partial(takes, left, node)))

        outcomes.add((bool(withdrawn), require_one_primary(left)))
    assert outcomes == {(False, "host-a"), (False, "host-b"), (True, "host-a")}


# Races


def races(
    disk: Path,
    give: Callable[[Site, ObjectStore, threading.Event], object],
    meddle: Callable[[Site, threading.Event], object],
) -> list[str]:
    """Who is primary after a switchover with whose every call in turn somebody meddles."""
    outcomes: list[str] = []
    origin = a_site(disk)
    for number in count():
        site, withdraw = origin.copied_to(disk / f"race-{number}"), threading.Event()
        odd = Odd(site.store, before(number, partial(meddle, site, withdraw)))
        site.b.beat(site.store)  # the clock is that of all the copies
        try:
            give(site, odd, withdraw)
        except (Cancelled, TimedOut, Fenced, Refused):
            assert site.a.role is Role.PRIMARY
        if number >= len(odd.calls):
            assert number >= 8
            return outcomes
        for node in site.nodes:
            if node.role is Role.PRIMARY and not node.writes_to(site.store):
                assert node.start(site.store) is Role.FENCED
        outcomes.append(require_one_primary(site))
    raise AssertionError


def until_taken(site: Site, store: ObjectStore, withdraw: threading.Event) -> None:
    hand_over(site, store, patiently(lambda: takes(site, site.b)), withdraw=withdraw)


def until_taken_back(site: Site, store: ObjectStore, withdraw: threading.Event) -> None:
    hand_over(site, store, patiently(withdraw.set), withdraw=withdraw)


def test_at_each_call_it_may_be_withdrawn(disk: Path) -> None:
    outcomes = races(disk, until_taken, lambda _site, withdraw: withdraw.set())

    assert set(outcomes) == {"host-a", "host-b"}


def test_at_each_call_its_time_may_be_up(disk: Path) -> None:
    def passes(site: Site, _withdraw: threading.Event) -> None:
        site.clock.passes(hours=9)
        site.b.beat(site.store)

    assert set(races(disk, until_taken, passes)) == {"host-a", "host-b"}


def test_at_each_call_while_it_is_taken_back_it_may_be_taken(disk: Path) -> None:
    outcomes = races(disk, until_taken_back, lambda site, _withdraw: takes(site, site.b))

    assert set(outcomes) == {"host-a", "host-b"}


def test_at_each_call_a_third_node_may_take_over_by_force(disk: Path) -> None:
    outcomes = races(
        disk, until_taken, lambda site, _withdraw: site.c.activate(site.store, "by-c", force=True)
    )

    assert set(outcomes) == {"host-c"}
