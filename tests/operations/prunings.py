"""Buckets to prune, on hosts whose clock and whose store's clock a test moves."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

from ckptsync.errors import CkptsyncError, IntegrityError, NotFound, Unavailable
from ckptsync.repository import keys
from ckptsync.repository.head import Entry, Head, Keep
from ckptsync.repository.repository import read_head
from ckptsync.repository.retention import Policy
from ckptsync.stores.base import ObjectInfo, ObjectStore
from ckptsync.stores.local import LocalStore
from ckptsync.stores.memory import MemoryStore
from tests.fakes.stores import Call, Crash, FaultyStore
from tests.operations.actors import Odd, Verdict, before, edit_head
from tests.operations.forgetting import entries_of, into_pages, repository_of, retire
from tests.operations.invariants import Seen, require_sound
from tests.operations.races import unavailable
from tests.operations.takeovers import NOON, Clock
from tests.pipelines import PACK_BELOW, Host, contents, copy_of, noise, wanted

KEEP_TWO: Final = Policy(min_count=2, min_age=timedelta(hours=1))

T = TypeVar("T")


class Ahead(FaultyStore):
    """A store that tells the time by a clock of ours, as far as that went on since noon.

    What lies there seems older by as much: the store underneath goes by the host's own clock.
    """

    def __init__(self, inner: ObjectStore, clock: Clock) -> None:
        super().__init__(inner)
        self._clock = clock

    def now(self) -> datetime:
        return super().now() + (self._clock() - NOON)


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """A primary, another host, and their bucket, which all go by one clock."""

    home: Path
    clock: Clock
    store: MemoryStore | Ahead
    host: Host
    other: Host
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The content of each checkpoint by its name."""

    @classmethod
    def at(cls, home: Path, policy: Policy = KEEP_TWO, *, on_disk: bool = False) -> "Yard":
        """With `on_disk` the bucket is a directory of the yard, and survives its processes."""
        clock = Clock()
        return cls(
            home=home,
            clock=clock,
            store=_on_disk(home, clock) if on_disk else MemoryStore("s3://dr/orders", clock=clock),
            host=a_host(home, "host-a", clock, policy),
            other=a_host(home, "host-b", clock, policy),
        )

    def copied_to(self, home: Path) -> "Yard":
        """All of it once more, with a clock of its own."""
        clock = Clock(self.clock.time)
        if isinstance(self.store, MemoryStore):
            store: MemoryStore | Ahead = copy_of(self.store)
            store._clock = clock
        else:
            shutil.copytree(self.home / "bucket", home / "bucket", copy_function=shutil.copy2)
            store = _on_disk(home, clock)
        hosts = [_moved(each, home, clock) for each in (self.host, self.other)]
        return replace(
            self,
            home=home,
            clock=clock,
            store=store,
            host=hosts[0],
            other=hosts[1],
            written=dict(self.written),
        )

    @property
    def head(self) -> Head:
        return read_head(self.store).head

    def write(self, name: str, files: Mapping[str, bytes] | None = None) -> None:
        """A chunk and a small file of its own; what is in `common` all have alike."""
        own = {"chunk": noise(PACK_BELOW, name), "small": noise(60, name)}
        common = {"common": noise(PACK_BELOW, "common"), "tiny": noise(30, "tiny")}
        top = self.host.checkpoint(name, {**common, **(files or own)})
        self.written[name] = dict(contents(top))

    def push_new(self, name: str, *, hours: float = 2) -> Entry:
        """Write a checkpoint, push it, and let time pass; no engine keeps all that it wrote."""
        self.write(name)
        entry = self.host.push(self.store).entry
        self.clock.passes(hours=hours)
        for old in sorted(self.host.root.iterdir(), key=lambda path: path.name)[:-1]:
            shutil.rmtree(old)
        return entry

    def push_many(self, number: int, *, hours: float = 2) -> list[Entry]:
        return [self.push_new(f"ckpt-{each:04}", hours=hours) for each in range(1, number + 1)]

    def leave_orphans(self) -> frozenset[str]:
        """Uploads of a push of which nobody remembers anything; their keys."""
        lost = self.host.copied_to(self.home / "lost")
        before = set(keys_in(self.store))
        lost.checkpoint("ckpt-lost", {"chunk": noise(PACK_BELOW, "lost"), "small": b"lost"})
        with suppress(Unavailable):
            lost.push(Odd(self.store, at_the_manifest))
        shutil.rmtree(lost.home)
        return frozenset(set(keys_in(self.store)) - before)

    def require_sound(self, since: Seen | None = None) -> Seen:
        seen = require_sound(self.store, since=since)
        assert seen is not None
        return seen

    def require_restores(self, entry: Entry) -> None:
        """Byte for byte, on a machine that has nothing."""
        fresh = Host(home=self.home / "fresh", now=self.clock)
        fresh.restore(self.store, wanted(entry.id))
        name = entry.engine_id
        assert contents(fresh.root / name) == self.written[name]
        shutil.rmtree(fresh.home)

    def require_all_restore(self) -> None:
        for entry in entries_of(self.store):
            if entry.state != "bad":
                self.require_restores(entry)

    def settle(self) -> None:
        """Prune as often, with as much time between, as it takes until there is nothing to do."""
        for _ in range(3):
            self.clock.passes(hours=25)
            self.host.prune(self.store, orphans=True)

    def require_tidy(self) -> None:
        """Nothing lies there but what head leads to, and what belongs to no checkpoint."""
        assert set(keys_in(self.store)) == needed(self.store)


def at_the_manifest(_number: int, call: Call) -> Verdict:
    """Where a push fails that leaves all of its data behind."""
    manifest = call.method == "put" and call.key.startswith(keys.MANIFESTS)
    return unavailable(call) if manifest else None


class Sleeping(FaultyStore):
    """For a process that is stopped before its deletions, and goes on when it is woken."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.doomed: list[str] = []

    def delete(self, keys: Iterable[str]) -> None:
        self.doomed += keys

    def stat(self, key: str) -> ObjectInfo:
        if key in self.doomed:
            raise NotFound(self.name, "stat", key, "it is as good as deleted")
        return super().stat(key)

    def wake(self) -> None:
        super().delete(self.doomed)


def a_host(home: Path, name: str, clock: Clock, policy: Policy) -> Host:
    return Host(home=home / name, node=name, machine=name, now=clock, retention=policy, parallel=1)


def _moved(host: Host, home: Path, clock: Clock) -> Host:
    there = home / host.home.name
    moved = host.copied_to(there) if host.home.exists() else replace(host, home=there)
    return replace(moved, now=clock)


def _on_disk(home: Path, clock: Clock) -> Ahead:
    (home / "bucket").mkdir(parents=True, exist_ok=True)
    return Ahead(LocalStore(home / "bucket"), clock)


def keys_in(store: ObjectStore) -> list[str]:
    """Of all that a sweep may ever delete."""
    places = (keys.CHUNKS, keys.PACKS, keys.MANIFESTS, keys.CATALOG, keys.CONDEMNED)
    return [info.key for place in places for info in store.walk(place)]


def needed(store: ObjectStore) -> set[str]:
    """What head leads to, of live, retired and bad checkpoints."""
    head, repository = read_head(store).head, repository_of(store)
    found = {page.key for page in head.pages} | {named.key for named in head.sweep.lists}
    for entry in repository.entries(head):
        found.add(keys.manifest(entry.id))
        with suppress(*([NotFound, IntegrityError] if entry.state == "bad" else [])):
            found.update(stored.key for stored in repository.manifest(entry).objects)
    return found


def states(store: ObjectStore) -> dict[str, str]:
    """Of every checkpoint that head names, by its name."""
    return {entry.engine_id: entry.state for entry in entries_of(store)}


def name(store: ObjectStore, of: Entry, called: str) -> None:
    """Keep a checkpoint by name as an operator of another version might: it stays retired."""
    kept = Keep(checkpoint=of.id, by="a test")
    edit_head(store, keeps={**read_head(store).head.keeps, called: kept})


def with_everything(home: Path, *, on_disk: bool = False) -> Yard:
    """Nine checkpoints, four of them in pages, and more to be done than one prune has ever met.

    To be retired: 2, 4 and 7; to be forgotten: 1 and 5; to be brought back: 3 and 6. 8 and 9
    stay. There are orphans of each kind.
    """
    yard = Yard.at(home, on_disk=on_disk)
    pushed = yard.push_many(4)
    into_pages(yard.store)
    pushed += [yard.push_new(f"ckpt-{number:04}") for number in range(5, 10)]
    retire(yard.store, *(pushed[number - 1].id for number in (1, 3, 5, 6)))
    name(yard.store, pushed[2], "in-a-page")
    name(yard.store, pushed[5], "in-head")
    yard.leave_orphans()
    for key in (keys.catalog(), keys.condemned(0)):
        yard.store.put(key, b"of a crash")
    yard.clock.passes(hours=49)
    return yard


AFTER_EVERYTHING: Final = {
    "ckpt-0002": "retired",
    "ckpt-0003": "live",
    "ckpt-0004": "retired",
    "ckpt-0006": "live",
    "ckpt-0007": "retired",
    "ckpt-0008": "live",
    "ckpt-0009": "live",
}
"""What one prune of that leaves."""

Act = Callable[[Yard, ObjectStore], object]


def crashes(yard: Yard, disk: Path, act: Act) -> Iterator[Yard]:
    """Every yard that a crash of `act` leaves: before each call, and after each that writes."""
    for number in count():
        for crash_after in (False, True):
            left = yard.copied_to(disk / f"crash-{number}-{crash_after}")
            store = FaultyStore(left.store, crash_at=number, crash_after=crash_after)
            try:
                act(left, store)
            except Crash:
                yield left
            else:
                assert number == len(store.calls), "a crash was swallowed"
                return
            finally:
                shutil.rmtree(left.home)
            if store.calls[number].method not in ("put", "delete"):
                break


def meddled(
    yard: Yard,
    disk: Path,
    act: Callable[[Yard, ObjectStore], T],
    meddle: Callable[[Yard], object],
) -> Iterator[tuple[Yard, T | CkptsyncError]]:
    """What comes of `act` for each of its calls, just before which somebody meddles."""
    for number in count():
        left = yard.copied_to(disk / f"meddled-{number}")
        odd = Odd(left.store, before(number, partial(meddle, left)))
        outcome: T | CkptsyncError
        try:
            outcome = act(left, odd)
        except CkptsyncError as error:
            outcome = error
        try:
            if number >= len(odd.calls):
                assert number >= 5
                return
            yield left, outcome
        finally:
            shutil.rmtree(left.home)
