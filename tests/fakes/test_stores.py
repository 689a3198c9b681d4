"""The faulty store fails exactly as it is told to."""

import pytest

from ckptsync.errors import Unavailable
from ckptsync.stores.base import Expect
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, Crash, FaultyStore, LyingStore


def test_calls_are_recorded_in_order() -> None:
    store = FaultyStore(MemoryStore())
    store.put("a", b"x")
    store.get("a", limit=1)
    list(store.walk("p/"))
    store.delete(["a", "b"])
    store.now()

    assert store.calls == [
        Call("put", "a"),
        Call("get", "a"),
        Call("walk", "p/"),
        Call("delete", "a b"),
        Call("now", ""),
    ]


@pytest.mark.parametrize(("after", "stored"), [(False, []), (True, ["a"])])
def test_a_crash_strikes_before_or_after_the_call(after: bool, stored: list[str]) -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, crash_at=1, crash_after=after)
    store.now()

    with pytest.raises(Crash):
        store.put("a", b"x")

    assert [info.key for info in inner.walk("")] == stored


def test_the_dead_make_no_calls() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, crash_at=0)
    for _ in range(2):
        with pytest.raises(Crash):
            store.put("a", b"x")

    assert list(inner.walk("")) == []
    assert len(store.calls) == 1


def test_a_lost_reply_leaves_the_write() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner, lose_reply_at={0})

    with pytest.raises(Unavailable):
        store.put("a", b"x", expect=Expect.ABSENT)

    assert inner.get("a", limit=1).data == b"x"


def test_a_failing_call_is_not_carried_out() -> None:
    inner = MemoryStore()
    error = Unavailable("m", "write", "a", "away")
    store = FaultyStore(inner, fail_at={0: error})

    with pytest.raises(Unavailable):
        store.put("a", b"x")
    store.put("b", b"y")

    assert [info.key for info in inner.walk("")] == ["b"]


def test_a_lying_store_takes_every_condition_for_true() -> None:
    store = LyingStore(MemoryStore())
    store.put("a", b"x", expect=Expect.ABSENT)
    store.put("a", b"y", expect=Expect.ABSENT)

    assert store.get("a", limit=1).data == b"y"
