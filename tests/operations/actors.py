"""Others who touch the bucket, and a store that lets a test decide about each call."""

import secrets
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import zstandard

from ckptsync.errors import CkptsyncError, Unavailable
from ckptsync.hashing import Hash
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository import keys
from ckptsync.repository.condemned import Condemned
from ckptsync.repository.head import CondemnedList, Fork, Head, Sweep, Timeline
from ckptsync.repository.head import encode as encode_head
from ckptsync.repository.repository import Repository, read_head
from ckptsync.stores.base import Body, Expect, Fetched, ObjectStore, Version
from tests.fakes.stores import Call, FaultyStore

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """The call is carried out, and answered with this error."""

    error: CkptsyncError


LOST = Stored(Unavailable("s3://dr/orders", "reach", "the store", "the reply was lost"))

Verdict = CkptsyncError | Stored | None
"""An error is raised in place of the call; None lets it succeed."""

Decide = Callable[[int, Call], Verdict]
"""Gets the number of a call and the call; it may do something first."""


class Odd(FaultyStore):
    """Asks before each call what is to become of it."""

    def __init__(self, inner: ObjectStore, decide: Decide) -> None:
        super().__init__(inner)
        self._decide = decide

    def _call(self, method: str, key: str, action: Callable[[], T]) -> T:
        verdict = self._decide(len(self.calls), Call(method, key))
        if isinstance(verdict, CkptsyncError):
            self.calls.append(Call(method, key))
            raise verdict
        done = super()._call(method, key, action)
        if isinstance(verdict, Stored):
            raise verdict.error
        return done


class Late(FaultyStore):
    """Does not answer one swap of head, and carries it out at the second look at head."""

    def __init__(self, inner: ObjectStore, *, swap: int = 0) -> None:
        """`swap` is the number of that swap, counted from 0."""
        super().__init__(inner)
        self._before = swap
        self._looks = 0
        self._late: Callable[[], Version] | None = None

    def put(self, key: str, body: Body, *, expect: Version | Expect = Expect.ANYTHING) -> Version:
        if key != keys.HEAD or self._late is not None:
            return super().put(key, body, expect=expect)
        self._before -= 1
        if self._before >= 0:
            return super().put(key, body, expect=expect)
        data = bytes(body)
        self._late = lambda: super(Late, self).put(key, data, expect=expect)
        raise Unavailable(self.name, "replace", key, "timed out")

    def get(self, key: str, *, limit: int, unless: Version | None = None) -> Fetched:
        if key == keys.HEAD and self._late is not None:
            self._looks += 1
            if self._looks == 2:
                self._late()
        return super().get(key, limit=limit, unless=unless)


def before(number: int, meddle: Callable[[], object]) -> Decide:
    """A `decide` that lets somebody else act just before a call, once."""
    lock, done = threading.Lock(), False

    def decide(at: int, _call: Call) -> None:
        nonlocal done
        with lock:  # two threads may be told the same number
            if at >= number and not done:
                done = True
                meddle()

    return decide


def edit_head(store: ObjectStore, **changes: Any) -> Head:
    """Swap head for one with these changes and the next revision, as any rightful writer would."""
    old = read_head(store)
    stamp = {"revision": old.head.revision + 1, "write_id": uuid4().hex}
    new = old.head.model_copy(update={**stamp, **changes})
    store.put(keys.HEAD, encode_head(new), expect=old.version)
    return new


def take_over(store: ObjectStore, node: str = "host-b") -> Head:
    """Another node activates: a higher epoch, a new timeline from the latest checkpoint."""
    head = read_head(store).head
    writer = head.writer.model_copy(
        update={"node": node, "node_id": str(uuid4()), "instance": str(uuid4()), "write_id": "b"}
    )
    timeline = Timeline(
        id=head.timelines[-1].id + 1,
        parent=Fork(timeline=head.timeline, checkpoint=head.latest),
        epoch=head.epoch + 1,
        node=node,
        reason="activate",
        at=head.writer.since,
    )
    return edit_head(
        store,
        epoch=head.epoch + 1,
        writer=writer,
        timeline=timeline.id,
        timelines=(*head.timelines, timeline),
    )


def write_as_a_clone(store: ObjectStore) -> Head:
    """A copy of this very node swaps head; of that write the node itself knows nothing."""
    head = read_head(store).head
    return edit_head(store, writer=head.writer.model_copy(update={"write_id": uuid4().hex}))


@dataclass(slots=True, kw_only=True)
class Sweeper:
    """Condemns what no checkpoint refers to, however young, then deletes it."""

    store: ObjectStore
    unreadable: bool = False
    """The lists it names are not there."""
    condemned: list[str] = field(default_factory=list)

    def sweep(self) -> None:
        repository = Repository(store=self.store, descriptor=descriptors.read(self.store))
        prefixes = (keys.CHUNKS, keys.PACKS, keys.MANIFESTS)
        found = {info.key for prefix in prefixes for info in self.store.walk(prefix)}
        head = read_head(self.store).head
        doomed = sorted(found - _reachable(repository, head))
        self._name_list(head, doomed)
        self.store.delete(doomed)
        self.condemned += doomed

    def _name_list(self, head: Head, doomed: Collection[str]) -> None:
        generation = head.sweep.generation + 1
        record = Condemned(
            repository_id=head.repository_id, generation=generation, keys=tuple(doomed)
        )
        data = zstandard.compress(record.model_dump_json().encode())
        key = f"condemned/{generation}-{secrets.token_hex(16)}.json.zst"
        if not self.unreadable:
            self.store.put(key, data)
        named = CondemnedList(
            generation=generation, key=key, digest=Hash.BLAKE3.of(data).hex(), done=False
        )
        edit_head(self.store, sweep=Sweep(generation=generation, lists=(*head.sweep.lists, named)))


def _reachable(repository: Repository, head: Head) -> set[str]:
    reachable: set[str] = set()
    for entry in repository.entries(head):
        reachable.add(keys.manifest(entry.id))
        reachable.update(stored.key for stored in repository.manifest(entry).objects)
    return reachable
