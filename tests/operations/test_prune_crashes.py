"""A prune that has everything to do fails at each of its calls; then the same command again."""

from itertools import islice
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import CkptsyncError, Unavailable
from ckptsync.operations import deleting
from ckptsync.repository import condemned, keys
from tests.crashes import in_fresh_interpreter
from tests.fakes.stores import Call, FaultyStore
from tests.operations import prune_kills
from tests.operations.actors import LOST, Late, Odd, Verdict
from tests.operations.forgetting import repository_of
from tests.operations.prunings import (
    AFTER_EVERYTHING,
    Yard,
    crashes,
    keys_in,
    states,
    with_everything,
)
from tests.operations.races import unavailable

_SLICES: Final = 2  # so that two workers share them


@pytest.fixture
def yard(disk: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """Pruning it takes several lists, and several requests for each."""
    monkeypatch.setattr(deleting, "_AT_ONCE", 3)
    monkeypatch.setattr(condemned, "MOST", 7)
    return with_everything(disk / "yard")


def require_pruned(yard: Yard) -> None:
    """Once more, and all is as if nothing had happened; a day later nothing needless is left."""
    between = yard.require_sound()
    assert set(states(yard.store)) >= set(AFTER_EVERYTHING)

    yard.host.prune(yard.store)

    after = yard.require_sound(since=between)
    assert states(yard.store) == AFTER_EVERYTHING
    assert set(after.head.keeps) == {"in-a-page", "in-head"}
    yard.require_all_restore()
    yard.settle()
    yard.require_sound()
    assert [name for name, state in states(yard.store).items() if state == "live"] == [
        "ckpt-0003",
        "ckpt-0006",
        "ckpt-0008",
        "ckpt-0009",
    ]
    yard.require_tidy()


def test_without_a_crash_it_does_all_of_it(yard: Yard) -> None:
    store = FaultyStore(yard.store)

    report = yard.host.prune(store)

    assert (len(report.retired), len(report.revived), len(report.forgotten)) == (3, 2, 2)
    assert sum(call.method == "delete" for call in store.calls) >= 4
    assert len(yard.head.sweep.lists) == 2
    assert any(call.method == "put" and call.key.startswith(keys.CATALOG) for call in store.calls)
    require_pruned(yard)


def test_a_crash_at_any_call_loses_nothing_and_leaves_nothing_behind(
    yard: Yard, disk: Path
) -> None:
    before, crashed = yard.require_sound(), 0

    for left in crashes(yard, disk, lambda each, store: each.host.prune(store)):
        crashed += 1
        left.require_sound(since=before)
        require_pruned(left)

    assert crashed >= 60


def test_two_crashes_in_a_row_lose_nothing_either(yard: Yard, disk: Path) -> None:
    crashed = 0

    first = crashes(yard, disk / "one", lambda each, store: each.host.prune(store))
    for left in islice(first, 0, None, 7):
        second = crashes(left, disk / "two", lambda each, store: each.host.prune(store))
        for again in islice(second, crashed % 5, None, 5):
            crashed += 1
            require_pruned(again)

    assert crashed >= 60, crashed


@pytest.mark.parametrize("lost", [False, True], ids=["not carried out", "reply lost"])
def test_a_store_that_is_away_at_any_call_loses_nothing(yard: Yard, disk: Path, lost: bool) -> None:
    calls = FaultyStore(yard.copied_to(disk / "rehearsal").store)
    yard.copied_to(disk / "rehearsed").host.prune(calls)

    for number in range(len(calls.calls)):
        left = yard.copied_to(disk / f"away-{number}")

        def away(at: int, call: Call, number: int = number) -> Verdict:
            if at != number:
                return None
            return LOST if lost else unavailable(call)

        odd = Odd(left.store, away)
        try:
            left.host.prune(odd)
        except Unavailable:
            assert odd.calls[number] != Call("put", keys.HEAD), "a swap is looked after"
        else:
            assert states(left.store) == AFTER_EVERYTHING
        require_pruned(left)


@pytest.mark.parametrize("swap", [0, 1, 2])
def test_a_swap_that_is_carried_out_late_loses_nothing(yard: Yard, swap: int) -> None:
    """The first retires, the others condemn."""
    store = Late(yard.store, swap=swap)

    report = yard.host.prune(store)

    assert sum(call == Call("put", keys.HEAD) for call in store.calls) >= 3
    assert len(report.retired) == 3
    assert len(report.forgotten) == 2
    assert not [key for key in keys_in(yard.store) if key in all_condemned(yard)]
    require_pruned(yard)


def all_condemned(yard: Yard) -> set[str]:
    repository, head = repository_of(yard.store), yard.head
    return {key for named in head.sweep.lists for key in repository.condemned(named)}


def test_what_a_stop_in_the_middle_left_goes_the_next_time_without_a_listing(yard: Yard) -> None:
    gone = 0

    def stop(moved: int) -> None:
        nonlocal gone
        gone += moved
        if len(yard.head.sweep.lists) == 1 and moved:
            raise Stop("an operator has pressed ^C")

    with pytest.raises(Stop):
        yard.host.prune(yard.store, progress=stop)
    assert gone
    store = FaultyStore(yard.store)

    yard.host.prune(store)

    assert not any(call.method == "walk" and call.key != "nodes/" for call in store.calls)
    require_pruned(yard)


class Stop(CkptsyncError):
    pass


@pytest.mark.parametrize("slice_", range(_SLICES))
def test_a_kill_at_any_write_to_the_disk_loses_nothing(disk: Path, slice_: int) -> None:
    deaths = in_fresh_interpreter(prune_kills.__name__, str(slice_), str(_SLICES), str(disk))

    assert int(deaths) >= 20
