"""A prune that cannot tell what is needed, or that may not do what it has to: nothing goes."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from ckptsync.errors import (
    AccessDenied,
    HeadLost,
    IntegrityError,
    StoreError,
    Unavailable,
    UnfitStore,
)
from ckptsync.model import CheckpointId
from ckptsync.operations import heartbeat
from ckptsync.repository import head as heads
from ckptsync.repository import keys, nodes
from ckptsync.repository.head import Entry
from ckptsync.stores.base import ObjectInfo, ObjectStore
from tests.fakes.stores import Call, FaultyStore, LyingStore
from tests.operations.actors import Odd, Verdict, edit_head
from tests.operations.forgetting import entries_of, mark_bad
from tests.operations.prunings import (
    AFTER_EVERYTHING,
    Yard,
    keys_in,
    states,
    with_everything,
)
from tests.pipelines import snapshot


@pytest.fixture
def yard(disk: Path) -> Yard:
    return with_everything(disk / "yard")


@pytest.fixture
def small(disk: Path) -> Yard:
    """Five checkpoints; three of them are to be retired."""
    yard = Yard.at(disk / "yard")
    yard.push_many(5)
    return yard


def denied(call: Call) -> AccessDenied:
    return AccessDenied("s3://dr/orders", call.method, call.key, "403 Forbidden")


def denying(method: str, prefix: str) -> Callable[[int, Call], Verdict]:
    def decide(_number: int, call: Call) -> Verdict:
        return denied(call) if call.method == method and call.key.startswith(prefix) else None

    return decide


# Never on doubt


Damage = Callable[[Yard], object]


def the_manifest_is_gone_of(number: int, state: str = "live") -> Damage:
    def damage(yard: Yard) -> None:
        entry = _entry(yard, number)
        if state == "bad":
            mark_bad(yard.store, entry.id)
        yard.store.delete([keys.manifest(entry.id)])

    return damage


def the_manifest_is_rotten_of(number: int, state: str = "live") -> Damage:
    def damage(yard: Yard) -> None:
        entry = _entry(yard, number)
        if state == "bad":
            mark_bad(yard.store, entry.id)
        yard.store.put(keys.manifest(entry.id), b"rot")

    return damage


def a_page_is_gone(yard: Yard) -> None:
    yard.store.delete([yard.head.pages[0].key])


def a_page_is_rotten(yard: Yard) -> None:
    yard.store.put(yard.head.pages[0].key, b"rot")


def head_makes_no_sense(yard: Yard) -> None:
    yard.store.put(keys.HEAD, b"{")


def head_is_gone(yard: Yard) -> None:
    yard.store.delete([keys.HEAD])


def latest_is_not_there(yard: Yard) -> None:
    edit_head(yard.store, latest=CheckpointId("0001-00000009-000000000000"))


def latest_is_retired(yard: Yard) -> None:
    edit_head(yard.store, latest=_entry(yard, 5).id)


def there_is_no_latest(yard: Yard) -> None:
    edit_head(yard.store, latest=None)


def the_descriptor_is_gone(yard: Yard) -> None:
    yard.store.delete([keys.DESCRIPTOR])


def a_heartbeat_makes_no_sense(yard: Yard) -> None:
    yard.store.put(nodes.key("host-z"), b"{")


def _entry(yard: Yard, number: int) -> Entry:
    return next(each for each in entries_of(yard.store) if each.seq == number)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(the_manifest_is_gone_of(8), id="manifest of a live one gone"),
        pytest.param(the_manifest_is_rotten_of(8), id="manifest of a live one rotten"),
        pytest.param(the_manifest_is_gone_of(2), id="manifest of one to be retired gone"),
        pytest.param(the_manifest_is_gone_of(6), id="manifest of a retired one gone"),
        pytest.param(the_manifest_is_rotten_of(1), id="manifest of one to be forgotten rotten"),
        pytest.param(the_manifest_is_gone_of(7, "bad"), id="manifest of a bad one gone"),
        pytest.param(the_manifest_is_rotten_of(4, "bad"), id="manifest of a bad one rotten"),
        a_page_is_gone,
        a_page_is_rotten,
        head_makes_no_sense,
        latest_is_not_there,
        latest_is_retired,
        there_is_no_latest,
        the_descriptor_is_gone,
        a_heartbeat_makes_no_sense,
    ],
)
@pytest.mark.parametrize("scheduled", [False, True], ids=["by hand", "scheduled"])
def test_nothing_goes_where_it_cannot_be_told_what_is_needed(
    yard: Yard, damage: Damage, scheduled: bool
) -> None:
    _forget_the_manifests(yard)
    damage(yard)
    before = snapshot(yard.store)

    with pytest.raises(IntegrityError) as caught:
        yard.host.prune(yard.store, orphans=True, insist=True, scheduled=scheduled)

    assert caught.value.exit_code == 12
    assert snapshot(yard.store) == before


def test_nothing_goes_where_head_is_gone(yard: Yard) -> None:
    head_is_gone(yard)
    before = snapshot(yard.store)

    for host in (yard.host, yard.other):
        with pytest.raises(HeadLost):
            host.prune(yard.store, orphans=True, insist=True)

    assert snapshot(yard.store) == before


def test_nothing_goes_where_a_manifest_vanished_that_the_index_has_read(yard: Yard) -> None:
    """It is known what it referred to: that stays, as does what belongs to the others."""
    yard.host.prune(yard.store)
    the_manifest_is_gone_of(8)(yard)
    entry = _entry(yard, 8)
    before = set(keys_in(yard.store))

    yard.clock.passes(hours=2)
    yard.host.prune(yard.store, orphans=True)

    assert set(keys_in(yard.store)) == before
    assert entry.id in {each.id for each in entries_of(yard.store)}


def _forget_the_manifests(yard: Yard) -> None:
    """So that all are read from the bucket, as another machine would."""
    with (
        yard.host.running(yard.store) as pipeline,
        pipeline.state.database.transaction() as transaction,
    ):
        transaction.execute("DELETE FROM manifest")


class Halfway(FaultyStore):
    """Its listing of one place ends in the middle, as when the network goes away."""

    def __init__(self, inner: ObjectStore, prefix: str) -> None:
        super().__init__(inner)
        self._prefix = prefix

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        found = list(super().walk(prefix))
        if prefix != self._prefix:
            yield from found
            return
        yield from found[: len(found) // 2]
        raise Unavailable(self.name, "list", prefix, "connection reset")


@pytest.mark.parametrize("prefix", ["chunks/", "packs/", "manifests/", "catalog/", "condemned/"])
def test_no_object_goes_after_a_listing_that_fails_half_way(yard: Yard, prefix: str) -> None:
    before = set(keys_in(yard.store))

    with pytest.raises(Unavailable):
        yard.host.prune(Halfway(yard.store, prefix), insist=True)

    assert before <= set(keys_in(yard.store))
    yard.require_sound()
    yard.host.prune(yard.store)
    yard.settle()
    yard.require_tidy()


def test_nothing_changes_after_a_listing_of_the_heartbeats_that_fails_half_way(
    yard: Yard,
) -> None:
    with yard.other.running(yard.store) as pipeline:
        heartbeat.beat(pipeline, warm=_entry(yard, 2).id)
    before = snapshot(yard.store)

    with pytest.raises(Unavailable):
        yard.host.prune(Halfway(yard.store, nodes.PREFIX), insist=True)

    assert snapshot(yard.store) == before


# What it may not do


def test_by_hand_a_node_that_may_not_delete_is_told_so_and_changes_nothing(yard: Yard) -> None:
    before = snapshot(yard.store)

    for _ in range(2):  # by hand it is tried again each time
        odd = Odd(yard.store, denying("delete", ""))
        with pytest.raises(AccessDenied) as caught:
            yard.host.prune(odd, insist=True)
        assert any(call.method == "delete" for call in odd.calls)

    assert caught.value.exit_code == 14
    assert "pruning is the job of a node that may delete" in (caught.value.hint or "")
    assert snapshot(yard.store) == before
    assert yard.head.revision == heads.decode(before[keys.HEAD], "").revision


def test_a_primary_that_may_not_delete_leaves_it_to_others_and_asks_again_a_day_later(
    yard: Yard,
) -> None:
    before = snapshot(yard.store)
    assert yard.host.prune(Odd(yard.store, denying("delete", "")), scheduled=True).left_to_others

    for _ in range(4):
        yard.clock.passes(hours=5.9)
        store = FaultyStore(yard.store)
        assert yard.host.prune(store, scheduled=True).left_to_others
        assert store.calls == []
    assert snapshot(yard.store) == before

    yard.clock.passes(hours=0.5)
    assert not yard.host.prune(yard.store, scheduled=True).left_to_others
    assert states(yard.store) == AFTER_EVERYTHING


def test_a_primary_that_was_allowed_to_delete_by_hand_prunes_by_itself_again(small: Yard) -> None:
    assert small.host.prune(Odd(small.store, denying("delete", "")), scheduled=True).left_to_others
    small.host.prune(small.store)
    small.push_new("ckpt-0006")

    report = small.host.prune(small.store, scheduled=True)

    assert not report.left_to_others
    assert len(report.retired) == 1


@pytest.mark.parametrize("scheduled", [False, True], ids=["by hand", "scheduled"])
@pytest.mark.parametrize(
    ("method", "prefix"),
    [
        ("put", keys.HEAD),
        ("put", keys.CATALOG),
        ("put", keys.CONDEMNED),
        ("walk", keys.CHUNKS),
        ("walk", nodes.PREFIX),
        ("get", keys.CATALOG),
        ("get", keys.MANIFESTS),
    ],
)
def test_where_something_else_is_denied_no_object_goes(
    yard: Yard, method: str, prefix: str, scheduled: bool
) -> None:
    _forget_the_manifests(yard)
    before = snapshot(yard.store)

    with pytest.raises(AccessDenied) as caught:
        yard.host.prune(Odd(yard.store, denying(method, prefix)), scheduled=scheduled)

    assert caught.value.exit_code == 14
    assert before.keys() <= snapshot(yard.store).keys()
    yard.require_sound()
    yard.clock.passes(hours=1)
    yard.host.prune(yard.store, scheduled=scheduled)
    assert states(yard.store) == AFTER_EVERYTHING
    yard.settle()
    yard.require_tidy()


def test_what_a_bucket_protects_stays_and_keeps_nothing_else_from_going(yard: Yard) -> None:
    """It may protect a part of what lies in it."""
    before = snapshot(yard.store).keys()

    with pytest.raises(AccessDenied) as caught:
        yard.host.prune(Locking(yard.store, keys.MANIFESTS))

    assert caught.value.exit_code == 14
    gone = before - snapshot(yard.store).keys()
    assert gone
    assert not any(key.startswith(keys.MANIFESTS) for key in gone)
    yard.require_sound()
    yard.clock.passes(hours=1)
    yard.host.prune(yard.store, scheduled=True)
    yard.settle()
    yard.require_tidy()


class Locking(FaultyStore):
    """Deletes nothing below a prefix, and says so."""

    def __init__(self, inner: ObjectStore, prefix: str) -> None:
        super().__init__(inner)
        self._prefix = prefix

    def delete(self, keys: Iterable[str]) -> None:
        doomed = tuple(keys)
        super().delete(key for key in doomed if not key.startswith(self._prefix))
        locked = next((key for key in doomed if key.startswith(self._prefix)), None)
        if locked is not None:
            raise AccessDenied(self.name, "delete", locked, "it is locked")


class Keeping(FaultyStore):
    """Answers that it deleted, and did not."""

    def delete(self, keys: object) -> None:
        del keys


def test_a_store_that_only_says_that_it_deletes_is_found_out(yard: Yard) -> None:
    before = snapshot(yard.store)

    with pytest.raises(StoreError, match="it is still there") as caught:
        yard.host.prune(Keeping(yard.store))

    assert caught.value.key in before
    assert caught.value.key in str(caught.value)
    assert before.keys() <= snapshot(yard.store).keys()
    yard.host.prune(yard.store)
    yard.settle()
    yard.require_tidy()


def test_a_store_that_ignores_conditions_is_not_pruned(yard: Yard) -> None:
    before = snapshot(yard.store)
    yard.clock.passes(hours=25)  # so that it is looked at anew

    with pytest.raises(UnfitStore) as caught:
        yard.host.prune(LyingStore(yard.store), insist=True)

    assert caught.value.exit_code == 13
    assert snapshot(yard.store) == before
