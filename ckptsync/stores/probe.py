"""Find out what a store does, whatever it claims: some gateways ignore conditions and say 200."""

import json
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Final, Protocol, runtime_checkable

from pydantic import TypeAdapter

from ckptsync.errors import Contention, PreconditionFailed
from ckptsync.stores.base import Expect, ObjectStore, Version

_ATTEMPTS: Final = 5  # at a replace that another probe of the same node may disturb
_LIMIT: Final = 64 * 1024
_ROUNDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a store was seen to do."""

    conditional_create: bool
    conditional_replace: bool
    verifies_checksums: bool | None
    """None where bytes cannot be corrupted on their way."""
    clock_offset: timedelta
    """How far the store's clock is ahead of this host's."""

    @property
    def fences(self) -> bool:
        """Whether two writers would be told apart."""
        return self.conditional_create and self.conditional_replace


CAPABILITIES: Final = TypeAdapter(Capabilities)
"""To and from JSON, for whoever remembers what a probe saw."""


@runtime_checkable
class ChecksumProbing(Protocol):
    """A store over a network, which can be tried with a body that does not fit its checksum."""

    def put_corrupted(self, key: str) -> bool | None:
        """Send such a body. True if it was rejected, None if the store cannot be tried.

        What lies at the key afterwards is undefined.
        """
        ...


def probe(
    store: ObjectStore, node: str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Capabilities:
    """Try a store with the scratch object `probe/<node>.json`, which stays behind.

    Raises Contention, which says nothing about the store, if another write got in the way.
    """
    key = f"probe/{node}.json"
    return Capabilities(
        conditional_create=_refuses_a_second_create(store, key),
        conditional_replace=_refuses_stale(store, key) and _replaces_current(store, key),
        verifies_checksums=store.put_corrupted(key) if isinstance(store, ChecksumProbing) else None,
        clock_offset=store.now() - clock(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    writers: int
    winners: tuple[int, ...]
    """How many were told in each round that they had won."""
    kept: bool
    """Whether each round left the bytes of a winner."""

    @property
    def sound(self) -> bool:
        return self.kept and set(self.winners) == {1}


def race(store: ObjectStore, key: str, *, writers: int = 8) -> Race:
    """Let several conditional writes meet: exactly one should win, and its bytes stay.

    One round creates `key`, further ones replace it; it is deleted before and after. Slow: for
    `doctor`, not for every start.
    """
    store.delete([key])
    expect: Version | Expect = Expect.ABSENT
    winners: list[int] = []
    kept = True
    for _ in range(_ROUNDS):
        won = _winners(store, key, expect, writers)
        stored = store.get(key, limit=_LIMIT)
        winners.append(len(won))
        kept = kept and stored.data in won
        expect = stored.version
    store.delete([key])
    return Race(writers=writers, winners=tuple(winners), kept=kept)


def _refuses_a_second_create(store: ObjectStore, key: str) -> bool:
    # A former probe's object may be there: then the first create is refused already.
    return not _accepts(store, key, Expect.ABSENT) or not _accepts(store, key, Expect.ABSENT)


def _refuses_stale(store: ObjectStore, key: str) -> bool:
    stale = store.put(key, _scratch())
    store.put(key, _scratch())
    return not _accepts(store, key, stale)


def _replaces_current(store: ObjectStore, key: str) -> bool:
    return any(_accepts(store, key, store.get(key, limit=_LIMIT).version) for _ in range(_ATTEMPTS))


def _accepts(store: ObjectStore, key: str, expect: Version | Expect) -> bool:
    try:
        store.put(key, _scratch(), expect=expect)
    except PreconditionFailed:
        return False
    return True


def _scratch() -> bytes:
    """Bytes never written before: a version may be a hash of the content."""
    return json.dumps({"format": "ckptsync/probe", "nonce": secrets.token_hex(16)}).encode()


def _winners(store: ObjectStore, key: str, expect: Version | Expect, writers: int) -> list[bytes]:
    """The bodies of those writes that were said to be stored."""
    start = Barrier(writers)

    def write(body: bytes) -> bool:
        start.wait()
        try:
            store.put(key, body, expect=expect)
        except (PreconditionFailed, Contention):
            return False
        return True

    bodies = [_scratch() for _ in range(writers)]
    with ThreadPoolExecutor(writers, thread_name_prefix="race") as pool:
        won = list(pool.map(write, bodies))
    return [body for body, stored in zip(bodies, won, strict=True) if stored]
