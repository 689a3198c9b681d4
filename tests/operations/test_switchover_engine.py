"""What becomes of the engine in a switchover, and of what it wrote last."""

import os
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from ckptsync.errors import (
    Cancelled,
    CkptsyncError,
    EngineRunning,
    Fenced,
    ForeignWriter,
    HookFailed,
    NotPrimary,
    TimedOut,
    Unavailable,
)
from ckptsync.hooks import Hook
from ckptsync.model import Role, ignore
from ckptsync.operations.may_start import may_start
from ckptsync.operations.orders import Switchover
from ckptsync.operations.pipeline import Takeover
from ckptsync.operations.switchover import switchover
from ckptsync.operations.taking_back import bring_back, take_back
from ckptsync.repository import keys
from ckptsync.sources.directory import Directory
from tests.fakes.feldera_engine import Engine
from tests.fakes.stores import Call
from tests.operations.actors import Odd, take_over, write_as_a_clone
from tests.operations.races import unavailable
from tests.operations.switchovers import (
    a_site,
    hand_over,
    patiently,
    require_one_primary,
    takes,
)
from tests.operations.takeovers import HookLog, Site, Waits
from tests.pipelines import contents

_ORDER = Switchover(to="host-b", timeout=timedelta(hours=1), engine_stopped=True)


def test_what_the_engine_wrote_as_it_stopped_is_not_waited_for_to_be_quiet(disk: Path) -> None:
    site = a_site(disk)
    last = list(site.written)[-1]
    just_now = site.clock.time.timestamp() - 1
    for path in [*(site.a.root / last).rglob("*"), site.a.root / last]:
        os.utime(path, (just_now, just_now))
    site.written[last] = dict(contents(site.a.root / last))
    layout = Directory(site.a.root, now=site.clock, engine_running=lambda: False)
    assert last not in [each.engine.id for each in layout.checkpoints()]

    with site.a.running(site.store) as pipeline:
        stop = Waits(patiently(partial(takes, site, site.b)))
        switchover(
            replace(pipeline, stop=stop, layout=layout),
            _ORDER,
            withdraw=threading.Event(),
            progress=ignore,
        )

    site.require_restored(site.b, last)


# The gate


def _gate(site: Site) -> type[CkptsyncError] | Role:
    with site.a.running(site.store) as pipeline:
        try:
            return may_start(pipeline, fresh=False).role
        except CkptsyncError as error:
            return type(error)


def test_no_engine_may_start_while_the_pipeline_is_given_away(disk: Path) -> None:
    site = a_site(disk)
    seen = []

    def decide(_number: int, call: Call) -> None:
        if call == Call("put", keys.HEAD):
            seen.append((site.a.role, _gate(site)))

    hand_over(site, Odd(site.store, decide))

    assert seen == [(Role.PRIMARY, NotPrimary), (Role.RELEASED, Fenced)]


def test_the_hook_that_starts_the_engine_again_passes_the_gate(disk: Path) -> None:
    site = a_site(disk)
    log = HookLog(disk)
    site.a = replace(site.a, hooks=log.commands(Hook.ON_ACTIVATE))
    log.fail(Hook.ON_ACTIVATE)

    with pytest.raises(HookFailed):
        hand_over(site, meanwhile=patiently(), timeout=timedelta(0))

    assert _gate(site) is Role.PRIMARY


def test_where_an_engine_was_started_during_the_last_push_nothing_is_given_away(
    disk: Path,
) -> None:
    site = a_site(disk, "feldera")
    with ExitStack() as engines:

        def decide(_number: int, call: Call) -> None:
            if call == Call("put", keys.HEAD) and not started:
                started.append(engines.enter_context(Engine(site.a.root, seed=9)))

        started: list[Engine] = []
        with pytest.raises(EngineRunning, match="during the switchover"):
            hand_over(site, Odd(site.store, decide), patiently(partial(takes, site, site.b)))

    assert started
    assert site.head.epoch == 1
    assert require_one_primary(site) == "host-a"


# Interrupted before anything was released


@pytest.fixture
def stopping(disk: Path) -> tuple[Site, HookLog]:
    site, log = a_site(disk), HookLog(disk)
    stops = ("sh", "-c", f"echo on_release >> '{disk}/hooks'; sleep 60")
    site.a = replace(site.a, hooks={**log.commands(Hook.ON_ACTIVATE), Hook.ON_RELEASE: stops})
    with site.a.running(site.store) as running:
        pipeline = replace(running, stop=threading.Event())

        def interrupt() -> None:
            while not log.names() and not done.wait(0.01):
                pass
            pipeline.stop.set()

        done = threading.Event()
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            with pytest.raises(Cancelled):
                switchover(pipeline, _ORDER, withdraw=threading.Event(), progress=ignore)
        finally:
            done.set()
            thread.join()
    assert log.names() == ["on_release"]
    assert site.a.role is Role.PRIMARY
    assert _gate(site) is NotPrimary
    return site, log


def test_a_command_that_is_stopped_starts_the_engine_again(stopping: tuple[Site, HookLog]) -> None:
    site, log = stopping
    stop = threading.Event()
    stop.set()

    with site.a.running(site.store) as pipeline:
        bring_back(replace(pipeline, stop=stop))

    assert log.names() == ["on_release", "on_activate"]
    assert require_one_primary(site) == "host-a"


def test_a_daemon_goes_on_with_what_was_stopped(stopping: tuple[Site, HookLog]) -> None:
    site, log = stopping

    assert site.a.carry_on(site.store) is Role.PRIMARY

    assert log.names() == ["on_release", "on_activate"]
    assert require_one_primary(site) == "host-a"


def test_what_was_stopped_can_be_cancelled(stopping: tuple[Site, HookLog]) -> None:
    site, log = stopping

    with site.a.running(site.store) as pipeline:
        assert take_back(pipeline) is Role.PRIMARY

    assert log.names() == ["on_release", "on_activate"]
    assert require_one_primary(site) == "host-a"


def test_who_was_displaced_meanwhile_starts_no_engine(stopping: tuple[Site, HookLog]) -> None:
    site, log = stopping
    take_over(site.store)

    with site.a.running(site.store) as pipeline:
        with pytest.raises(Fenced):
            bring_back(pipeline)
        assert pipeline.state.handovers.current() is None

    assert log.names() == ["on_release"]


@pytest.mark.parametrize("unverified", [True, False])
def test_while_the_bucket_is_away_the_engine_starts_again_as_the_gate_would_let_it(
    stopping: tuple[Site, HookLog], unverified: bool
) -> None:
    site, log = stopping
    a = replace(site.a, takeover=Takeover(start_unverified=unverified))
    away = Odd(site.store, lambda _number, call: unavailable(call))

    with a.running(away) as pipeline, suppress(Unavailable):
        bring_back(pipeline)
        assert unverified

    assert log.names() == ["on_release", "on_activate"][: 1 + unverified]
    assert site.a.carry_on(site.store) is Role.PRIMARY
    assert log.names() == ["on_release", "on_activate"]


# Taken back


def test_the_write_of_a_copy_is_not_written_over_by_taking_back(disk: Path) -> None:
    site = a_site(disk)

    def copied() -> None:
        write_as_a_clone(site.store)
        writes.append(site.head.writer.write_id)
        site.clock.passes(hours=2)

    writes: list[str] = []
    with pytest.raises(ForeignWriter, match="a copy of this node"):
        hand_over(site, meanwhile=patiently(lambda: None, copied))

    assert site.head.writer.write_id == writes[0]
    assert site.a.role is Role.RELEASED


def test_a_clock_that_is_set_back_gives_the_other_node_no_more_than_its_time(disk: Path) -> None:
    site = a_site(disk)
    passed = timedelta(0)

    def meanwhile(seconds: float) -> None:
        nonlocal passed
        if not passed:
            site.clock.passes(days=-3650)
        site.clock.passes(seconds=60)
        passed += timedelta(minutes=1)
        assert passed <= timedelta(minutes=12), f"it waits on, {seconds} s at a time"

    with pytest.raises(TimedOut):
        hand_over(site, meanwhile=meanwhile, timeout=timedelta(minutes=10))

    assert require_one_primary(site) == "host-a"
