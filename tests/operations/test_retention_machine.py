"""Pushes, prunes, keeps, damage, takeovers, crashes in any order: nothing is lost, nothing leaks.

CKPTSYNC_RETENTION=2000 runs that many random histories of each kind instead of the few that are
always the same.
"""

import os
import shutil
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from ckptsync.operations.orders import Prune
from ckptsync.repository import catalog, pages
from ckptsync.repository.retention import Policy
from tests.operations import retention_prunes as prunes
from tests.operations.retention_prunes import Stalls
from tests.operations.retention_world import Dies, World
from tests.operations.takeovers import Node
from tests.pipelines import CHUNK, KIB, noise

_HISTORIES: Final = int(os.environ.get("CKPTSYNC_RETENTION", "0"))
"""Random ones."""
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_POLICIES: Final = st.sampled_from(
    [
        Policy(min_count=1, min_age=timedelta(0)),
        Policy(min_count=0, min_age=_HOUR),
        Policy(min_count=2, min_age=6 * _HOUR),
        Policy(min_count=3, min_age=2 * _DAY),
        Policy(min_count=2, min_age=30 * _DAY),
        Policy(min_count=1, min_age=_HOUR, hourly=3, daily=2),
        Policy(min_count=1, min_age=timedelta(0), daily=3, weekly=2, monthly=2),
    ]
)
_WHILES: Final = st.one_of(
    st.integers(1, 90).map(lambda minutes: timedelta(minutes=minutes)),
    st.integers(1, 30).map(lambda hours: timedelta(hours=hours)),
    st.integers(1, 12).map(lambda days: timedelta(days=days)),
    st.just(31 * _DAY),
)
_WHICH: Final = st.integers(0, 63)
_CALLS: Final = st.one_of(st.integers(0, 12), st.integers(0, 40))
_DEATHS: Final = st.builds(Dies, at=_CALLS, after=st.booleans())
_STALLS: Final = st.builds(Stalls, at=_CALLS, passes=st.one_of(st.just(2 * _DAY), _WHILES))


def _content(number: int) -> bytes:
    """The same for the same number: most in a pack, some in a chunk, a few in two chunks."""
    if number < 16:
        return noise(150 * (number + 1), number)
    if number < 22:
        return noise(KIB * number, number)
    return bytes([number]) * CHUNK + noise(5 * KIB, number)


_FILES: Final = st.sets(st.integers(0, 23), max_size=8).map(
    lambda numbers: {f"part/{number}": _content(number) for number in sorted(numbers)}
)


class RetentionMachine(RuleBasedStateMachine):
    """Each rule does one thing to the bucket, and then looks at all of it."""

    def __init__(self, disk: Path) -> None:
        super().__init__()
        self._home = disk / "world"
        self._world: World | None = None
        self._quiet = ExitStack()
        self._quiet.enter_context(structlog.testing.capture_logs())

    @property
    def world(self) -> World:
        assert self._world is not None
        return self._world

    @initialize(policy=_POLICIES, files=_FILES)
    def begin(self, policy: Policy, files: dict[str, bytes]) -> None:
        self._world = World.at(self._home, policy)
        self.push(files)

    @rule(files=_FILES)
    def push(self, files: dict[str, bytes]) -> None:
        self.world.write(files)
        self.world.push()

    @rule(count=st.integers(2, 6), apart=st.sampled_from([timedelta(minutes=20), 7 * _HOUR]))
    def push_some(self, count: int, apart: timedelta) -> None:
        for number in range(count):
            self.world.clock.time += apart
            self.push({f"part/{each}": _content(each) for each in range(number, 6)})

    @rule(files=_FILES, dies=_DEATHS)
    def push_and_die(self, files: dict[str, bytes], dies: Dies) -> None:
        self.world.write(files)
        self.world.push(dies)

    @rule(files=_FILES, stalls=_STALLS, back=st.booleans(), which=_WHICH)
    def push_while_the_other_prunes(
        self, files: dict[str, bytes], stalls: Stalls, back: bool, which: int
    ) -> None:
        id = self.world.pick(which, "retired") if back else None
        if id is not None:
            self.world.go_back(id)
        self.world.write(files)
        prunes.push_while_the_other_prunes(self.world, stalls)

    @rule(files=_FILES, stalls=_STALLS)
    def prune_while_the_primary_pushes(self, files: dict[str, bytes], stalls: Stalls) -> None:
        self.world.write(files)
        prunes.prune_while_the_primary_pushes(self.world, stalls)

    @rule()
    def push_again(self) -> None:
        self.world.push()

    @rule()
    def push_as_the_other(self) -> None:
        self.world.push_as_the_other()

    @rule(which=_WHICH, count=st.integers(0, 4), late=st.booleans())
    def go_back_and_on(self, which: int, count: int, late: bool) -> None:
        id = self.world.pick(which, "live", "retired")
        if id is not None:
            if late:  # nothing is left that its age keeps
                self.world.clock.time += self.world.primary.retention.min_age
            self.world.go_back(id)
            self.push_some(count, timedelta(minutes=10))
            prunes.prune(self.world, self.world.primary, Prune(insist=True))

    @rule(which=_WHICH)
    def restore(self, which: int) -> None:
        id = self.world.pick(which, "live", "retired")
        if id is not None:
            self.world.restore(id)

    @rule(
        by_other=st.booleans(),
        which=_WHICH,
        name=st.sampled_from([None, "one", "two"]),
        lasts=st.one_of(st.none(), _WHILES),
    )
    def keep(self, by_other: bool, which: int, name: str | None, lasts: timedelta | None) -> None:
        id = self.world.pick(which, "live", "retired", "bad")
        if id is not None:
            self.world.keep(self._node(by_other), id, name, self._until(lasts))

    @rule(by_other=st.booleans(), which=_WHICH)
    def undelete(self, by_other: bool, which: int) -> None:
        id = self.world.pick(which, "retired")
        if id is not None:
            self.world.keep(self._node(by_other), id, None, None)
            self.world.unkeep(self._node(by_other), id)

    @rule(by_other=st.booleans(), which=_WHICH)
    def unkeep(self, by_other: bool, which: int) -> None:
        names = [*sorted(self.world.ledger.kept), "unheard-of"]
        self.world.unkeep(self._node(by_other), names[which % len(names)])

    @rule(by_other=st.booleans(), warm=_WHICH, pulling=_WHICH)
    def beat(self, by_other: bool, warm: int, pulling: int) -> None:
        world = self.world
        world.beat(
            self._node(by_other),
            world.pick(warm, "live", "retired"),
            world.pick(pulling, "live", "retired", "bad"),
        )

    @rule(by_other=st.booleans(), orphans=st.booleans(), bad=st.booleans(), insist=st.booleans())
    def prune(self, by_other: bool, orphans: bool, bad: bool, insist: bool) -> None:
        order = Prune(orphans=orphans, bad=bad, insist=insist)
        prunes.prune(self.world, self._node(by_other), order)

    @rule(policy=_POLICIES, insist=st.booleans(), many=st.booleans())
    def prune_by_other_rules(self, policy: Policy, insist: bool, many: bool) -> None:
        if many:
            self.world.push_many(25)
            self.world.clock.passes(days=31)
        self.world.change_policy(policy)
        prunes.prune(self.world, self.world.primary, Prune(insist=insist))

    @rule()
    def prune_by_schedule(self) -> None:
        prunes.prune(self.world, self.world.primary, Prune(scheduled=True))

    @rule(days=st.integers(1, 3), by_other=st.booleans())
    def prune_for_days(self, days: int, by_other: bool) -> None:
        for _ in range(days):
            self.world.clock.passes(days=1)
            prunes.prune(self.world, self._node(by_other), Prune(insist=True))

    @rule(by_other=st.booleans(), orphans=st.booleans(), bad=st.booleans(), dies=_DEATHS)
    def prune_and_die(self, by_other: bool, orphans: bool, bad: bool, dies: Dies) -> None:
        order = Prune(orphans=orphans, bad=bad, insist=True)
        prunes.prune(self.world, self._node(by_other), order, dies)

    @rule(passes=_WHILES)
    def wait(self, passes: timedelta) -> None:
        self.world.clock.time += passes

    @rule(which=_WHICH, number=_WHICH, lose=st.booleans())
    def mark_bad(self, which: int, number: int, lose: bool) -> None:
        id = self.world.pick(which, "live", "retired")
        if id is not None:
            self.world.mark_bad(id, number, lose=lose)

    @rule(by_other=st.booleans(), which=_WHICH)
    def mark_all_live_ones_bad(self, by_other: bool, which: int) -> None:
        self.world.clock.time += self.world.primary.retention.min_age
        self.push_some(3, timedelta(minutes=10))
        prunes.prune(self.world, self.world.primary, Prune(insist=True))
        while (id := self.world.pick(0, "live")) is not None:
            self.world.mark_bad(id, 0, lose=True)
        self.undelete(by_other, which)

    @rule()
    def take_over(self) -> None:
        self.world.take_over()

    @rule()
    def become_aware(self) -> None:
        self.world.become_aware()

    def teardown(self) -> None:
        try:
            if self._world is not None and not self._world.broken:
                prunes.settle(self._world)
        finally:
            self._quiet.close()
            shutil.rmtree(self._home, ignore_errors=True)

    def _node(self, by_other: bool) -> Node:
        return self.world.tidier() if by_other else self.world.primary

    def _until(self, lasts: timedelta | None) -> datetime | None:
        return None if lasts is None else self.world.clock() + lasts


def _run(disk: Path, *, histories: int) -> None:
    chosen = settings(
        max_examples=_HISTORIES or histories,
        stateful_step_count=40,
        derandomize=not _HISTORIES,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    new = partial(RetentionMachine, disk)
    run_state_machine_as_test(new, settings=chosen)  # type: ignore[arg-type] # it only calls it


@pytest.mark.timeout(900 + 10 * _HISTORIES)
def test_nothing_that_is_to_stay_is_lost_and_nothing_else_stays(disk: Path) -> None:
    _run(disk, histories=30)


@pytest.mark.timeout(900 + 10 * _HISTORIES)
def test_the_same_holds_for_what_lies_in_pages(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 4)
    monkeypatch.setattr(catalog, "SPILL", 2)
    monkeypatch.setattr(pages, "MERGED_AT_MOST", 3)
    _run(disk, histories=22)
