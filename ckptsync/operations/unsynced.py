"""Whether the engine wrote a checkpoint that the bucket lacks, by what is known on this host."""

from ckptsync.errors import CheckpointNotFound
from ckptsync.model import CheckpointId, Engine, LocalCheckpoint
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.push import choose
from ckptsync.operations.synced import is_of
from ckptsync.state.identity import Remembered


def unsynced(pipeline: Pipeline) -> Engine | None:
    """The newest complete local checkpoint, unless it was pushed or pulled last; asks no store.

    Raises SourceError, PermissionRefused.
    """
    try:
        newest = choose(pipeline, None)
    except CheckpointNotFound:
        return None
    known = known_as(pipeline.state.identity.remembered(), newest)
    return newest.engine if known is None else None


def known_as(me: Remembered, local: LocalCheckpoint) -> CheckpointId | None:
    """What was pushed or pulled last, if that is the local checkpoint.

    An engine may write another one of the same name, so the fingerprint has to be the same; and
    so has the time, where it is known.
    """
    for point in (me.pushed, me.restored):
        if point is not None and is_of(point, local.engine) and point.at in (None, local.at):
            return CheckpointId(point.checkpoint_id)
    return None
