"""What an adversary tried on prunes that meet crashes, repairs, late swaps and takeovers."""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ckptsync.errors import CkptsyncError, RollbackDetected
from ckptsync.operations import heartbeat
from ckptsync.operations.repair_head import rebuild_head
from ckptsync.operations.repair_rollback import accept_rollback
from ckptsync.repository import catalog, keys
from ckptsync.repository.repository import read_head
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, Crash, FaultyStore
from tests.operations.actors import Late, Odd, before, edit_head
from tests.operations.forgetting import entries_of, into_pages, mark_bad
from tests.operations.prunings import KEEP_TWO, Sleeping, Yard, a_host, crashes, keys_in, states
from tests.pipelines import PACK_BELOW, noise


@pytest.fixture
def small(disk: Path) -> Yard:
    """Five checkpoints; three of them are to be retired."""
    yard = Yard.at(disk / "yard")
    yard.push_many(5)
    return yard


def memory(yard: Yard) -> MemoryStore:
    assert isinstance(yard.store, MemoryStore)
    return yard.store


class Stopped(FaultyStore):
    """The process dies at its first deletion."""

    def delete(self, keys: Iterable[str]) -> None:
        doomed = list(keys)
        if not doomed[0].startswith("probe/"):
            raise Crash
        super().delete(doomed)


def go_back(yard: Yard, old: object) -> None:
    memory(yard)._objects[keys.HEAD] = old  # type: ignore[assignment]


def accept(yard: Yard) -> None:
    with yard.host.running(yard.store) as pipeline:
        accept_rollback(pipeline, force=True)


def test_what_comes_back_by_an_accepted_rollback_is_not_deleted_by_who_had_condemned_it(
    small: Yard,
) -> None:
    small.other.prune(small.store)
    old = memory(small)._objects[keys.HEAD]
    small.clock.passes(hours=25)
    small.host.prune(Sleeping(small.store))  # so that the primary has seen more
    with suppress(Crash):
        small.other.prune(Stopped(small.store))
    go_back(small, old)
    accept(small)
    small.require_sound()
    lasting = replace(small.other, retention=replace(KEEP_TWO, min_count=50))

    lasting.prune(small.store, orphans=True)

    small.require_sound()
    small.require_all_restore()
    lasting.prune(small.store, orphans=True)
    small.require_sound()


def test_a_node_with_an_index_of_what_a_rebuilt_head_brings_back_keeps_it(small: Yard) -> None:
    small.other.prune(small.store)
    small.clock.passes(hours=25)
    with suppress(Crash):
        small.other.prune(Stopped(small.store))
    small.store.delete([keys.HEAD])
    with small.host.running(small.store) as pipeline:
        rebuild_head(pipeline, force=True)
    assert len(states(small.store)) == 5
    lasting = replace(small.other, retention=replace(KEEP_TWO, min_count=50))

    lasting.prune(small.store, orphans=True)

    small.require_sound()
    assert len(states(small.store)) == 5


def shared(yard: Yard, name: str, old: str) -> None:
    """A checkpoint that has a file of an earlier one, and one of its own."""
    yard.write(name, {"old": noise(PACK_BELOW, old), "chunk": noise(PACK_BELOW, name)})


def test_a_push_that_crashed_anywhere_then_prunes_and_another_push_are_sound(
    small: Yard, disk: Path
) -> None:
    small.write("ckpt-6", {"a": noise(PACK_BELOW, "a"), "b": noise(PACK_BELOW, "b")})

    def act(yard: Yard, store: ObjectStore) -> object:
        return yard.host.push(store)

    for left in crashes(small, disk, act):
        for who in (left.host, left.other):
            left.clock.passes(hours=25)
            who.prune(left.store, orphans=True)
            left.require_sound()
        left.write("ckpt-7", {"a": noise(PACK_BELOW, "a"), "c": noise(PACK_BELOW, "c")})
        left.host.push(left.store)
        left.require_sound()
        left.require_all_restore()
        left.settle()
        left.require_tidy()


def test_a_push_that_crashed_anywhere_then_a_takeover_and_prunes_leave_nothing_behind(
    small: Yard, disk: Path
) -> None:
    small.write("ckpt-6", {"a": noise(PACK_BELOW, "a"), "b": noise(PACK_BELOW, "b")})

    def act(yard: Yard, store: ObjectStore) -> object:
        return yard.host.push(store)

    for left in crashes(small, disk, act):
        left.host.push(left.store)
        left.write("ckpt-7", {"a": noise(PACK_BELOW, "a"), "c": noise(PACK_BELOW, "c")})
        left.host.push(left.store)
        fresh = a_host(left.home, "host-c", left.clock, KEEP_TWO)
        for _ in range(4):
            left.clock.passes(hours=25)
            fresh.prune(left.store, insist=True)
        left.require_sound()
        left.require_tidy()


@pytest.mark.parametrize("swap", range(3))
def test_a_late_swap_of_a_prune_that_pushes_and_prunes_of_others_meet_is_no_harm(
    disk: Path, swap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 4)
    monkeypatch.setattr(catalog, "SPILL", 2)
    yard = Yard.at(disk / "yard")
    yard.push_many(7)
    yard.other.prune(yard.store)
    yard.clock.passes(hours=25)
    yard.write("ckpt-0008")
    yard.leave_orphans()
    for number in range(0, 60, 2):
        left = yard.copied_to(disk / f"late-{number}")

        def meddle(left: Yard = left) -> None:
            left.host.push(left.store)
            left.host.prune(left.store)

        odd = Odd(left.store, before(number, meddle))
        with suppress(CkptsyncError):
            left.other.prune(Late(odd, swap=swap), insist=True)
        left.require_sound()
        left.require_all_restore()
        for _ in range(4):
            left.clock.passes(hours=25)
            left.host.prune(left.store, orphans=True)
            left.other.prune(left.store)
        left.require_sound()
        left.require_tidy()
        shutil.rmtree(left.home)


@pytest.mark.parametrize("swap", range(2))
def test_a_late_commit_that_spills_while_others_prune_is_no_harm(
    disk: Path, swap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", 3)
    monkeypatch.setattr(catalog, "SPILL", 2)
    yard = Yard.at(disk / "yard")
    yard.push_many(6)
    yard.other.prune(yard.store)
    yard.clock.passes(hours=25)
    yard.write("ckpt-0007")
    for number in range(30):
        left = yard.copied_to(disk / f"late-{number}")

        def meddle(left: Yard = left) -> None:
            left.other.prune(left.store, orphans=True, insist=True)

        odd = Odd(left.store, before(number, meddle))
        with suppress(CkptsyncError):
            left.host.push(Late(odd, swap=swap))
        left.require_sound()
        left.host.push(left.store)
        left.require_all_restore()
        for _ in range(4):
            left.clock.passes(hours=25)
            left.other.prune(left.store, orphans=True)
            left.host.prune(left.store)
        left.require_sound()
        left.require_tidy()
        shutil.rmtree(left.home)


def test_where_all_were_bad_and_are_forgotten_a_push_begins_anew(small: Yard) -> None:
    for entry in entries_of(small.store):
        mark_bad(small.store, entry.id)
        if entry.id == entries_of(small.store)[-1].id:
            break
        edit_head(small.store)
    edit_head(small.store, latest=None)
    small.host.prune(small.store, bad=True)
    assert states(small.store) == {}

    small.push_new("ckpt-9")
    small.require_sound()
    small.settle()
    small.require_tidy()


def test_an_index_of_long_ago_does_no_harm(small: Yard, disk: Path) -> None:
    """A state directory that was put back from a copy, on a node that only prunes."""
    small.other.prune(small.store)
    into_pages(small.store)
    old = disk / "old-state"
    shutil.copytree(small.other.home, old)
    for number in range(6, 10):
        small.push_new(f"ckpt-{number:04}", hours=13)
        small.host.prune(small.store)
    small.clock.passes(hours=25)
    small.other.prune(small.store)
    shutil.rmtree(small.other.home)
    shutil.copytree(old, small.other.home)
    seen = small.require_sound()

    small.other.prune(small.store, orphans=True)

    small.require_sound(seen)
    small.require_all_restore()
    small.settle()
    small.require_tidy()


def rebuild(yard: Yard) -> None:
    yard.store.delete([keys.HEAD])
    with yard.host.running(yard.store) as pipeline:
        rebuild_head(pipeline, force=True)


def test_what_was_kept_by_name_outlives_a_head_that_was_lost_and_rebuilt(small: Yard) -> None:
    first = entries_of(small.store)[0]
    small.host.keep(small.store, first.id, name="audit")
    small.host.prune(small.store)
    rebuild(small)

    for number in range(6, 9):
        small.push_new(f"ckpt-{number:04}", hours=25)
        with suppress(CkptsyncError):
            small.host.prune(small.store, scheduled=True)

    assert first.engine_id in states(small.store)


def test_a_yes_to_a_new_policy_is_no_yes_to_orphans_that_nobody_has_shown(disk: Path) -> None:
    yard = Yard.at(disk / "yard")
    yard.push_many(3)
    orphans: set[str] = set()
    for _ in range(6):
        orphans |= yard.leave_orphans()
    yard.clock.passes(hours=25)
    fresh = a_host(yard.home, "host-c", yard.clock, KEEP_TWO)

    with suppress(CkptsyncError):
        fresh.prune(yard.store, insist=True)

    assert orphans <= set(keys_in(yard.store))


def test_where_most_is_orphaned_head_is_left_as_it_is(disk: Path) -> None:
    yard = Yard.at(disk / "yard")
    yard.push_many(5)
    for _ in range(12):
        yard.leave_orphans()
    yard.push_new("ckpt-9")  # so that none of them is of a push under way
    yard.clock.passes(hours=25)
    fresh = a_host(yard.home, "host-c", yard.clock, KEEP_TWO)
    before = read_head(yard.store).head

    with pytest.raises(CkptsyncError):
        fresh.prune(yard.store)

    assert read_head(yard.store).head == before


def test_a_bucket_that_went_back_is_still_known_as_such_after_others_tidied_it(disk: Path) -> None:
    yard = Yard.at(disk / "yard", replace(KEEP_TWO, min_count=50))
    yard.push_many(4)
    old = memory(yard)._objects[keys.HEAD]
    yard.push_new("ckpt-0005")
    go_back(yard, old)
    first = entries_of(yard.store)[0]
    for number in range(4):
        yard.other.keep(yard.store, first.id, name=f"k{number}")

    with pytest.raises(RollbackDetected):
        yard.push_new("ckpt-0006")


def test_a_bucket_that_went_back_can_be_accepted_after_others_tidied_it(disk: Path) -> None:
    yard = Yard.at(disk / "yard", replace(KEEP_TWO, min_count=50))
    yard.push_many(4)
    old = memory(yard)._objects[keys.HEAD]
    yard.push_new("ckpt-0005")
    go_back(yard, old)
    first = entries_of(yard.store)[0]
    for number in range(4):
        yard.other.keep(yard.store, first.id, name=f"k{number}")

    accept(yard)

    yard.push_new("ckpt-0006")
    yard.require_sound()


def test_a_push_of_three_days_is_not_swept_away_by_a_prune_each_day(disk: Path) -> None:
    yard = Yard.at(disk / "yard", replace(KEEP_TWO, min_count=50))
    yard.write("ckpt-0001", {f"big-{n}": noise(PACK_BELOW, ("big", n)) for n in range(20)})
    yard.host.push(yard.store)
    yard.other.prune(yard.store)
    yard.clock.passes(hours=25)
    yard.write("ckpt-0002", {f"new-{n}": noise(PACK_BELOW, ("new", n)) for n in range(9)})
    with yard.host.running(yard.store) as pipeline:
        heartbeat.beat(pipeline)

    def decide(_number: int, call: Call) -> None:
        if call.method == "put" and call.key.startswith(keys.CHUNKS):
            yard.clock.passes(hours=8)
            with yard.host.running(yard.store) as pipeline:
                heartbeat.beat(pipeline)
            if (yard.clock.time - begun).total_seconds() % 86_400 == 0:
                yard.other.prune(yard.store, orphans=True)

    begun = yard.clock.time
    yard.host.push(Odd(yard.store, decide))

    yard.require_sound()


def test_what_head_says_is_condemned_needs_no_yes_of_a_node_that_knows_nothing(disk: Path) -> None:
    """As where each prune runs in a container of its own, and one was killed half-way."""
    yard = Yard.at(disk / "yard")
    yard.push_many(12)
    yard.host.prune(yard.store)
    yard.clock.passes(hours=25)
    with suppress(Crash):
        yard.host.prune(Stopped(yard.store))
    assert len(states(yard.store)) == 2
    shutil.rmtree(yard.other.home, ignore_errors=True)

    yard.other.prune(yard.store)

    yard.require_tidy()
