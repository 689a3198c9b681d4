"""A crash at every call that push and pull make to the store; then the same command again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from ckptsync.repository import catalog, keys
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, Crash, FaultyStore
from tests.operations.invariants import require_sound
from tests.pipelines import Host, a_small_checkpoint, contents, copy_of, wanted

_AFTER: Final = pytest.mark.parametrize(
    "crash_after", [False, True], ids=["before the call", "after the call"]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A host about to act, and its bucket."""

    host: Host
    store: MemoryStore

    def copied_to(self, home: Path) -> "World":
        return World(host=self.host.copied_to(home), store=copy_of(self.store))


def first_push(world: World) -> str:
    world.host.checkpoint("ckpt-1", a_small_checkpoint(1), directories=("void",))
    return "ckpt-1"


def second_push(world: World) -> str:
    world.host.push_new("ckpt-1", world.store)
    world.host.checkpoint("ckpt-2", {**a_small_checkpoint(1), "new": b"new"})
    return "ckpt-2"


def push_that_spills(world: World) -> str:
    for number in range(1, 5):
        world.host.push_new(f"ckpt-{number}", world.store)
    world.host.checkpoint("ckpt-5", a_small_checkpoint(5))
    return "ckpt-5"


def push_that_forks(world: World) -> str:
    for number in range(1, 4):
        world.host.push_new(f"ckpt-{number}", world.store)
    world.host.go_back_to("ckpt-1", world.store)
    world.host.checkpoint("ckpt-2b", {**a_small_checkpoint(1), "other": b"other"})
    return "ckpt-2b"


def crashes(
    world: World, disk: Path, act: Callable[[Host, FaultyStore], object], *, crash_after: bool
) -> Iterator[World]:
    """Every world that a crash of `act` leaves; ends when it runs through."""
    for number in count():
        left = world.copied_to(disk / f"crash-{number}")
        store = FaultyStore(left.store, crash_at=number, crash_after=crash_after)
        try:
            act(left.host, store)
        except Crash:
            yield left
        else:
            assert number == len(store.calls), "a crash was swallowed"
            return


@_AFTER
@pytest.mark.parametrize("prepare", [first_push, second_push, push_that_spills, push_that_forks])
def test_a_crash_at_any_call_of_a_push_loses_nothing(
    disk: Path,
    host: Host,
    bucket: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[World], str],
    crash_after: bool,
) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 4)
    monkeypatch.setattr(catalog, "SPILL", 2)
    world = World(host=host, store=bucket)
    pushed = prepare(world)
    before = require_sound(bucket)
    committed = before.engine_ids if before else ()
    crashed = 0

    for left in crashes(world, disk, Host.push, crash_after=crash_after):
        crashed += 1
        between = require_sound(left.store, since=before)
        if between is not None:
            assert between.engine_ids in (committed, (*committed, pushed))

        report = left.host.push(left.store)

        after = require_sound(left.store, since=between)
        assert after is not None
        assert after.engine_ids == (*committed, pushed), "committed not exactly once"
        assert after.head.latest == report.entry.id
        fresh = Host(home=left.host.home / "elsewhere")
        fresh.restore(left.store)
        assert contents(fresh.root / pushed) == contents(left.host.root / pushed)

    assert crashed >= 5


@_AFTER
def test_after_a_crash_at_any_call_of_a_fork_the_next_push_does_not_fork_again(
    disk: Path, host: Host, bucket: MemoryStore, crash_after: bool
) -> None:
    world = World(host=host, store=bucket)
    push_that_forks(world)

    for left in crashes(world, disk, Host.push, crash_after=crash_after):
        fork = left.host.push(left.store).entry
        left.host.checkpoint("ckpt-3b", a_small_checkpoint(3))

        after = left.host.push(left.store).entry

        seen = require_sound(left.store)
        assert seen is not None
        assert after.timeline == fork.timeline == 2
        assert [timeline.id for timeline in seen.head.timelines] == [1, 2]


@_AFTER
def test_after_a_crash_at_any_call_of_recording_that_we_went_back_it_is_recorded_once(
    disk: Path, host: Host, bucket: MemoryStore, crash_after: bool
) -> None:
    first = host.push_new("ckpt-1", bucket)
    host.push_new("ckpt-2", bucket)
    host.go_back_to("ckpt-1", bucket)
    before, crashed = require_sound(bucket), 0
    assert before is not None

    for left in crashes(World(host=host, store=bucket), disk, Host.push, crash_after=crash_after):
        crashed += 1
        between = require_sound(left.store, since=before)

        report = left.host.push(left.store)

        after = require_sound(left.store, since=between)
        assert after is not None
        assert report.already_synced
        assert after.entries == before.entries
        assert after.head.latest == report.entry.id == first.id
        assert [timeline.id for timeline in after.head.timelines] == [1, 2]

    assert crashed >= 3


def test_two_crashes_at_the_swap_after_going_back_do_not_fork_twice(
    disk: Path, host: Host, bucket: MemoryStore
) -> None:
    """The first leaves a commit that was not noted, the second a note without a commit."""
    push_that_forks(World(host=host, store=bucket))
    _crash_at_the_swap(host, bucket, disk / "first", crash_after=True)
    assert host.push(bucket).already_synced
    host.checkpoint("ckpt-3b", a_small_checkpoint(3))
    _crash_at_the_swap(host, bucket, disk / "second", crash_after=False)

    assert host.push(bucket).entry.timeline == 2


def _crash_at_the_swap(
    host: Host, store: MemoryStore, rehearsal: Path, *, crash_after: bool
) -> None:
    rehearsed = FaultyStore(copy_of(store))
    host.copied_to(rehearsal).push(rehearsed)
    swap = rehearsed.calls.index(Call("put", keys.HEAD))
    with pytest.raises(Crash):
        host.push(FaultyStore(store, crash_at=swap, crash_after=crash_after))


@_AFTER
def test_a_push_of_the_next_checkpoint_after_a_crash_loses_nothing_either(
    disk: Path, host: Host, bucket: MemoryStore, crash_after: bool
) -> None:
    world = World(host=host, store=bucket)
    second_push(world)

    for left in crashes(world, disk, Host.push, crash_after=crash_after):
        between = require_sound(left.store)
        left.host.checkpoint("ckpt-3", a_small_checkpoint(3))

        left.host.push(left.store)

        after = require_sound(left.store, since=between)
        assert after is not None
        assert after.engine_ids[-1] == "ckpt-3"


@_AFTER
@pytest.mark.parametrize("to", [None, "restored"])
def test_a_crash_at_any_call_of_a_pull_shows_nothing_half(
    disk: Path, host: Host, bucket: MemoryStore, to: str | None, crash_after: bool
) -> None:
    origin = host.checkpoint("ckpt-1", a_small_checkpoint(1), directories=("void",))
    host.push(bucket)
    stored = require_sound(bucket)
    (disk / "empty").mkdir()
    world = World(host=Host(home=disk / "empty"), store=bucket)

    def act(puller: Host, store: object) -> None:
        assert isinstance(store, FaultyStore | MemoryStore)
        puller.restore(store, wanted(to=puller.home / to if to else None))

    def appeared(puller: Host) -> Path:
        return (puller.home / to if to else puller.root) / "ckpt-1"

    crashed = 0
    for left in crashes(world, disk, act, crash_after=crash_after):
        crashed += 1
        assert not appeared(left.host).exists(), "a crash before the last call shows nothing"

        act(left.host, left.store)

        assert contents(appeared(left.host)) == contents(origin)
        assert require_sound(left.store, since=stored) == stored
        assert not list(left.host.home.glob(".ckptsync-*/files/*/*"))

    assert crashed >= 5
