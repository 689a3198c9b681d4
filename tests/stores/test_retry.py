"""When a call is tried again, how long that takes, and when it is given up."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from ckptsync.errors import (
    AccessDenied,
    Cancelled,
    Contention,
    NotFound,
    Unavailable,
)
from ckptsync.stores.base import Expect, ObjectInfo, ObjectStore
from ckptsync.stores.memory import MemoryStore
from ckptsync.stores.retry import Backoff, Retrying
from tests.fakes.stores import Crash, FaultyStore

AWAY = Unavailable("memory://", "reach", "key", "it is away")
BUSY = Contention("memory://", "write", "key", "a race")
THREE = Backoff(attempts=3, first=timedelta(seconds=1), ceiling=timedelta(seconds=10))


def never(_seconds: float) -> bool:
    return False


def filled() -> MemoryStore:
    store = MemoryStore()
    store.put("key", b"body")
    return store


RETRIED: list[Callable[[ObjectStore], object]] = [
    lambda store: store.stat("key"),
    lambda store: list(store.walk("")),
    lambda store: store.get("key", limit=10),
    lambda store: store.read_into("key", 0, memoryview(bytearray(1))),
    lambda store: store.put("key", b"x"),
    lambda store: store.delete(iter(["key"])),
    lambda store: store.now(),
]


@pytest.mark.parametrize("act", RETRIED)
def test_a_transient_failure_is_tried_again(act: Callable[[ObjectStore], object]) -> None:
    faulty = FaultyStore(filled(), fail_at={0: AWAY, 1: BUSY})

    act(Retrying(faulty, THREE, never))

    assert len(faulty.calls) == 3
    assert len(set(faulty.calls)) == 1


@pytest.mark.parametrize("act", RETRIED)
def test_the_last_attempt_raises_what_it_met(act: Callable[[ObjectStore], object]) -> None:
    faulty = FaultyStore(filled(), fail_at=dict.fromkeys(range(9), AWAY))

    with pytest.raises(Unavailable) as caught:
        act(Retrying(faulty, THREE, never))

    assert caught.value is AWAY
    assert len(faulty.calls) == 3


@pytest.mark.parametrize("act", RETRIED)
@pytest.mark.parametrize(
    "error", [AccessDenied("m", "a", "k", "r"), NotFound("m", "a", "k", "r"), Crash("dead")]
)
def test_what_would_fail_again_is_raised_at_once(
    act: Callable[[ObjectStore], object], error: BaseException
) -> None:
    faulty = FaultyStore(filled(), fail_at={0: error})

    with pytest.raises(type(error)) as caught:
        act(Retrying(faulty, THREE, never))

    assert caught.value is error
    assert len(faulty.calls) == 1


def test_a_conditional_put_is_never_tried_again() -> None:
    store = filled()
    version = store.get("key", limit=10).version
    for expect in (Expect.ABSENT, version):
        faulty = FaultyStore(store, fail_at={0: AWAY})
        with pytest.raises(Unavailable):
            Retrying(faulty, THREE, never).put("key", b"x", expect=expect)
        assert len(faulty.calls) == 1


def test_a_stop_request_ends_the_waiting() -> None:
    faulty = FaultyStore(filled(), fail_at={0: AWAY})

    with pytest.raises(Cancelled):
        Retrying(faulty, THREE, lambda _: True).stat("key")

    assert len(faulty.calls) == 1


def test_every_wait_is_logged_with_its_cause() -> None:
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(seconds)
        return False

    faulty = FaultyStore(filled(), fail_at={0: AWAY, 1: AWAY})
    with structlog.testing.capture_logs() as logged:
        Retrying(faulty, THREE, wait).stat("key")

    assert [entry["event"] for entry in logged] == ["store.retrying"] * 2
    assert [entry["seconds"] for entry in logged] == waited
    assert [entry["failures"] for entry in logged] == [1, 2]
    assert all("it is away" in entry["error"] for entry in logged)


def test_a_walk_that_fails_in_the_middle_starts_over() -> None:
    class BreakingOff(MemoryStore):
        broken = False

        def walk(self, prefix: str) -> Iterator[ObjectInfo]:
            for info in super().walk(prefix):
                yield info
                if not self.broken:
                    self.broken = True
                    raise AWAY

    store = BreakingOff()
    for key in ("a", "b", "c"):
        store.put(key, b"")

    seen = [info.key for info in Retrying(store, THREE, never).walk("")]

    assert seen == ["a", "a", "b", "c"]


@given(
    failures=st.integers(1, 10_000),
    chance=st.floats(0, 1, exclude_max=True),
    first=st.timedeltas(timedelta(0), timedelta(minutes=1)),
    ceiling=st.timedeltas(timedelta(0), timedelta(hours=1)),
)
def test_a_delay_is_never_above_the_ceiling(
    failures: int, chance: float, first: timedelta, ceiling: timedelta
) -> None:
    backoff = Backoff(first=first, ceiling=ceiling)

    delay = backoff.delay(failures, chance=chance)

    assert 0 <= delay <= ceiling.total_seconds()
    assert delay <= backoff.delay(failures + 1, chance=chance)


def test_delays_double_until_the_ceiling() -> None:
    delays = [THREE.delay(failures, chance=0.5) for failures in range(1, 7)]

    assert delays == [0.5, 1, 2, 4, 5, 5]


def test_it_is_named_like_the_store_it_wraps() -> None:
    assert Retrying(MemoryStore("memory://x"), THREE, never).name == "memory://x"
