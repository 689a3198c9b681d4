"""Whether the engine wrote a checkpoint that the bucket lacks, by what is known on this host."""

from ckptsync.errors import CheckpointNotFound
from ckptsync.model import CheckpointId, Engine
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.push import choose
from ckptsync.state.identity import Remembered


def unsynced(pipeline: Pipeline) -> Engine | None:
    """The newest complete local checkpoint, unless it was pushed or pulled last; asks no store.

    Raises SourceError, PermissionRefused.
    """
    try:
        newest = choose(pipeline, None).engine
    except CheckpointNotFound:
        return None
    known = known_as(pipeline.state.identity.remembered(), newest)
    return newest if known is None else None


def known_as(me: Remembered, engine: Engine) -> CheckpointId | None:
    """What was pushed or pulled last, if that is the engine's checkpoint."""
    for point in (me.pushed, me.restored):
        if point is None:
            continue
        if (point.engine_id, point.step, point.lineage) == (engine.id, engine.step, engine.lineage):
            return CheckpointId(point.checkpoint_id)
    return None
