"""What a head that was lost must have said, as far as manifests tell. Pure.

They tell every checkpoint and where its timeline began. Nobody can tell any more which were kept,
retired or found bad, nor of which a push ended before its commit: each counts as committed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ckptsync.model import CheckpointId
from ckptsync.repository import keys
from ckptsync.repository.anew import COUNTED
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.head import Entry, Fork, Head, Sweep, Timeline, Writer
from ckptsync.repository.manifest import Header
from ckptsync.repository.timelines import on_path, path

_SEQS: Final = 1 << 31
_TIMELINES: Final = 1 << 15
"""Half of what there is: beyond lies what was not counted up to, and would leave no room."""
REBUILT: Final[Mapping[str, Any]] = {"rebuilt": True}
"""The policy of a rebuilt head: nobody knows any more what was kept by name, so ask first."""
_NOT_KNOWN: Final = "not known: head.json was lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a manifest says that makes sense in itself."""

    entry: Entry
    parent: CheckpointId | None
    node: str
    """That pushed it."""
    generation: int
    """Of sweeps, that its push read."""


def fault(header: Header) -> str | None:
    """Why the checkpoint of a manifest cannot take its place in a head."""
    number, timeline = keys.seq(header.checkpoint), keys.timeline(header.checkpoint)
    if timeline != header.timeline or number == 0:
        return "contradicts the name of its checkpoint"
    parent = header.parent
    if parent is not None and not (
        0 < keys.seq(parent) < number and 0 < keys.timeline(parent) <= timeline
    ):
        return f"follows checkpoint {parent}, which cannot have been before it"
    if (
        not is_counted(header.checkpoint)
        or timeline >= _TIMELINES
        or max(header.epoch, header.sweep_generation) >= COUNTED
    ):
        return "has numbers that no repository comes to"
    return None


def is_counted(checkpoint: CheckpointId) -> bool:
    """Whether a repository may have come to that number of checkpoints."""
    return keys.seq(checkpoint) < _SEQS


def one_of_each_number(
    whole: Iterable[Found], parents: Collection[CheckpointId | None]
) -> tuple[Entry, ...]:
    """Of checkpoints that share a number, the one that was committed, in order of the numbers.

    The others are of pushes that ended before their commit. Where none of them is known to be a
    parent, it is that of the highest epoch, or the latest.
    """

    def rank(entry: Entry) -> tuple[bool, int, datetime, str]:
        return (entry.id in parents, entry.epoch, entry.at, entry.id)

    chosen = {entry.seq: entry for entry in sorted((each.entry for each in whole), key=rank)}
    return tuple(chosen[number] for number in sorted(chosen))


def recovered(
    descriptor: Descriptor, found: Sequence[Found], whole: Collection[Found], writer: Writer
) -> Head:
    """The head that names the checkpoints of `whole`, each with a number of its own.

    `found` are all manifests, also those of checkpoints that are not whole any more: they still
    tell of timelines and epochs.
    """
    records = _timelines(descriptor, found)
    entries = one_of_each_number(whole, {each.parent for each in found})
    head = Head(
        repository_id=descriptor.repository_id,
        revision=1,
        write_id="",
        epoch=max((each.entry.epoch for each in found), default=1),
        writer=writer,
        timeline=records[-1].id,
        latest=None,
        next_seq=entries[-1].seq + 1 if entries else 1,
        timelines=records,
        checkpoints=entries,
        policy=dict(REBUILT),
        sweep=Sweep(generation=max((each.generation for each in found), default=0)),
    )
    return _with_latest(head)


def _timelines(descriptor: Descriptor, found: Collection[Found]) -> tuple[Timeline, ...]:
    """In order; the first began with the repository, others where their first checkpoint did."""
    first: dict[int, Found] = {}
    for each in sorted(found, key=lambda each: each.entry.seq, reverse=True):
        first[each.entry.timeline] = each
    records = {
        number: Timeline(
            id=number,
            parent=_fork(each, found),
            epoch=each.entry.epoch,
            node=each.node,
            reason=_NOT_KNOWN,
            at=each.entry.at,
        )
        for number, each in first.items()
    }
    node = first[1].node if 1 in first else None
    records[1] = Timeline(id=1, epoch=1, node=node, reason="create", at=descriptor.created_at)
    return tuple(records[number] for number in sorted(records))


def _fork(first: Found, found: Iterable[Found]) -> Fork | None:
    """Where the timeline of its first checkpoint begins; None if at nothing.

    Where the first that is left was not the first, nobody can tell any more: the newest that is
    left of all older timelines stands in for it.
    """
    parent = first.parent
    if parent is not None and keys.timeline(parent) == first.entry.timeline:
        older = (each.entry for each in found if each.entry.timeline < first.entry.timeline)
        newest = max(older, key=lambda entry: (entry.seq, entry.timeline, entry.id), default=None)
        parent = None if newest is None else newest.id
    return None if parent is None else Fork(timeline=keys.timeline(parent), checkpoint=parent)


def _with_latest(head: Head) -> Head:
    """The newest checkpoint on the way of the youngest timeline that has any is the latest."""
    for timeline in reversed(head.timelines):
        active = head.model_copy(update={"timeline": timeline.id})
        way = path(active)
        for entry in reversed(head.checkpoints):
            if on_path(entry, way):
                return active.model_copy(update={"latest": entry.id})
    return head
