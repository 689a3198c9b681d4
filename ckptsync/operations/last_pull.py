"""What an activated node goes on from."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from ckptsync.errors import CheckpointNotFound, StoreError, TooStale
from ckptsync.model import CheckpointId, LocalCheckpoint, Progress
from ckptsync.operations import resolve
from ckptsync.operations.download import MissingObject
from ckptsync.operations.foreign import warn_if_foreign
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.resolve import LATEST, Fresh, Remote
from ckptsync.operations.standby import Standby
from ckptsync.operations.unsynced import known_as
from ckptsync.operations.warm import WarmCheckpoint
from ckptsync.repository.repository import Empty, look
from ckptsync.units import format_age, format_duration

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class GoingOn:
    warm: WarmCheckpoint | None = None
    """Staged, and to be published; None if it is in the storage already, or there is none."""
    checkpoint: CheckpointId | None = None
    """In the bucket; None for a fresh start, and for what the bucket does not have."""


def last_pull(pipeline: Pipeline, standby: Standby, wanted: str, *, progress: Progress) -> GoingOn:
    """Stage what the bucket calls the latest, or the checkpoint that is wanted.

    Call once the epoch is taken: the latest cannot advance any more. read_bucket is asked only
    where the bucket never held a checkpoint.

    Raises CheckpointNotFound where one is required, IntegrityError, StoreError, LocalDiskFull.
    """
    found = resolve.remote(pipeline.store, pipeline.read_store, wanted)
    if isinstance(found, Fresh):
        if pipeline.standby.required or wanted != LATEST:
            raise resolve.not_found(wanted, found.searched)
        log.warning("activation.fresh", searched=" and ".join(found.searched))
        return GoingOn()
    if found.read_only:
        warn_if_foreign(pipeline, found.repository)
    return _from_warm(_staged(found, standby, progress))


def newest_here(pipeline: Pipeline, standby: Standby) -> GoingOn:
    """The newest complete checkpoint on this host, for where the bucket's cannot be had.

    Raises CheckpointNotFound; TooStale if it is older than the configuration allows.
    """
    warm = standby.newest()
    if warm is not None:
        _require_recent(pipeline, warm.entry.engine_id, warm.entry.at)
        return _from_warm(warm)
    local = pipeline.layout.checkpoints() if pipeline.storage_path.exists() else ()
    if not local:
        raise CheckpointNotFound(
            f"this host has no complete checkpoint of pipeline '{pipeline.node.pipeline}'"
        )
    _require_recent(pipeline, local[-1].engine.id, local[-1].at)
    return GoingOn(checkpoint=_checkpoint_of(pipeline, local[-1]))


def _from_warm(warm: WarmCheckpoint) -> GoingOn:
    return GoingOn(warm=warm, checkpoint=None if warm.read_only else warm.entry.id)


def _checkpoint_of(pipeline: Pipeline, local: LocalCheckpoint) -> CheckpointId | None:
    """As far as this node remembers it or the bucket answers: else the timeline begins anew."""
    known = known_as(pipeline.state.identity.remembered(), local)
    if known is not None:
        return known
    try:
        found = look(pipeline.store)
    except StoreError as error:
        log.warning("activation.unrelated", checkpoint=local.engine.id, error=str(error))
        return None
    if isinstance(found, Empty):
        return None
    repository, at = found
    return next((each.id for each in repository.entries(at.head) if each.is_of(local.engine)), None)


def _staged(found: Remote, standby: Standby, progress: Progress) -> WarmCheckpoint:
    *preferred, last = found.entries
    for entry in preferred:
        try:
            return standby.stage(
                found.repository, entry, read_only=found.read_only, progress=progress
            )
        except MissingObject as error:
            log.warning("pull.incomplete", checkpoint=entry.id, error=str(error))
    return standby.stage(found.repository, last, read_only=found.read_only, progress=progress)


def _require_recent(pipeline: Pipeline, engine_id: str, at: datetime) -> None:
    age, allowed = pipeline.now() - at, pipeline.takeover.max_staleness
    if age > allowed:
        raise TooStale(
            f"the newest checkpoint on this host, {engine_id}, was written {format_age(age)}; "
            f"activation.max_staleness allows {format_duration(allowed)}",
            hint="if that loss is to be taken, set activation.max_staleness higher",
        )
