"""What an adversary tried on prune, keep and the index: each ends in a bucket that is whole."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ckptsync.errors import AccessDenied, CkptsyncError, IntegrityError, Refused, Unavailable
from ckptsync.repository import condemned, keys
from ckptsync.repository.head import Entry
from ckptsync.repository.repository import read_head
from ckptsync.repository.retention import Policy
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, Crash, FaultyStore, LyingStore
from tests.operations.actors import Odd, Verdict, edit_head
from tests.operations.forgetting import entries_of, into_pages, mark_bad, repository_of
from tests.operations.prunings import KEEP_TWO, Yard, a_host, keys_in, states
from tests.operations.takeovers import Clock
from tests.pipelines import PACK_BELOW, noise, snapshot


@pytest.fixture
def small(disk: Path) -> Yard:
    """Five checkpoints; three of them are to be retired."""
    yard = Yard.at(disk / "yard")
    yard.push_many(5)
    return yard


def memory(yard: Yard) -> MemoryStore:
    assert isinstance(yard.store, MemoryStore)
    return yard.store


# Wedges


def test_a_bad_checkpoint_whose_manifest_is_gone_can_be_forgotten(small: Yard) -> None:
    lost = entries_of(small.store)[1]
    mark_bad(small.store, lost.id)
    small.store.delete([keys.manifest(lost.id)])
    fresh = a_host(small.home, "host-c", small.clock, KEEP_TWO)

    fresh.prune(small.store, bad=True)

    assert lost.engine_id not in states(small.store)


class Locked(FaultyStore):
    """One object that nobody may delete, as a lock on it or a directory's mode does that."""

    def __init__(self, inner: ObjectStore, key: str) -> None:
        super().__init__(inner)
        self._key = key

    def delete(self, keys: Iterable[str]) -> None:
        doomed = list(keys)
        # As S3 does: the others go, the answer names the one.
        super().delete(key for key in doomed if key != self._key)
        if self._key in doomed:
            raise AccessDenied(self.name, "delete", self._key, "it is locked")


def test_one_object_that_may_not_be_deleted_does_not_keep_all_others(
    small: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckptsync.operations.deleting._AT_ONCE", 2)
    orphans: set[str] = set()
    for _ in range(4):
        orphans |= small.leave_orphans()
    small.clock.passes(hours=25)
    locked = sorted(orphans)[3]
    store = Locked(small.store, locked)

    for _ in range(5):
        with suppress(AccessDenied):
            small.host.prune(store, orphans=True)
        small.clock.passes(hours=25)

    assert set(keys_in(small.store)) & orphans == {locked}


def test_a_primary_with_one_locked_object_still_retires_and_forgets(small: Yard) -> None:
    orphans = small.leave_orphans()
    small.clock.passes(hours=25)
    store = Locked(small.store, min(orphans))

    for _ in range(5):
        with suppress(AccessDenied):
            small.host.prune(store, scheduled=True)
        small.clock.passes(hours=13)

    assert states(small.store) == {"ckpt-0004": "live", "ckpt-0005": "live"}


# Clocks


def with_own_clock(yard: Yard) -> Clock:
    """The store's clock goes its own way from now on."""
    own = Clock(yard.clock.time)
    memory(yard)._clock = own
    return own


def test_what_was_set_free_while_the_stores_clock_ran_ahead_goes_once_it_is_right(
    small: Yard,
) -> None:
    into_pages(small.store)
    small.clock.passes(hours=25)
    own = with_own_clock(small)
    small.host.prune(small.store)  # retires
    own.passes(days=3650)
    small.host.prune(small.store)  # forgets, and replaces pages
    own.passes(days=-3650)

    for _ in range(5):
        own.passes(hours=25)
        small.clock.passes(hours=25)
        small.host.prune(small.store, orphans=True)

    small.require_tidy()


def test_what_was_retired_while_the_stores_clock_ran_ahead_is_forgotten_once_it_is_right(
    small: Yard,
) -> None:
    own = with_own_clock(small)
    own.passes(days=3650)
    small.host.prune(small.store)  # retires in ten years
    own.passes(days=-3650)

    for _ in range(5):
        own.passes(hours=25)
        small.clock.passes(hours=25)
        small.host.prune(small.store)

    assert states(small.store) == {"ckpt-0004": "live", "ckpt-0005": "live"}


def test_a_keep_survives_a_clock_that_ran_ahead(small: Yard) -> None:
    own = with_own_clock(small)
    first = entries_of(small.store)[0]
    small.host.keep(small.store, first.id, name="audit", until=own() + timedelta(days=365))
    own.passes(days=3650)
    small.host.prune(small.store)
    own.passes(days=-3650)

    for _ in range(5):
        own.passes(hours=25)
        small.clock.passes(hours=25)
        small.host.prune(small.store)

    assert states(small.store)[first.engine_id] == "live"


# A head that went back


def test_a_node_that_knows_nothing_deletes_nothing_that_a_newer_head_named(disk: Path) -> None:
    yard = Yard.at(disk / "yard", policy=Policy(min_count=50, min_age=timedelta(days=99)))
    yard.push_many(6)
    old = memory(yard)._objects[keys.HEAD]
    newer = [yard.push_new("ckpt-0007"), yard.push_new("ckpt-0008")]
    memory(yard)._objects[keys.HEAD] = old  # somebody put an older version of it back
    yard.clock.passes(hours=25)
    before = snapshot(yard.store)
    pruner = a_host(yard.home, "pruner", yard.clock, yard.host.retention)

    with suppress(CkptsyncError):
        pruner.prune(yard.store)

    assert all(keys.manifest(entry.id) in snapshot(yard.store) for entry in newer)
    assert before.keys() <= snapshot(yard.store).keys()


# A store that cannot fence


def test_without_fencing_a_prune_loses_no_commit(disk: Path) -> None:
    yard = Yard.at(disk / "yard")
    host = replace(yard.host, fencing=False)
    other = replace(yard.other, fencing=False)
    lying = LyingStore(yard.store)
    for number in range(1, 6):
        yard.write(f"ckpt-{number}")
        host.push(lying)
        yard.clock.passes(hours=2)
    yard.write("ckpt-6")
    pushed: list[Entry] = []

    def decide(_number: int, call: Call) -> Verdict:
        if call.method == "put" and call.key == keys.HEAD and not pushed:
            pushed.append(host.push(lying).entry)
        return None

    with suppress(CkptsyncError):
        other.prune(Odd(lying, decide))

    if not pushed:
        pushed.append(host.push(lying).entry)
    assert pushed[0].engine_id in states(yard.store)


# Lies


def test_a_sweep_that_failed_does_not_count_as_one(small: Yard) -> None:
    small.host.prune(small.store)
    small.clock.passes(hours=25)

    def decide(_number: int, call: Call) -> Verdict:
        if call.method == "walk" and call.key == keys.CHUNKS:
            return Unavailable("s3://dr/orders", "list", call.key, "503")
        return None

    with pytest.raises(Unavailable):
        small.host.prune(Odd(small.store, decide), scheduled=True)
    small.clock.passes(minutes=5)

    with pytest.raises(Unavailable):
        small.host.prune(Odd(small.store, decide), scheduled=True)


def test_a_keep_that_has_expired_already_is_refused(small: Yard) -> None:
    first = entries_of(small.store)[0]

    with pytest.raises(Refused):
        small.host.keep(small.store, first.id, until=small.clock.time - timedelta(days=1))


# Damage


def test_an_upload_that_was_found_damaged_is_not_used_again(small: Yard) -> None:
    small.write("ckpt-6")

    class DiesAfterItsSwap(FaultyStore):
        swapped = False

        def put(self, key, body, **how):  # type: ignore[no-untyped-def]
            done = super().put(key, body, **how)
            if key == keys.HEAD:
                raise Crash
            return done

    with suppress(Crash):
        small.host.push(DiesAfterItsSwap(small.store))
    rotten = entries_of(small.store)[-1]
    assert rotten.engine_id == "ckpt-6"
    mark_bad(small.store, rotten.id)
    edit_head(small.store, latest=entries_of(small.store)[-2].id)
    rotten = entries_of(small.store)[-1]
    assert rotten.damaged
    for key in rotten.damaged:
        data = bytearray(small.store.get(key, limit=1 << 30).data)
        data[0] ^= 1
        small.store.put(key, bytes(data))
    small.host.prune(small.store, bad=True)

    small.write("ckpt-7", {"chunk": noise(PACK_BELOW, "ckpt-6"), "small": noise(60, "ckpt-6")})
    small.host.push(small.store)

    small.require_sound()


# Hostile and odd heads


def test_times_before_the_first_year_do_not_stop_a_prune(small: Yard) -> None:
    head = read_head(small.store).head
    odd = datetime.fromisoformat("0001-01-01T00:00:00+14:00")
    entries = (head.checkpoints[0].model_copy(update={"at": odd}), *head.checkpoints[1:])
    edit_head(small.store, checkpoints=entries)

    with suppress(CkptsyncError):
        small.host.prune(small.store)


def test_times_after_the_last_year_do_not_stop_a_prune(small: Yard) -> None:
    head = read_head(small.store).head
    odd = datetime.fromisoformat("9999-12-31T23:00:00-14:00")
    entries = (head.checkpoints[0].model_copy(update={"at": odd}), *head.checkpoints[1:])
    edit_head(small.store, checkpoints=entries)

    with suppress(CkptsyncError):
        small.host.prune(small.store)


def test_a_checkpoint_that_head_and_a_page_both_name_is_not_swept(small: Yard) -> None:
    before = read_head(small.store).head
    into_pages(small.store, size=1)
    small.host.prune(small.store)
    edit_head(small.store, checkpoints=before.checkpoints[:1])
    stored = snapshot(small.store)

    for _ in range(4):
        small.clock.passes(hours=25)
        with pytest.raises(IntegrityError, match=f"names checkpoint {before.checkpoints[0].id} tw"):
            small.host.prune(small.store, orphans=True)

    assert snapshot(small.store) == stored
    small.require_all_restore()


def test_generations_at_their_end_do_not_stop_a_prune_with_a_bare_error(small: Yard) -> None:
    head = read_head(small.store).head
    edit_head(small.store, sweep=head.sweep.model_copy(update={"generation": (1 << 63) - 1}))
    small.leave_orphans()
    small.clock.passes(hours=25)

    with suppress(CkptsyncError):
        small.host.prune(small.store)


# Order of deletions


def test_where_a_manifest_is_left_by_a_crash_its_objects_are_left_too(
    small: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.host.prune(small.store)
    small.clock.passes(hours=25)
    doomed = {e.id: e for e in entries_of(small.store) if e.state == "retired"}
    objects = {
        id: {o.key for o in repository_of(small.store).manifest(e).objects}
        for id, e in doomed.items()
    }
    monkeypatch.setattr(condemned, "MOST", 3)
    dying = 0

    class DiesAtTheSecondDelete(FaultyStore):
        def delete(self, keys: Iterable[str]) -> None:
            nonlocal dying
            doomed = list(keys)
            if not doomed[0].startswith("probe/"):
                dying += 1
            if dying == 2:
                raise Crash
            super().delete(doomed)

    with suppress(Crash):
        small.host.prune(DiesAtTheSecondDelete(small.store))

    assert dying == 2
    left = set(keys_in(small.store))
    for id, held in objects.items():
        assert keys.manifest(id) not in left or held <= left, id
