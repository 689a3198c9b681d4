"""What must be true of a bucket at every moment, whoever crashed in between."""

from dataclasses import dataclass
from itertools import pairwise

from ckptsync.errors import NotFound
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository.head import Entry, Head
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


def require_sound(store: ObjectStore, *, since: Seen | None = None) -> Seen | None:
    """Read everything that head names; None where there is no head yet.

    Every object of every live or retired checkpoint is there, whole; latest is one of them, and
    on the way that the active timeline took; steps never go down along a timeline, nor epochs;
    at each epoch one node has committed; nothing went back since an earlier look.
    """
    try:
        head = read_head(store).head
    except NotFound:
        assert since is None, "head.json is gone"
        assert not list(store.walk("manifests/")), "a manifest without a head"
        return None
    repository = Repository(store=store, descriptor=descriptors.read(store))
    repository.require_own(head)
    seen = Seen(head=head, entries=tuple(reversed(list(repository.entries(head)))))
    committed_by: dict[int, str] = {}
    for entry in seen.entries:
        if entry.state != "bad":
            node = _require_whole(repository, entry)
            assert committed_by.setdefault(entry.epoch, node) == node, "two writers at one epoch"
    _require_ordered(seen)
    if since is not None:
        _require_not_back(since, seen)
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
    numbers = [entry.seq for entry in seen.entries]
    assert numbers == sorted(set(numbers))
    assert all(number < head.next_seq for number in numbers)
    ids = {entry.id: entry for entry in seen.entries}
    assert len(ids) == len(seen.entries)
    assert latest_fault(head, None if head.latest is None else ids[head.latest]) is None
    assert all(one.epoch <= other.epoch for one, other in pairwise(seen.entries))
    assert all(entry.epoch <= head.epoch for entry in seen.entries)
    timelines = {timeline.id: timeline for timeline in head.timelines}
    assert head.timeline in timelines
    for timeline in timelines.values():
        steps = [int(entry.step) for entry in seen.entries if entry.timeline == timeline.id]
        assert all(before <= after for before, after in pairwise(steps)), steps
        if timeline.parent is not None and timeline.parent.checkpoint is not None:
            assert timeline.parent.checkpoint in ids


def _require_not_back(before: Seen, after: Seen) -> None:
    assert after.head.revision >= before.head.revision
    assert after.head.epoch >= before.head.epoch
    assert after.head.next_seq >= before.head.next_seq
    assert {entry.id for entry in before.entries} <= {entry.id for entry in after.entries}
    assert {each.id for each in before.head.timelines} <= {each.id for each in after.head.timelines}
    if after.head.revision == before.head.revision:
        assert after.head == before.head
