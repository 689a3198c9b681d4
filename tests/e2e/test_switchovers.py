"""Planned switchovers between two daemons: one of the two goes on, and nothing is lost."""

import signal
from collections.abc import Iterator
from typing import Final

import pytest

from ckptsync.model import Role
from tests.e2e.conftest import MakePair
from tests.e2e.daemons import daemon, eventually
from tests.e2e.engines import HostEngine, engine
from tests.e2e.pair import (
    HOLD,
    Pair,
    await_warm,
    events,
    kind,
    push,
    warm,
    with_hooks,
    write_checkpoint,
)
from tests.operations.invariants import require_sound

_SWITCH: Final = ("switchover", "--to", "host-b", "--yes", "--json")


@pytest.fixture
def pair(make_pair: MakePair) -> Pair:
    return make_pair("directory")


@pytest.fixture
def of_a(pair: Pair) -> Iterator[HostEngine]:
    """The engine of host a, and the host with the hooks that start and stop it."""
    with engine(pair.a) as made:
        yield made


def test_a_switchover_hands_over_what_the_engine_wrote_last(make_pair: MakePair) -> None:
    pair = make_pair("s3")
    with engine(pair.a) as of_a, engine(pair.b) as of_b:
        a, b = of_a.site, of_b.site
        of_a.start()
        with daemon(a) as on_a, daemon(b) as on_b:
            pair.await_life(b)
            done = a.run("switchover", "--yes", "--json")
            eventually(lambda: on_b.snapshot().role is Role.PRIMARY)
            last = list(of_a.written)[-1]

            assert done.code == 0, done.err
            assert (done.document["node"], done.document["epoch"]) == ("host-b", 2)
            assert (of_a.runs, of_b.runs) == (False, True)
            assert (of_b.resumed["uuid"], of_b.resumed["files"]) == (last, of_a.written[last])
            eventually(lambda: pair.latest in of_b.written)
            eventually(lambda: on_a.snapshot().role is Role.STANDBY and on_a.snapshot().warm)
            assert not events(on_a, "role.fenced")
            committed = [each["checkpoint"] for each in events(on_a, "checkpoint.committed")]
    assert done.document["checkpoint"] == committed[-1]
    pair.require_kept(committed)
    require_sound(pair.store)


def test_a_switchover_that_nobody_takes_up_in_time_is_taken_back(
    pair: Pair, of_a: HostEngine
) -> None:
    a, b = of_a.site, pair.b
    of_a.start()
    with daemon(a) as on_a, daemon(b) as on_b:
        pair.await_life(b)
        on_b.signal(signal.SIGSTOP)
        done = a.run(*_SWITCH, "--timeout", "1s")
        on_b.signal(signal.SIGCONT)

        assert (done.code, kind(done)) == (15, "TimedOut")
        assert (on_a.snapshot().role, of_a.runs) == (Role.PRIMARY, True)
        resumed = of_a.resumed["uuid"]
        eventually(lambda: (held := warm(on_b)) and held > resumed)
        assert on_b.snapshot().role is Role.STANDBY
    assert (pair.head.epoch, pair.head.writer.state) == (1, "active")
    require_sound(pair.store)


def test_a_switchover_can_be_cancelled_while_nobody_has_taken_it_up(
    pair: Pair, of_a: HostEngine
) -> None:
    a, b = of_a.site, pair.b
    of_a.start()
    with daemon(a) as on_a, daemon(b) as on_b:
        pair.await_life(b)
        on_b.signal(signal.SIGSTOP)
        with a.start(*_SWITCH, "--timeout", "1h") as asked:
            eventually(lambda: pair.head.writer.state == "released")
            assert (of_a.runs, a.run("may-start").code) == (False, 11)
            cancelled = a.run("switchover", "--cancel", "--json")
            switched = asked.done()
        on_b.signal(signal.SIGCONT)

        assert (cancelled.code, cancelled.document["cancelled"]) == (0, True)
        assert (switched.code, kind(switched)) == (130, "Cancelled")
        assert (on_a.snapshot().role, of_a.runs) == (Role.PRIMARY, True)
        assert (on_b.snapshot().role, pair.head.writer.state) == (Role.STANDBY, "active")


def test_a_primary_killed_after_it_has_released_is_a_standby_when_it_returns(
    pair: Pair, of_a: HostEngine
) -> None:
    a, b = of_a.site, pair.b
    of_a.start()
    with daemon(b) as on_b:
        with daemon(a) as on_a:
            pair.await_life(b)
            on_b.signal(signal.SIGSTOP)
            with a.start(*_SWITCH) as asked:
                eventually(lambda: pair.head.writer.state == "released")
                on_a.kill()
                assert asked.done().code == 16
        on_b.signal(signal.SIGCONT)
        eventually(lambda: on_b.snapshot().role is Role.PRIMARY)
        last = list(of_a.written)[-1]

        assert pair.latest == last
        with daemon(a) as on_a:
            eventually(lambda: on_a.snapshot().role is Role.STANDBY and on_a.snapshot().warm)
            assert not events(on_a, "role.fenced")
            assert a.run("may-start").code == 13
            second = write_checkpoint(b)
            await_warm(on_a, second)
    assert not of_a.runs


def test_a_primary_killed_while_its_engine_stops_goes_on_when_it_returns(pair: Pair) -> None:
    a = with_hooks(pair.a, on_release=HOLD, on_activate="touch started")
    b = pair.b
    push(a)
    with daemon(b) as on_b:
        with daemon(a) as on_a:
            pair.await_life(b)
            with a.start(*_SWITCH) as asked:
                eventually((a.home / "held").exists)
                on_a.kill()
                (a.home / "go").touch()
                assert asked.done().code == 16
        with daemon(a) as on_a:
            eventually((a.home / "started").exists)
            pushed = write_checkpoint(a)
            eventually(lambda: pair.latest == pushed)

            assert (on_a.snapshot().role, on_a.snapshot().switching) == (Role.PRIMARY, None)
        assert on_b.snapshot().role is Role.STANDBY
    assert (pair.head.epoch, pair.head.writer.state) == (1, "active")


def test_a_standby_killed_while_it_takes_over_does_so_when_it_returns(
    pair: Pair, of_a: HostEngine
) -> None:
    a, b = of_a.site, with_hooks(pair.b, on_activate=HOLD)
    of_a.start()
    with daemon(a) as on_a:
        with daemon(b) as on_b:
            pair.await_life(b)
            assert a.run(*_SWITCH).code == 0
            eventually((b.home / "held").exists)
            on_b.kill()
            (b.home / "go").touch()
        with daemon(b) as on_b:
            eventually(lambda: on_b.snapshot().role is Role.PRIMARY)
            eventually(lambda: on_a.snapshot().role is Role.STANDBY)
    assert (pair.head.epoch, pair.head.writer.node) == (2, "host-b")
    assert pair.latest == list(of_a.written)[-1]
