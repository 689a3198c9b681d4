"""A planned switchover: one node gives its pipeline away, another takes it, and nothing is lost."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

import pytest

from ckptsync.errors import (
    Cancelled,
    CheckpointNotFound,
    CkptsyncError,
    EngineRunning,
    Fenced,
    HookFailed,
    NothingToDo,
    NotPrimary,
    PreconditionFailed,
    Refused,
    RollbackDetected,
    TimedOut,
    Unavailable,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.operations.roles import become
from ckptsync.operations.switchover import SwitchedOver
from ckptsync.operations.taking_back import take_back
from ckptsync.repository import keys
from ckptsync.stores.base import Body, Expect, ObjectStore, Version
from tests.fakes.feldera_engine import Engine
from tests.fakes.stores import Call, Crash, FaultyStore
from tests.operations.actors import LOST, Late, Odd, Stored, Verdict, before, take_over
from tests.operations.races import READ, SWAP, unavailable
from tests.operations.takeovers import HookLog, Node, Site, Waits, crashes
from tests.pipelines import contents, snapshot

T = TypeVar("T")
RELEASE, TAKE_BACK = 0, 1
_REFUSED: Final = PreconditionFailed("s3://dr/orders", "replace", keys.HEAD, "it has changed")
_PATIENCE: Final = 20  # pauses; a wait that takes longer never ends

Meanwhile = Callable[[float], object]


def a_site(disk: Path, layout: str = "directory") -> Site:
    """Host-a is primary with a checkpoint that is not pushed; host-b and host-c are alive."""
    site = Site.at(disk / "site", layout)
    site.push_new(site.a)
    site.a.start(site.store)
    for node in (site.b, site.c):
        node.poll(site.store)
        node.probe(site.store)
        node.beat(site.store)
    site.write(site.a)
    return site


@pytest.fixture(params=["directory", "feldera"])
def site(disk: Path, request: pytest.FixtureRequest) -> Site:
    return a_site(disk, request.param)


def _go_back(site: Site) -> None:
    old = site.store.get(keys.HEAD, limit=1 << 20).data
    site.push(site.a)
    site.store.put(keys.HEAD, old)


def takes(site: Site, node: Node) -> None:
    """What the daemon of a standby does: it polls, and takes what was released to it."""
    head = node.poll(site.store).head
    assert head is not None
    if head.writer.released_to == node.node:
        node.activate(site.store, head.write_id)


def patiently(*steps: Callable[[], object]) -> Meanwhile:
    """One step at each pause, the last of them at every further one."""
    paused = 0

    def meanwhile(_seconds: float) -> None:
        nonlocal paused
        assert paused < _PATIENCE, "it waits for ever"
        if steps:
            steps[min(paused, len(steps) - 1)]()
        paused += 1

    return meanwhile


def hand_over(
    site: Site,
    store: ObjectStore | None = None,
    meanwhile: Meanwhile | None = None,
    *,
    timeout: timedelta = timedelta(hours=1),
    withdraw: threading.Event | None = None,
) -> SwitchedOver:
    return site.a.hand_over(
        store or site.store,
        "host-b",
        meanwhile or patiently(lambda: takes(site, site.b)),
        timeout=timeout,
        withdraw=withdraw,
    )


def primaries(site: Site) -> list[str]:
    return [node.node for node in site.nodes if node.role is Role.PRIMARY]


def require_one_primary(site: Site) -> str:
    """By its own word and by head's; what was pushed last is what it goes on from."""
    site.require_sound()
    found = primaries(site)
    assert len(found) == 1, found
    (node,) = (each for each in site.nodes if each.node == found[0])
    assert node.writes_to(site.store)
    assert site.head.latest == site.head.checkpoints[-1].id
    if node is not site.a:
        site.require_restored(node, site.head.checkpoints[-1].engine_id)
    site.push_new(node)
    site.require_sound()
    with node.running(site.store) as pipeline:
        assert pipeline.state.handovers.current() is None
    return found[0]


def test_the_last_checkpoint_is_pushed_and_the_other_node_goes_on_from_it(site: Site) -> None:
    last = list(site.written)[-1]

    report = hand_over(site)

    assert (report.node, report.epoch) == ("host-b", 2)
    assert report.checkpoint == site.head.latest
    site.require_restored(site.b, last)
    assert site.a.told() == [Role.PRIMARY, Role.RELEASED, Role.STANDBY]
    assert require_one_primary(site) == "host-b"


def test_the_old_primary_is_a_standby_with_nothing_to_quarantine(site: Site) -> None:
    before = contents(site.a.root)

    hand_over(site)

    assert contents(site.a.root) == before
    assert not (site.a.work / "quarantine").exists()
    site.push_new(site.b)
    assert site.a.poll(site.store).warm is not None
    assert site.a.start(site.store) is Role.STANDBY


def test_forth_and_back_and_forth_again(site: Site) -> None:
    one, other = site.a, site.b
    for turn in range(4):
        other.poll(site.store)
        other.beat(site.store)
        site.write(one)
        last = list(site.written)[-1]

        one.hand_over(site.store, other.node, patiently(partial(takes, site, other)))

        site.require_restored(other, last)
        assert site.head.epoch == turn + 2
        site.push_new(other)
        site.require_sound()
        one, other = other, one


def test_what_is_released_is_named(site: Site) -> None:
    seen = []

    def look() -> None:
        seen.append((site.head.writer.state, site.head.writer.released_to, site.a.role))
        takes(site, site.b)

    hand_over(site, meanwhile=patiently(look))

    assert seen == [("released", "host-b", Role.RELEASED)]
    assert site.head.writer.released_to is None


# Hooks and the engine


def test_the_hook_on_release_lets_the_engine_write_its_last_checkpoint(disk: Path) -> None:
    site = a_site(disk)
    command = f"cp -a '{site.a.root}/step-2' '{site.a.root}/step-3'"
    site.a = replace(site.a, hooks={Hook.ON_RELEASE: ("sh", "-c", command)})

    report = hand_over(site)

    assert (site.b.root / "step-3").exists()
    assert site.head.checkpoints[-1].engine_id == "step-3"
    assert report.checkpoint == site.head.checkpoints[-1].id


def test_a_hook_that_fails_leaves_everything_as_it_was(disk: Path) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_RELEASE, Hook.ON_ACTIVATE))
    log.fail(Hook.ON_RELEASE)
    bucket = snapshot(site.store)

    with pytest.raises(HookFailed):
        hand_over(site)

    assert snapshot(site.store) == bucket
    assert log.names() == ["on_release", "on_activate"], "the engine may have been stopped"
    assert require_one_primary(site) == "host-a"


def test_an_engine_that_does_not_stop_keeps_its_node_primary(disk: Path) -> None:
    site = a_site(disk, "feldera")
    bucket = snapshot(site.store)

    with Engine(site.a.root, seed=7), pytest.raises((TimedOut, EngineRunning)):
        hand_over(site, timeout=timedelta(0))

    assert snapshot(site.store) == bucket
    assert site.a.role is Role.PRIMARY
    with site.a.running(site.store) as pipeline:
        assert pipeline.state.handovers.current() is None


def test_an_engine_that_takes_its_time_to_stop_is_waited_for(disk: Path) -> None:
    site = a_site(disk, "feldera")
    site.a = replace(site.a, hooks={Hook.ON_RELEASE: ("true",)})
    engine = Engine(site.a.root, seed=7)
    engine.start()

    report = hand_over(
        site, meanwhile=patiently(lambda: None, engine.stop, lambda: takes(site, site.b))
    )

    assert report.node == "host-b"


def test_where_there_is_nothing_to_push_nothing_is_given_away(disk: Path) -> None:
    site = Site.at(disk)
    site.a.start(site.store)
    site.b.poll(site.store)
    site.b.beat(site.store)
    site.a.root.mkdir()

    with pytest.raises(CheckpointNotFound):
        hand_over(site)

    assert site.a.role is Role.PRIMARY
    assert site.head.writer.state == "active"


# Refused


def test_only_a_living_standby_is_given_the_pipeline(disk: Path) -> None:
    site = a_site(disk)
    bucket = snapshot(site.store)

    def refused(to: str, why: str) -> None:
        with pytest.raises(Refused, match=why) as caught:
            site.a.hand_over(site.store, to, patiently())
        assert "ckptsync topology orders" in (caught.value.hint or "")
        assert caught.value.exit_code == 13

    refused("host-a", "is this one")
    refused("host-d", "gives no sign of life")
    site.clock.passes(seconds=30)
    refused("host-b", "gives no sign of life")
    assert snapshot(site.store) == bucket
    site.store.put("nodes/host-b.json", b"{")
    refused("host-b", "gives no sign of life")
    with site.b.running(site.store) as pipeline:
        become(pipeline, Role.ACTIVATION_FAILED)
    site.b.beat(site.store)
    refused("host-b", "is activation_failed, not a standby")
    assert site.a.role is Role.PRIMARY


@pytest.mark.parametrize("node", ["b", "c"])
def test_only_the_primary_gives_the_pipeline_away(disk: Path, node: str) -> None:
    site = a_site(disk)

    with pytest.raises(NotPrimary):
        getattr(site, node).hand_over(site.store, "host-a", patiently())


@pytest.mark.parametrize("meddle", [lambda site: take_over(site.store), _go_back])
def test_where_head_speaks_against_this_node_its_engine_is_left_alone(
    disk: Path, meddle: Callable[[Site], object]
) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(*Hook))
    meddle(site)

    with pytest.raises((Fenced, RollbackDetected)):
        hand_over(site)

    assert log.names() == []


def test_a_primary_that_is_displaced_before_its_last_push_starts_no_engine(disk: Path) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_RELEASE, Hook.ON_ACTIVATE))

    def overtake() -> None:
        if log.names():  # the engine was stopped
            site.c.activate(site.store, "by-c", force=True)

    odd = Odd(site.store, lambda _number, _call: overtake() if site.head.epoch == 1 else None)
    with pytest.raises(Fenced, match="node 'host-c'"):
        hand_over(site, odd)

    assert log.names() == ["on_release"]
    assert site.a.carry_on(site.store) is Role.FENCED
    site.require_sound()


# Taken back


@pytest.mark.parametrize("why", ["withdrawn", "late"])
def test_what_nobody_took_is_taken_back_and_gone_on_with(disk: Path, why: str) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_ACTIVATE))
    withdraw = threading.Event()

    def end() -> None:
        if why == "withdrawn":
            withdraw.set()
        else:
            site.clock.passes(hours=2)

    with pytest.raises(Cancelled if why == "withdrawn" else TimedOut, match="host-b"):
        hand_over(site, meanwhile=patiently(end), withdraw=withdraw)

    assert log.names() == ["on_activate"]
    assert site.head.epoch == 1
    assert site.head.timelines == (site.head.timelines[0],)
    assert site.a.told() == [Role.PRIMARY, Role.RELEASED, Role.PRIMARY]
    takes(site, site.b)
    assert require_one_primary(site) == "host-a"


def test_the_other_node_gets_its_time_however_long_the_last_push_took(disk: Path) -> None:
    site = a_site(disk)
    manifests = 0

    def decide(_number: int, call: Call) -> None:
        nonlocal manifests
        if call.method == "put" and call.key.startswith(keys.MANIFESTS):
            manifests += 1
            site.clock.passes(hours=5)

    site.b = replace(site.b, now=lambda: site.clock.time)

    def alive() -> None:
        site.b.beat(site.store)
        takes(site, site.b)

    report = hand_over(site, Odd(site.store, decide), patiently(lambda: None, alive))

    assert manifests == 1
    assert report.node == "host-b"


def test_a_hook_that_cannot_start_the_engine_again_does_not_keep_it_from_being_primary(
    disk: Path,
) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_ACTIVATE))
    log.fail(Hook.ON_ACTIVATE)

    with pytest.raises(TimedOut):
        hand_over(site, meanwhile=patiently(), timeout=timedelta(seconds=-1))

    assert require_one_primary(site) == "host-a"


def test_a_command_takes_back_what_no_daemon_has_in_hand(disk: Path) -> None:
    site = a_site(disk)
    _stop_while_released(site)

    with site.a.running(site.store) as pipeline:
        assert take_back(pipeline) is Role.PRIMARY

    assert require_one_primary(site) == "host-a"
    with site.a.running(site.store) as pipeline, pytest.raises(NothingToDo):
        take_back(pipeline)


def test_what_was_taken_meanwhile_is_not_taken_back(disk: Path) -> None:
    site = a_site(disk)
    _stop_while_released(site)
    takes(site, site.b)

    with site.a.running(site.store) as pipeline:
        assert take_back(pipeline) is Role.STANDBY
        assert pipeline.state.handovers.current() is None

    assert require_one_primary(site) == "host-b"


def _stop_while_released(site: Site) -> None:
    def kill() -> None:
        raise Crash

    with pytest.raises(Crash):
        hand_over(site, meanwhile=patiently(kill))
    assert site.head.writer.state == "released"


def test_while_the_bucket_is_away_nobody_can_tell_so_it_waits(disk: Path) -> None:
    site = a_site(disk)
    away = True

    def decide(_number: int, call: Call) -> Verdict:
        gone = away and site.head.writer.state == "released"
        return unavailable(call) if gone else None

    def comes_back() -> None:
        nonlocal away
        away = False
        site.clock.passes(hours=2)

    wait = patiently(lambda: site.clock.passes(hours=2), lambda: None, comes_back)
    with pytest.raises(TimedOut):
        hand_over(site, Odd(site.store, decide), wait)

    assert require_one_primary(site) == "host-a"


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
            hand_over(site, odd, patiently(), timeout=timedelta(seconds=-1))
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
            hand_over(site, late, patiently(), timeout=timedelta(seconds=-1))
        assert require_one_primary(site) == "host-a"


@pytest.mark.parametrize("stored", [True, False])
def test_a_release_of_which_nobody_can_tell_starts_no_engine_beside_another(
    disk: Path, stored: bool
) -> None:
    log, site = HookLog(disk), a_site(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_ACTIVATE))
    site.push(site.a)
    away = False

    def decide(_number: int, call: Call) -> Verdict:
        nonlocal away
        if call == SWAP and not away:
            away = True
            return LOST if stored else unavailable(call)
        return unavailable(call) if away and call in (SWAP, READ) else None

    def comes_back() -> None:
        nonlocal away
        away = False
        assert log.names() == [], "the engine was started, though the other node may take over"
        assert site.a.role is not Role.PRIMARY
        decide_no_more()

    odd = Odd(site.store, decide)

    def decide_no_more() -> None:
        odd._decide = lambda _number, _call: None

    wait = patiently(comes_back, lambda: takes(site, site.b))
    report = hand_over(site, odd, wait)

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
        hand_over(site, slow, patiently(comes_back))

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
        with pytest.raises(TimedOut):
            hand_over(each, store, patiently(), timeout=timedelta(seconds=-1))

    for left in crashes(a_site(disk), disk, give):
        try:
            left.a.carry_on(left.store, stop=_waits())
        except TimedOut:
            assert left.a.role is Role.PRIMARY

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

    assert set(outcomes) == {"host-c", "host-b"} or set(outcomes) == {"host-c"}


def test_errors_of_a_bucket_that_fails_for_good_are_raised(disk: Path) -> None:
    site = a_site(disk)

    with pytest.raises(Unavailable):
        hand_over(site, Odd(site.store, lambda _number, call: unavailable(call)))

    with pytest.raises(CkptsyncError):
        hand_over(
            site, Odd(site.store, lambda number, call: unavailable(call) if number > 4 else None)
        )
    assert site.a.role is Role.PRIMARY
