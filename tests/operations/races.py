"""Pushes with which somebody interferes, at each of their calls in turn."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

from ckptsync.errors import (
    CkptsyncError,
    Unavailable,
)
from ckptsync.operations.push import PushReport
from ckptsync.repository import keys
from ckptsync.stores.base import ObjectStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, FaultyStore
from tests.operations.actors import (
    Odd,
    before,
)
from tests.pipelines import Host, copy_of

SWAP: Final = Call("put", keys.HEAD)
READ: Final = Call("get", keys.HEAD)

Outcome = PushReport | CkptsyncError


def unavailable(call: Call) -> Unavailable:
    return Unavailable("s3://dr/orders", call.method, call.key, "503 Slow Down")


def attempt(host: Host, store: FaultyStore) -> Outcome:
    try:
        return host.push(store)
    except CkptsyncError as error:
        return error


def fail_at_the_manifest(host: Host, bucket: MemoryStore) -> FaultyStore:
    """A push that stores everything but its manifest; what it called."""

    def decide(_number: int, call: Call) -> Unavailable | None:
        manifest = call.method == "put" and call.key.startswith(keys.MANIFESTS)
        return unavailable(call) if manifest else None

    odd = Odd(bucket, decide)
    assert isinstance(attempt(host, odd), Unavailable)
    return odd


def at_each_call(
    host: Host, bucket: MemoryStore, disk: Path, meddle: Callable[[MemoryStore], object]
) -> Iterator[tuple[Host, MemoryStore, Outcome]]:
    """A push for each of its calls, just before which somebody meddles with the bucket."""
    for number in count():
        store = copy_of(bucket)
        copy = host.copied_to(disk / f"at-{number}")
        odd = Odd(store, before(number, partial(meddle, store)))
        outcome = attempt(copy, odd)
        if number >= len(odd.calls):
            assert number >= 5
            return
        yield copy, store, outcome


def snapshot_with_probes(store: ObjectStore) -> dict[str, bytes]:
    return {info.key: store.get(info.key, limit=1 << 30).data for info in store.walk("")}
