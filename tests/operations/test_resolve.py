"""Which checkpoint a pull takes: a table over what lies where, and every way not to know."""

from itertools import count, product
from typing import Final

import pytest

from ckptsync.errors import (
    AccessDenied,
    BucketNotFound,
    CheckpointNotFound,
    CkptsyncError,
    HeadLost,
    IntegrityError,
    StoreError,
    Unavailable,
)
from ckptsync.operations.pull import Restored
from ckptsync.operations.resolve import LATEST, Fresh, Kept, Remote, remote
from ckptsync.repository import keys
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import FaultyStore
from tests.operations.actors import Odd, edit_head
from tests.pipelines import Host, copy_of, snapshot, wanted

EMPTY: Final = ("nothing", "descriptor alone", "created")
UNCLEAR: Final[dict[str, type[CkptsyncError]]] = {
    "denied": AccessDenied,
    "away": Unavailable,
    "head damaged": IntegrityError,
    "head from the future": CkptsyncError,
    "head lost": HeadLost,
    "descriptor gone": IntegrityError,
    "descriptor damaged": IntegrityError,
    "descriptor of another": IntegrityError,
}


@pytest.fixture
def filled(host: Host) -> MemoryStore:
    """Three checkpoints: the first retired, the second live, the third bad."""
    store = MemoryStore("memory://filled")
    for number in (1, 2, 3):
        host.push_new(f"ckpt-{number}", store)
    head = edit_head(store)
    states = dict(zip(head.checkpoints, ("retired", "live", "bad"), strict=True))
    entries = tuple(entry.model_copy(update={"state": state}) for entry, state in states.items())
    edit_head(store, checkpoints=entries, latest=entries[1].id)
    return store


def a_store(kind: str, filled: MemoryStore, host: Host) -> ObjectStore:
    store = copy_of(filled)
    store.name = kind
    if kind in EMPTY or kind == "descriptor of another":
        return _without_checkpoints(kind, store, host)
    match kind:
        case "denied":
            return Odd(store, lambda _, call: AccessDenied(kind, call.method, call.key, "403"))
        case "away":
            return Odd(store, lambda _, call: Unavailable(kind, call.method, call.key, "DNS"))
        case "head damaged":
            store.put(keys.HEAD, snapshot(store)[keys.HEAD][:-1])
        case "head from the future":
            data = snapshot(store)[keys.HEAD]
            store.put(keys.HEAD, data.replace(b'"version":1', b'"version":2', 1))
        case "head lost":
            store.delete([keys.HEAD])
        case "descriptor gone":
            store.delete([keys.DESCRIPTOR])
        case "descriptor damaged":
            store.put(keys.DESCRIPTOR, b"{}")
        case "no live one":
            head = edit_head(store)
            dead = tuple(each.model_copy(update={"state": "bad"}) for each in head.checkpoints)
            edit_head(store, checkpoints=dead, latest=None)
    return store


def _without_checkpoints(kind: str, filled: MemoryStore, host: Host) -> MemoryStore:
    store = MemoryStore(kind)
    if kind == "descriptor alone":
        store.put(keys.DESCRIPTOR, snapshot(filled)[keys.DESCRIPTOR])
    if kind == "created":
        copy = host.copied_to(host.home.with_name("creator"))
        (copy.home / "state.sqlite").unlink()
        crashing = Odd(
            store,
            lambda _, call: (
                Unavailable(kind, call.method, call.key, "503")
                if call.key.startswith(("chunks", "packs"))
                else None
            ),
        )
        with pytest.raises(Unavailable):
            copy.push(crashing)
        assert keys.HEAD in snapshot(store)
    if kind == "descriptor of another":
        other = _without_checkpoints("created", filled, host)
        store = copy_of(filled)
        store.put(keys.DESCRIPTOR, snapshot(other)[keys.DESCRIPTOR])
    return store


TABLE: Final = [
    # bucket, read_bucket, wanted, expected
    ("filled", None, LATEST, "filled/ckpt-2"),
    ("filled", "denied", LATEST, "filled/ckpt-2"),
    ("filled", None, "ckpt-2", "filled/ckpt-2"),
    ("filled", None, "ckpt-1", "filled/ckpt-1"),
    ("filled", None, "ckpt-3", "fresh"),
    ("filled", "nothing", "ckpt-9", "fresh"),
    ("nothing", "filled", LATEST, "filled/ckpt-2"),
    ("nothing", "filled", "ckpt-1", "filled/ckpt-1"),
    ("nothing", "filled", "ckpt-9", "fresh"),
    ("descriptor alone", "filled", LATEST, "filled/ckpt-2"),
    ("created", "filled", LATEST, "filled/ckpt-2"),
    ("nothing", None, LATEST, "fresh"),
    ("nothing", "created", LATEST, "fresh"),
    ("descriptor alone", "descriptor alone", "ckpt-1", "fresh"),
    ("no live one", "filled", LATEST, IntegrityError),
    ("no live one", "filled", "ckpt-1", "filled/ckpt-1"),
    ("nothing", "no live one", LATEST, IntegrityError),
]


@pytest.mark.parametrize(("bucket", "read_bucket", "wish", "expected"), TABLE)
def test_which_checkpoint_is_taken_from_where(
    filled: MemoryStore,
    host: Host,
    bucket: str,
    read_bucket: str | None,
    wish: str,
    expected: str | type[CkptsyncError],
) -> None:
    store = a_store(bucket, filled, host)
    read_store = a_store(read_bucket, filled, host) if read_bucket else None
    if not isinstance(expected, str):
        with pytest.raises(expected):
            remote(store, read_store, wish)
        return

    found = remote(store, read_store, wish)

    if expected == "fresh":
        assert isinstance(found, Fresh)
        assert found.searched == [each for each in (bucket, read_bucket) if each]
    else:
        assert isinstance(found, Remote)
        assert f"{found.repository.store.name}/{found.entries[0].engine_id}" == expected
        assert found.read_only is (bucket != "filled")


@pytest.mark.parametrize("kind", UNCLEAR)
@pytest.mark.parametrize(
    ("position", "wish"), list(product(("bucket", "read_bucket"), (LATEST, "ckpt-1")))
)
def test_what_is_unclear_is_never_taken_for_empty(
    filled: MemoryStore, host: Host, other: Host, position: str, wish: str, kind: str
) -> None:
    """Not even with a filled read_bucket to go on with."""
    unclear = a_store(kind, filled, host)
    store, read_store = (unclear, filled) if position == "bucket" else (MemoryStore(), unclear)

    for required in (False, True):
        with pytest.raises(UNCLEAR[kind]) as caught:
            other.pull(store, wanted(wish, required=required), read_store=read_store)

        assert caught.value.exit_code not in (0, 10)
        assert not other.root.exists()


@pytest.mark.parametrize("kind", [Unavailable, AccessDenied, BucketNotFound])
def test_a_bucket_that_fails_at_any_call_of_a_pull_is_never_taken_for_empty(
    filled: MemoryStore, other: Host, kind: type[StoreError]
) -> None:
    for number in count():
        error = kind(filled.name, "read", "it", "for whatever reason")
        store = FaultyStore(filled, fail_at={number: error})
        try:
            other.pull(store, read_store=copy_of(filled))
        except kind:
            assert not list(other.root.glob("*"))
        else:
            assert number == len(store.calls) >= 5
            return


@pytest.mark.parametrize("bucket", EMPTY)
def test_no_checkpoint_anywhere_is_a_fresh_start_unless_one_is_required(
    filled: MemoryStore, host: Host, other: Host, bucket: str
) -> None:
    store = a_store(bucket, filled, host)

    assert isinstance(other.pull(store), Fresh)
    with pytest.raises(CheckpointNotFound, match="checkpoint not found") as caught:
        other.pull(store, wanted(required=True))

    assert caught.value.exit_code == 10


def test_an_id_that_nobody_has_is_never_a_fresh_start(filled: MemoryStore, other: Host) -> None:
    with pytest.raises(CheckpointNotFound, match=r"'ckpt-9' were not found in source memory://fil"):
        other.pull(filled, wanted("ckpt-9"))


def test_a_local_checkpoint_does_for_latest_and_no_bucket_is_asked(
    filled: MemoryStore, other: Host
) -> None:
    other.checkpoint("ckpt-7", {"a": b"a"})
    asked = FaultyStore(filled)

    kept = other.pull(asked, wanted(explicit=False))

    assert isinstance(kept, Kept)
    assert kept.checkpoint.engine.id == "ckpt-7"
    assert asked.calls == []


def test_only_the_very_local_checkpoint_does_for_an_id(filled: MemoryStore, other: Host) -> None:
    other.checkpoint("ckpt-2", {"a": b"a"})

    kept = other.pull(filled, wanted("ckpt-2", explicit=False))
    fetched = other.pull(filled, wanted("ckpt-1", explicit=False, force=True))

    assert isinstance(kept, Kept)
    assert isinstance(fetched, Restored)
    assert fetched.entry.engine_id == "ckpt-1"


def test_a_checkpoint_id_names_one_too(filled: MemoryStore, other: Host) -> None:
    id = edit_head(filled).checkpoints[0].id

    assert other.restore(filled, wanted(id)).entry.id == id
