"""What this node recalls, forgets and notes when it takes a repository anew."""

from collections.abc import Collection, Sequence
from uuid import uuid4

import structlog

from ckptsync.errors import LineageRegression, PermissionRefused, SourceError
from ckptsync.model import CheckpointId
from ckptsync.operations.listing import local_checkpoints
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.stage import note_publishing
from ckptsync.repository import keys
from ckptsync.repository.anew import COUNTED, Known
from ckptsync.repository.claim import Claimant
from ckptsync.repository.commit import require_progress
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.nodes import SeenNode
from ckptsync.state.identity import Remembered, Repair
from ckptsync.state.index import Index
from ckptsync.state.journal import UploadJournal

log = structlog.get_logger()


def noted(me: Remembered) -> tuple[CheckpointId, ...]:
    """The checkpoints of which something is remembered."""
    points = (me.publishing, me.restored, me.pushing, me.pushed)
    return tuple(CheckpointId(each.checkpoint_id) for each in points if each is not None)


def known(me: Remembered, seen: Sequence[SeenNode]) -> Known:
    """The highest numbers that this node has seen, or another says that it has."""
    beats = [each.heartbeat.epoch for each in seen if each.heartbeat is not None]
    numbers = [keys.seq(each) + 1 for each in noted(me)]
    if me.repair is not None:
        numbers.append(me.repair.next_seq)
    return Known(
        revision=me.revision,
        epoch=max([me.epoch, *(epoch for epoch in beats if epoch < COUNTED)]),
        next_seq=max(numbers, default=1),
    )


def is_done(head: Head, me: Remembered, reason: str) -> bool:
    """Whether head is what this repair has made of it, and nothing was pushed since."""
    begun = next(each for each in head.timelines if each.id == head.timeline)
    ours = me.repair is not None and me.repair.instance == head.writer.instance
    return ours and begun.reason == reason


def claimant(pipeline: Pipeline, me: Remembered, displaced: str | None) -> Claimant:
    """This node as the writer to be, in place of an instance.

    A repair that was interrupted goes on under the same instance: its swap may be on its way.
    """
    begun = None if me.repair is None else me.repair.instance
    return Claimant(
        node=pipeline.node.name,
        node_id=me.node_id,
        instance=begun if begun not in (None, displaced) else str(uuid4()),
        request=None,
    )


def note_taking(
    pipeline: Pipeline, new: Head, latest: Entry | None, gone: Collection[CheckpointId]
) -> None:
    """Call before the swap to a head that takes the repository anew.

    `latest` is the entry of its latest; `gone` are checkpoints that it does not have any more.
    """
    repair = Repair(
        instance=new.writer.instance,
        next_seq=new.next_seq,
        unrelated=_is_unrelated(pipeline, latest, gone),
    )
    with pipeline.state.database.transaction():
        _forget(pipeline, new.repository_id, latest, gone)
        pipeline.state.identity.repairing(new.repository_id, repair)


def note_older(
    pipeline: Pipeline, head: Head, latest: Entry | None, gone: Collection[CheckpointId]
) -> None:
    """Take an older head for the newest that was ever seen."""
    with pipeline.state.database.transaction():
        _forget(pipeline, head.repository_id, latest, gone)
        pipeline.state.identity.went_back(
            revision=head.revision, epoch=head.epoch, write_id=head.writer.write_id
        )


def _forget(
    pipeline: Pipeline, repository_id: str, latest: Entry | None, gone: Collection[CheckpointId]
) -> None:
    state = pipeline.state
    UploadJournal(state.database, repository_id).clear()
    Index(state.database, repository_id).clear()
    state.manifests.clear()
    unfinished = state.identity.remembered().publishing
    if unfinished is not None and unfinished.checkpoint_id in gone and latest is not None:
        # The storage may hold half of it; a pull of what is there makes it whole again.
        note_publishing(pipeline, latest)()
    state.identity.forget(gone)


def _is_unrelated(pipeline: Pipeline, latest: Entry | None, gone: Collection[CheckpointId]) -> bool:
    """Whether a push of what the local storage holds would be held against the latest."""
    restored = pipeline.state.identity.remembered().restored
    if restored is not None and restored.checkpoint_id not in gone:
        return False  # it goes on from there
    try:
        local = local_checkpoints(pipeline.layout, pipeline.storage_path)
        if local:
            require_progress(local[-1].engine, latest, pipeline.store.name)
    except LineageRegression:
        return True
    except (SourceError, PermissionRefused) as error:
        log.info("repair.storage_unread", error=str(error))  # the next push will tell
    return False
