"""What a sweep deletes and what it leaves alone, when it looks, and what that costs."""

from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from ckptsync.errors import Refused, RollbackDetected, Unavailable
from ckptsync.repository import catalog, condemned, keys
from ckptsync.repository.head import encode
from ckptsync.repository.repository import read_head
from ckptsync.repository.retention import Policy
from ckptsync.stores.base import ObjectStore
from tests.fakes.stores import Call, FaultyStore
from tests.operations.actors import Odd, Verdict, edit_head
from tests.operations.forgetting import entries_of, into_pages, repository_of, retire
from tests.operations.prunings import Yard, at_the_manifest, keys_in, name, needed, states
from tests.pipelines import PACK_BELOW, noise, snapshot

_DATA: Final = (keys.CHUNKS, keys.PACKS)


@pytest.fixture
def yard(disk: Path) -> Yard:
    """Three checkpoints, all of them live; a day has passed."""
    yard = Yard.at(disk / "yard")
    yard.push_many(2, hours=12)
    return yard


def listings(store: FaultyStore) -> list[str]:
    return [call.key for call in store.calls if call.method == "walk" and call.key != "nodes/"]


# Orphans


def test_orphans_younger_than_a_day_stay_and_are_told_of(yard: Yard) -> None:
    orphans = yard.leave_orphans()
    yard.clock.passes(hours=23)

    report = yard.host.prune(yard.store, orphans=True)

    assert report.swept.orphans is not None
    assert report.swept.orphans.young.objects == len(orphans) == 2
    assert report.swept.orphans.amount.objects == 0
    assert orphans <= set(keys_in(yard.store))


def test_orphans_go_once_they_are_a_day_old(yard: Yard) -> None:
    orphans = yard.leave_orphans()
    sizes = {info.key: info.size for info in yard.store.walk("")}
    yard.clock.passes(hours=25)

    report = yard.host.prune(yard.store)

    assert report.swept.orphans is not None
    assert dict(report.swept.orphans.found) == {key: sizes[key] for key in orphans}
    assert report.swept.deleted.objects == 2
    assert report.swept.deleted.bytes == sum(sizes[key] for key in orphans)
    yard.require_sound()
    yard.require_tidy()


def test_what_the_next_push_of_this_node_may_use_is_no_orphan(yard: Yard) -> None:
    yard.write("ckpt-0009")
    with pytest.raises(Unavailable):
        yard.host.push(Odd(yard.store, at_the_manifest))
    own = set(keys_in(yard.store)) - needed(yard.store)
    yard.clock.passes(days=30)

    report = yard.host.prune(yard.store, orphans=True)

    assert report.swept.orphans is not None
    assert report.swept.orphans.amount.objects == 0
    assert own
    assert own <= set(keys_in(yard.store))
    store = FaultyStore(yard.store)
    yard.host.push(store)
    assert not [c for c in store.calls if c.method == "put" and c.key.startswith(_DATA)]
    yard.require_all_restore()


def test_uploads_that_no_commit_used_go_without_a_listing(yard: Yard) -> None:
    """The engine has deleted the checkpoint of which they were before it was pushed."""
    yard.host.prune(yard.store)
    yard.write("ckpt-0008")
    with pytest.raises(Unavailable):
        yard.host.push(Odd(yard.store, at_the_manifest))
    leftovers = set(keys_in(yard.store)) - needed(yard.store)
    yard.push_new("ckpt-0009", hours=0)
    assert leftovers & set(keys_in(yard.store)) == leftovers
    store = FaultyStore(yard.store)

    report = yard.host.prune(store)

    assert listings(store) == []
    assert report.swept.deleted.objects >= len(leftovers) == 2
    yard.require_sound()
    yard.require_tidy()


def test_what_a_push_that_planned_again_left_goes_without_a_listing(yard: Yard) -> None:
    yard.host.prune(yard.store)
    yard.write("ckpt-0009")
    moved = False

    def decide(_number: int, call: Call) -> None:
        nonlocal moved
        if call.key.startswith(keys.MANIFESTS) and not moved:
            moved = True
            edit_head(yard.store, next_seq=yard.head.next_seq + 1)

    yard.host.push(Odd(yard.store, decide))
    assert set(keys_in(yard.store)) - needed(yard.store), "it has left nothing"
    store = FaultyStore(yard.store)

    yard.host.prune(store)

    assert listings(store) == []
    yard.require_sound()
    yard.require_tidy()


def test_a_page_that_was_replaced_stays_for_a_day_and_goes_without_a_listing(yard: Yard) -> None:
    """Whoever has read an older head may still look for it."""
    for number in range(3, 6):
        yard.push_new(f"ckpt-{number:04}")
    into_pages(yard.store)
    old = {page.key for page in yard.head.pages}
    yard.host.prune(yard.store)
    replaced = old - {page.key for page in yard.head.pages}
    assert replaced
    yard.clock.passes(hours=12)
    yard.host.prune(yard.store, orphans=True)
    yard.clock.passes(hours=11.9)
    yard.host.prune(yard.store)
    assert replaced <= set(keys_in(yard.store))

    yard.clock.passes(hours=0.2)
    store = FaultyStore(yard.store)
    yard.host.prune(store)

    assert listings(store) == []
    assert not replaced & set(keys_in(yard.store))
    yard.require_sound()


@pytest.mark.parametrize(
    "key",
    [
        "chunks/README",
        "chunks/ab/abc",
        "chunks/ab/cd3f" + "0" * 28,
        "packs/ab/ab" + "0" * 30 + ".zip",
        "manifests/notes.txt",
        "manifests/0001-00000001-3ba801f271b9.json",
        "catalog/index.html",
        "condemned/list",
        "logs/ab/" + "0" * 32,
        "groups/0",
        "somebody/else",
        "chunks.bak/ab/ab" + "0" * 30,
    ],
)
def test_names_that_are_not_ours_are_neither_deleted_nor_counted(yard: Yard, key: str) -> None:
    yard.store.put(key, bytes(1 << 20))
    yard.clock.passes(days=9)

    report = yard.host.prune(yard.store, orphans=True)

    assert yard.store.get(key, limit=1 << 20).data
    assert report.swept.orphans is not None
    assert report.swept.orphans.amount.objects == 0
    assert report.swept.orphans.all.bytes < 1 << 20


# More than half


def put_back_an_older_head(yard: Yard) -> None:
    """As if somebody had restored head alone from an hour ago."""
    old = read_head(yard.store).head
    for number in range(3, 8):
        yard.push_new(f"ckpt-{number:04}", hours=0)
    yard.store.put(keys.HEAD, encode(old))
    yard.clock.passes(days=2)


def test_where_most_is_orphaned_a_node_that_remembers_nothing_wants_a_yes(yard: Yard) -> None:
    put_back_an_older_head(yard)
    before = set(keys_in(yard.store))

    for _ in range(2):
        with pytest.raises(Refused, match="older than the bucket") as caught:
            yard.other.prune(yard.store)
        assert caught.value.exit_code == 13
        assert "--yes" in (caught.value.hint or "")
        assert set(keys_in(yard.store)) == before

    report = yard.other.prune(yard.store, orphans=True, insist=True)
    assert report.swept.deleted.objects >= 15
    yard.require_sound()


def test_where_most_is_orphaned_a_node_that_remembers_does_nothing_at_all(yard: Yard) -> None:
    put_back_an_older_head(yard)
    before = snapshot(yard.store)

    with pytest.raises(RollbackDetected):
        yard.host.prune(yard.store, insist=True)

    assert snapshot(yard.store) == before


def test_what_was_forgotten_may_be_more_than_half(disk: Path) -> None:
    yard = Yard.at(disk / "yard")
    yard.push_many(12)
    yard.host.prune(yard.store)
    yard.clock.passes(hours=25)

    report = yard.host.prune(yard.store, orphans=True)

    assert len(report.forgotten) == 10
    assert report.swept.deleted.bytes > sum(info.size for info in yard.store.walk("chunks/"))


def test_what_waits_to_be_deleted_after_a_crash_is_explained(disk: Path) -> None:
    yard = Yard.at(disk / "yard")
    yard.push_many(12)
    yard.host.prune(yard.store)
    yard.clock.passes(hours=25)
    with pytest.raises(Unavailable):
        yard.host.prune(Odd(yard.store, _no_deletion))

    report = yard.host.prune(yard.store, orphans=True)

    assert report.swept.orphans is not None
    assert report.swept.orphans.amount.objects == 0
    yard.settle()
    yard.require_tidy()


def _no_deletion(_number: int, call: Call) -> Verdict:
    if call.method == "delete" and not call.key.startswith("probe/"):
        return Unavailable("s3", "delete", call.key, "503")
    return None


# When


def test_unasked_it_lists_once_a_day(yard: Yard) -> None:
    listed = []
    for minute in range(0, 26 * 60, 20):
        store = FaultyStore(yard.store)
        yard.host.prune(store, scheduled=True)
        if listings(store):
            listed.append(minute)
        yard.clock.passes(minutes=20)

    assert listed == [0, 24 * 60]


def test_unasked_it_sweeps_once_an_hour(yard: Yard) -> None:
    yard.host.prune(yard.store, scheduled=True)
    yard.write("ckpt-0008")
    with pytest.raises(Unavailable):
        yard.host.push(Odd(yard.store, at_the_manifest))
    yard.push_new("ckpt-0009", hours=0.9)  # so that nobody wants the uploads of the other

    assert yard.host.prune(yard.store, scheduled=True).swept.deleted.objects == 0

    yard.clock.passes(hours=0.2)
    store = FaultyStore(yard.store)
    assert yard.host.prune(store, scheduled=True).swept.deleted.objects >= 2
    assert listings(store) == []
    yard.require_sound()
    yard.require_tidy()


def test_by_hand_it_sweeps_whenever_it_is_told_to(yard: Yard) -> None:
    yard.host.prune(yard.store)
    yard.leave_orphans()
    yard.clock.passes(hours=25)
    yard.host.prune(yard.store)
    key = keys.chunk()
    yard.store.put(key, noise(9))
    yard.clock.passes(hours=23.9)

    assert yard.host.prune(yard.store, orphans=True).swept.deleted.objects == 0
    yard.clock.passes(hours=0.2)
    assert yard.host.prune(yard.store).swept.deleted.objects == 0, "it was listed just now"
    assert yard.host.prune(yard.store, orphans=True).swept.deleted.objects == 1


# The lists in head


def test_head_names_no_more_than_sixty_four_lists_and_the_others_go(yard: Yard) -> None:
    for _ in range(67):
        yard.store.put(keys.chunk(), b"an orphan")
        yard.clock.passes(hours=25)
        yard.host.prune(yard.store)

    head = yard.head
    assert [each.generation for each in head.sweep.lists] == list(range(4, 68))
    assert all(each.done for each in head.sweep.lists[:-1])
    yard.host.prune(yard.store)
    yard.require_sound()
    assert set(keys_in(yard.store)) - needed(yard.store) <= {
        key for key in keys_in(yard.store) if key.startswith(keys.CONDEMNED)
    }
    assert len(list(yard.store.walk(keys.CONDEMNED))) <= 66


def test_a_list_that_head_names_no_more_goes_with_the_next_sweep_without_a_listing(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(condemned, "LISTS_KEPT", 2)
    yard.host.prune(yard.store)
    store = FaultyStore(yard.store)
    for number in range(5):
        yard.write(f"ckpt-1{number}-a")
        with pytest.raises(Unavailable):
            yard.host.push(Odd(yard.store, at_the_manifest))
        yard.push_new(f"ckpt-1{number}-b", hours=0.1)
        yard.host.prune(store)

    assert listings(store) == []
    assert yard.head.sweep.generation == 5
    assert len(yard.head.sweep.lists) == 2
    assert len(list(yard.store.walk(keys.CONDEMNED))) == 3, "the last that was dropped waits"
    yard.require_sound()


# What is left


def test_what_lies_there_is_what_the_checkpoints_need(disk: Path) -> None:
    """They share and drop files as an engine's checkpoints do."""
    yard = Yard.at(disk / "yard")
    for number in range(1, 25):
        files = {f"batch-{each}": noise(PACK_BELOW, each) for each in range(number, number + 4)}
        files |= {f"small-{each}": noise(200, each) for each in range(number, number + 12)}
        yard.write(f"ckpt-{number:04}", {**files, "own": noise(90, ("own", number))})
        yard.host.push(yard.store)
        yard.clock.passes(hours=2)
        yard.host.prune(yard.store, scheduled=True)
        yard.require_sound()

    yard.host.prune(yard.store)  # what was replaced within the last day is not gone yet

    repository = repository_of(yard.store)
    manifests = [repository.manifest(entry) for entry in entries_of(yard.store)]
    assert set(states(yard.store).values()) == {"live", "retired"}
    named = {stored.key: stored.size for each in manifests for stored in each.objects}
    stored = {info.key: info.size for place in _DATA for info in yard.store.walk(place)}
    assert stored == named
    yard.settle()
    assert len(entries_of(yard.store)) == 2
    _require_economical(yard.store)
    yard.require_all_restore()


def _require_economical(store: ObjectStore) -> None:
    """No more than the checkpoints hold, and a pack beside."""
    repository = repository_of(store)
    wanted: dict[object, int] = {}
    packs: set[tuple[str, int]] = set()
    for entry in entries_of(store):
        manifest = repository.manifest(entry)
        wanted |= {file.digest: file.size for file in manifest.files}
        packs |= {(each.key, each.size) for each in manifest.objects if each.frames}
    total = sum(info.size for place in _DATA for info in store.walk(place))
    overhead = 600 * len(packs)  # tar headers and zstd frames, of each
    largest = max(size for _key, size in packs)
    assert total <= sum(wanted.values()) + largest * len(entries_of(store)) + overhead


# What it costs


@pytest.mark.parametrize("most", [512, 64], ids=["in head", "in head and pages"])
def test_a_prune_costs_what_changed_and_not_what_is_there(
    disk: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(catalog, "SPILL_ABOVE", most)
    monkeypatch.setattr(catalog, "SPILL", most // 2)
    little, much = (_steady(disk / f"{number}", number) for number in (20, 140))

    paged = [call for call in much if call.key.startswith(keys.CATALOG)]
    assert [call.method for call in much if call not in paged] == [call.method for call in little]
    assert len(paged) <= 8, "more than that page and a neighbour that it is merged with"
    assert bool(paged) == (most < 140)
    for calls in (little, much):
        assert not [call for call in calls if call.method == "walk" and call.key != "nodes/"]
        manifests = [call for call in calls if call.key.startswith(keys.MANIFESTS)]
        assert not [call for call in manifests if call.method == "get"], "it has pushed them itself"


def _steady(home: Path, number: int) -> list[Call]:
    """Of a prune of so many checkpoints, of which one is new, one to be retired, one to go."""
    apart = timedelta(minutes=5)
    yard = Yard.at(home, Policy(min_count=1, min_age=number * apart))
    for each in range(number):
        yard.push_new(f"ckpt-{each:04}", hours=apart / timedelta(hours=1))
    retire(yard.store, entries_of(yard.store)[0].id)
    name(yard.store, entries_of(yard.store)[0], "for-now")
    yard.host.prune(yard.store)
    retire(yard.store, entries_of(yard.store)[0].id)
    yard.host.unkeep(yard.store, "for-now")
    yard.push_new("ckpt-new", hours=apart / timedelta(hours=1))
    store = FaultyStore(yard.store)

    report = yard.host.prune(store)

    assert (len(report.retired), len(report.forgotten)) == (1, 1)
    assert report.swept.orphans is None
    assert report.swept.deleted.objects
    return store.calls
