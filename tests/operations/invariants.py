"""What must be true of a bucket at every moment, whoever crashed in between."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from ckptsync.errors import IntegrityError, NotFound
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository import keys
from ckptsync.repository.head import Entry, Fork, Head
from ckptsync.repository.repository import Repository, read_head
from ckptsync.repository.timelines import latest_fault
from ckptsync.stores.base import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A head that was found sound, with all of its entries, oldest first."""

    head: Head
    entries: tuple[Entry, ...]

    @property
    def engine_ids(self) -> tuple[str, ...]:
        return tuple(entry.engine_id for entry in self.entries)


def require_sound(
    store: ObjectStore,
    *,
    since: Seen | None = None,
    forgotten: Collection[str] = (),
    lists_lost: bool = False,
) -> Seen | None:
    """Read everything that head names; None where there is no head yet.

    Every object of every live or retired checkpoint is there, whole, and none of any checkpoint
    is condemned; latest is live, and on the way that the active timeline took; steps never go
    down along a timeline, nor epochs; at each epoch one node has committed; names that still
    hold are of checkpoints that are there.

    Nothing went back since an earlier look, and nothing vanished that was not retired then, but
    for the `forgotten`, by id. With `lists_lost` condemned lists may be gone.
    """
    try:
        head = read_head(store).head
    except NotFound:
        assert since is None, "head.json is gone"
        assert not list(store.walk("manifests/")), "a manifest without a head"
        return None
    repository = Repository(store=store, descriptor=descriptors.read(store))
    repository.require_own(head)
    entries = sorted(repository.entries(head), key=lambda entry: entry.seq)
    seen = Seen(head=head, entries=tuple(entries))
    committed_by: dict[int, str] = {}
    for entry in seen.entries:
        if entry.state != "bad":
            node = _require_whole(repository, entry)
            assert committed_by.setdefault(entry.epoch, node) == node, "two writers at one epoch"
    _require_ordered(seen)
    _require_kept(store, seen)
    doomed = _condemned(repository, head, lists_lost=lists_lost)
    if doomed:
        assert not doomed & set(_referenced(repository, seen)), "what is in use is condemned"
    if since is not None:
        _require_not_back(since, seen, forgotten)
    return seen


def _require_whole(repository: Repository, entry: Entry) -> str:
    """The node that committed it."""
    manifest = repository.manifest(entry)
    assert manifest.header.timeline == entry.timeline
    assert manifest.engine.id == entry.engine_id
    assert str(manifest.engine.step) == entry.step
    for stored in manifest.objects:
        data = repository.store.get(stored.key, limit=stored.size).data
        assert len(data) == stored.size, stored.key
        assert repository.descriptor.hash.of(data) == stored.digest, stored.key
    return manifest.header.writer.node


def _require_ordered(seen: Seen) -> None:
    head = seen.head
    in_head = [entry.seq for entry in head.checkpoints]
    assert in_head == sorted(in_head)
    numbers = [entry.seq for entry in seen.entries]
    assert len(set(numbers)) == len(numbers)
    assert all(number < head.next_seq for number in numbers)
    ids = {entry.id: entry for entry in seen.entries}
    assert len(ids) == len(seen.entries)
    assert latest_fault(head, ids.get(head.latest) if head.latest else None) is None
    assert all(one.epoch <= other.epoch for one, other in pairwise(seen.entries))
    assert all(entry.epoch <= head.epoch for entry in seen.entries)
    timelines = {timeline.id: timeline for timeline in head.timelines}
    assert head.timeline in timelines
    for timeline in timelines.values():
        on_it = [entry for entry in seen.entries if entry.timeline == timeline.id]
        steps = [int(entry.step) for entry in on_it]
        assert all(before <= after for before, after in pairwise(steps)), steps
        if timeline.parent is not None:
            _require_before(timeline.parent, on_it)
    assert {entry.timeline for entry in seen.entries} <= set(timelines)


def _require_before(fork: Fork, entries: list[Entry]) -> None:
    """Where a timeline began may have been forgotten since; its name still tells when it was."""
    if fork.checkpoint is not None:
        assert keys.timeline(fork.checkpoint) == fork.timeline
        assert all(keys.seq(fork.checkpoint) < entry.seq for entry in entries)


def _require_kept(store: ObjectStore, seen: Seen) -> None:
    ids, now = {entry.id for entry in seen.entries}, store.now()
    for name, keep in seen.head.keeps.items():
        assert keep.checkpoint in ids or (keep.until is not None and keep.until <= now), name


def _condemned(repository: Repository, head: Head, *, lists_lost: bool) -> set[str]:
    doomed: set[str] = set()
    for named in head.sweep.lists:
        assert named.generation <= head.sweep.generation
        try:
            doomed |= repository.condemned(named)
        except NotFound:
            assert lists_lost, f"{named.key} is gone, though head names it"
    return doomed


def _referenced(repository: Repository, seen: Seen) -> Iterator[str]:
    """Every key that something in head leads to, from bad checkpoints as far as they tell."""
    yield from (keys.DESCRIPTOR, keys.HEAD)
    yield from (page.key for page in seen.head.pages)
    yield from (named.key for named in seen.head.sweep.lists)
    for entry in seen.entries:
        yield keys.manifest(entry.id)
        with suppress(*([NotFound, IntegrityError] if entry.state == "bad" else [])):
            yield from (stored.key for stored in repository.manifest(entry).objects)


def _require_not_back(before: Seen, after: Seen, forgotten: Collection[str]) -> None:
    assert after.head.revision >= before.head.revision
    assert after.head.epoch >= before.head.epoch
    assert after.head.next_seq >= before.head.next_seq
    assert after.head.sweep.generation >= before.head.sweep.generation
    there = {entry.id for entry in after.entries}
    for entry in before.entries:
        known = entry.id in there or entry.state == "retired" or entry.id in forgotten
        assert known, f"{entry.id} has vanished"
    assert {each.id for each in before.head.timelines} <= {each.id for each in after.head.timelines}
    if after.head.revision == before.head.revision:
        assert after.head == before.head
