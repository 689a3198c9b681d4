"""Making a checkpoint exist: its data and manifest are stored, now head must name it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import structlog

from ckptsync.errors import IntegrityError, LineageRegression, NotFound
from ckptsync.model import CheckpointId, Engine
from ckptsync.repository import catalog, epochs, keys, timelines
from ckptsync.repository.head import Entry, Head, ManifestRef, Sweep, Timeline
from ckptsync.repository.manifest import Header, Manifest
from ckptsync.repository.register import Register
from ckptsync.repository.repository import HeadAt, Repository
from ckptsync.stores.base import Expect

log = structlog.get_logger()


class MustReplan(Exception):
    """Something the manifest refers to may be going away.

    `condemned` are own uploads that a sweep may be deleting.
    """

    def __init__(self, reason: str, condemned: frozenset[str] = frozenset()) -> None:
        super().__init__(reason)
        self.condemned = condemned


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A checkpoint whose data and manifest are in the store."""

    manifest: Manifest
    reference: ManifestRef
    line: epochs.Line
    parent: Entry | None
    """None also where it was forgotten, as a checkpoint may be that was restored once."""
    own: Mapping[str, int]
    """Uploads of ours that it refers to, its manifest included, each with the sweep generation
    that was read before the upload began."""

    @property
    def checkpoint(self) -> CheckpointId:
        return self.manifest.checkpoint


def commit(register: Register, repository: Repository, attempt: Attempt, at: datetime) -> Entry:
    """Swap head for one that names the checkpoint; "synced" means that this returned.

    A crash before the swap leaves objects that nothing refers to; after it, a checkpoint.
    Raises MustReplan; Fenced and the other refusals of epochs; CannotTell.
    """

    def decide(old: HeadAt) -> Head | None:
        if _has(old.head, attempt.checkpoint):
            return None
        epochs.require_writer(old.head, register.identity.remembered(), repository.store.name)
        require_still_there(
            old.head,
            attempt,
            parent=repository.find(old.head, attempt.parent.id) if attempt.parent else None,
            condemned=condemned_since(repository, old.head, attempt.own),
        )
        return _spilled(repository, with_checkpoint(old.head, attempt, at))

    new = register.change(decide, landed=lambda head: _has(head, attempt.checkpoint))
    return new.entry(attempt.checkpoint) or entry_of(attempt, at)


def fork(
    register: Register, repository: Repository, entry: Entry, reason: str, at: datetime
) -> None:
    """Begin a new timeline at a checkpoint that is there, and make it the latest.

    Raises MustReplan if it is not live any more; Fenced and the other refusals of epochs;
    CannotTell.
    """

    def decide(old: HeadAt) -> Head | None:
        if old.head.latest == entry.id:
            return None
        epochs.require_writer(old.head, register.identity.remembered(), repository.store.name)
        there = repository.find(old.head, entry.id)
        if there is None or there.state != "live":
            raise MustReplan("the checkpoint that was gone back to is not live any more")
        node, timeline = old.head.writer.node, epochs.timeline_after(old.head)
        forked = timelines.forked(timeline, entry.id, old.head, reason, at, node=node)
        return old.head.model_copy(
            update={
                "timeline": timeline,
                "timelines": (*old.head.timelines, forked),
                "latest": entry.id,
            }
        )

    register.change(decide, landed=lambda head: head.latest == entry.id)


def _has(head: Head, checkpoint: CheckpointId) -> bool:
    return head.entry(checkpoint) is not None


def _spilled(repository: Repository, head: Head) -> Head:
    spill = catalog.spill(head, repository.descriptor.hash)
    if spill is None:
        return head
    repository.store.put(spill.key, spill.data, expect=Expect.ANYTHING)
    return spill.head


def with_checkpoint(head: Head, attempt: Attempt, at: datetime) -> Head:
    """The head after this commit, but for its write id."""
    entry = entry_of(attempt, at)
    forked: tuple[Timeline, ...] = ()
    if attempt.line.forks is not None:
        parent, reason = attempt.line.parent, attempt.line.forks
        node = head.writer.node
        forked = (timelines.forked(entry.timeline, parent, head, reason, at, node=node),)
    return head.model_copy(
        update={
            "timeline": entry.timeline,
            "timelines": (*head.timelines, *forked),
            "latest": entry.id,
            "next_seq": entry.seq + 1,
            "checkpoints": (*head.checkpoints, entry),
        }
    )


def entry_of(attempt: Attempt, at: datetime) -> Entry:
    return entry_from(attempt.manifest.header, attempt.reference, at)


def entry_from(header: Header, reference: ManifestRef, at: datetime) -> Entry:
    """The entry that repeats what a manifest says."""
    return Entry(
        id=header.checkpoint,
        seq=keys.seq(header.checkpoint),
        timeline=header.timeline,
        epoch=header.epoch,
        engine_id=header.engine.id,
        step=header.engine.step,
        records=header.engine.records,
        lineage=header.engine.lineage,
        fingerprint=header.engine.fingerprint,
        at=at,
        manifest=reference,
        bytes=header.totals.bytes,
        new_bytes=header.totals.new_bytes,
    )


def require_still_there(
    head: Head, attempt: Attempt, *, parent: Entry | None, condemned: frozenset[str]
) -> None:
    """Raises MustReplan unless everything the manifest refers to is safe from every sweep.

    `parent` is the attempt's parent as head names it now.
    """
    if head.next_seq != keys.seq(attempt.checkpoint):
        raise MustReplan("another checkpoint was committed meanwhile")
    if head.epoch != attempt.manifest.header.epoch:
        raise MustReplan("this node took another epoch meanwhile")
    if attempt.parent is not None and parent is None:
        raise MustReplan("the parent checkpoint is no longer there")
    if attempt.parent and parent and parent.damaged != attempt.parent.damaged:
        raise MustReplan("the parent checkpoint was found damaged")
    if condemned:
        raise MustReplan("a sweep may be deleting uploads of this push", condemned)


def condemned_since(repository: Repository, head: Head, own: Mapping[str, int]) -> frozenset[str]:
    """Which own uploads a sweep may be deleting. Reads the condemned lists that could name them."""
    oldest = min(own.values(), default=head.sweep.generation)
    lists: dict[int, frozenset[str] | None] = {}
    for named in head.sweep.lists:
        if named.generation > oldest:
            try:
                lists[named.generation] = repository.condemned(named)
            except (NotFound, IntegrityError) as error:
                log.warning("condemned.unreadable", key=named.key, error=str(error))
                lists[named.generation] = None
    return doomed(own, head.sweep, lists)


def doomed(
    own: Mapping[str, int], sweep: Sweep, lists: Mapping[int, frozenset[str] | None]
) -> frozenset[str]:
    """Own uploads on any list newer than they are. A list that cannot be read names them all."""

    def is_doomed(key: str, generation: int) -> bool:
        if generation > sweep.generation:
            return True
        newer = (lists.get(each) for each in range(generation + 1, sweep.generation + 1))
        return any(keys is None or key in keys for keys in newer)

    return frozenset(key for key, generation in own.items() if is_doomed(key, generation))


def require_progress(engine: Engine, parent: Entry | None, where: str) -> None:
    """Raises LineageRegression if a checkpoint does not follow from the one before it.

    The one before it is what the writer's timeline ends with, and no other node can move that,
    so looking once before the upload is enough.
    """
    if parent is None:
        return
    if None not in (engine.lineage, parent.lineage) and engine.lineage != parent.lineage:
        reason = (
            f"checkpoint {engine.id} comes from another life of the pipeline "
            f"(started {engine.lineage}) than the latest in the bucket (started {parent.lineage})"
        )
    elif engine.step < int(parent.step):
        reason = (
            f"checkpoint {engine.id} is at step {engine.step}, before step {parent.step} "
            "of the latest in the bucket"
        )
    else:
        return
    raise LineageRegression(
        f"{where}: {reason}; pushing it would hide what was pushed before",
        hint="if that is what you want: ckptsync push --new-timeline",
    )
