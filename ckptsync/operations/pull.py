"""Pull: a checkpoint comes from a bucket, is verified, and takes its place on the local disk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Final, TypeGuard

import structlog

from ckptsync.errors import (
    CheckpointNotFound,
    EngineRunning,
    IntegrityError,
    LocalDiskFull,
    Refused,
    SourceError,
    UnpushedWork,
)
from ckptsync.model import LocalCheckpoint, Progress
from ckptsync.operations import resolve
from ckptsync.operations.download import MissingObject
from ckptsync.operations.foreign import warn_if_foreign
from ckptsync.operations.forgotten import Forgotten, telling_forgotten
from ckptsync.operations.manifests import remember_manifest
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.resolve import LATEST, Fresh, Kept, Remote
from ckptsync.operations.stage import digests, fetch, note_publishing, read_stored, recover
from ckptsync.operations.target import Target
from ckptsync.operations.transfers import Retraceable
from ckptsync.operations.unsynced import known_as
from ckptsync.repository import descriptor as descriptors
from ckptsync.repository.epochs import require_no_rollback, require_own_repository
from ckptsync.repository.head import Entry
from ckptsync.repository.repository import Empty, look
from ckptsync.sources.staged_files import StagedFiles
from ckptsync.sources.staging import nothing
from ckptsync.stores.base import ObjectStore

log = structlog.get_logger()

_FILE: Final = "file://"
_TRIES: Final = 3
"""Of a pull whose checkpoint is deleted meanwhile: by then it was not the latest any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the operator asked a pull for."""

    checkpoint: str
    """LATEST, an engine's id or a checkpoint id."""
    explicit: bool
    """Asked for by name or with a target: then what is there locally does not do."""
    to: Path | None = None
    """A directory to restore into, in place of the pipeline's own storage."""
    force: bool = False
    """Replace a local checkpoint that no bucket has."""
    engine_stopped: bool = False
    """The operator's word that no engine runs there, where the layout cannot tell."""
    required: bool = False
    """Fail where there is no checkpoint to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    entry: Entry
    source: str
    target: Path
    fetched: int
    """Bytes that were not there already, as files hold them."""
    seconds: float


PullReport = Restored | Kept | Fresh


def pull(pipeline: Pipeline, wish: Wish, *, progress: Progress) -> PullReport:
    """Restore a checkpoint; it appears complete and verified, or not at all.

    A crash anywhere leaves the storage as it was or with this checkpoint; pulling again goes
    on with what was fetched. Call with the pipeline's lock held.

    Raises CheckpointNotFound if the wish requires one; EngineRunning, UnpushedWork, Refused;
    IntegrityError if a byte is not what was pushed; Forgotten if the checkpoint that was asked for
    was deleted meanwhile; LocalDiskFull; StoreError.
    """
    retraceable = Retraceable(progress)
    for tries_left in reversed(range(_TRIES)):
        try:
            return _pull(pipeline, wish, retraceable)
        except Forgotten as error:
            if wish.checkpoint != LATEST or not tries_left:
                raise
            log.info("pull.forgotten", error=str(error))  # by now there is a newer one
            retraceable.back()
    raise AssertionError("the last try ends here too")


def _pull(pipeline: Pipeline, wish: Wish, progress: Progress) -> PullReport:
    """Raises Forgotten also for a latest that is it no more."""
    started = monotonic()
    with _target(pipeline, wish).held() as target:
        unfinished = pipeline.state.identity.remembered().publishing
        finishing = unfinished is not None and not wish.explicit
        if unfinished is not None and finishing:
            log.warning("pull.finishing", checkpoint=unfinished.checkpoint_id)
            wish = replace(wish, checkpoint=unfinished.checkpoint_id, explicit=True, force=True)
        present = () if wish.to else _present(pipeline, wish)
        if not wish.explicit and (kept := resolve.local(present, wish.checkpoint)):
            return kept
        found = _look(pipeline, wish)
        if isinstance(found, Fresh):
            if finishing:
                raise _cannot_finish(pipeline, wish.checkpoint, found)
            if wish.required or wish.checkpoint != LATEST:
                raise resolve.not_found(wish.checkpoint, found.searched)
            return found
        if wish.to is None:
            _require_replaceable(pipeline, found, present, wish)
        entry, fetched = _first_complete(pipeline, found, target, progress)
        if wish.to is None:
            _note_seen(pipeline, found)
    log.info("checkpoint.pulled", checkpoint=entry.id, engine_id=entry.engine_id, bytes=fetched)
    return Restored(
        entry=entry,
        source=found.repository.store.name,
        target=wish.to or pipeline.storage_path,
        fetched=fetched,
        seconds=monotonic() - started,
    )


def _cannot_finish(pipeline: Pipeline, checkpoint: str, found: Fresh) -> CheckpointNotFound:
    return CheckpointNotFound(
        f"{pipeline.storage_path} holds part of checkpoint {checkpoint}, of which a pull was "
        f"interrupted, and {' or '.join(found.searched)} does not have it any more",
        hint="pull another one in its place: ckptsync pull --checkpoint latest",
    )


def _look(pipeline: Pipeline, wish: Wish) -> Remote | Fresh:
    """Raises HeadLost, RollbackDetected where this node has seen more than there is now."""
    me = pipeline.state.identity.remembered()
    found = resolve.remote(pipeline.store, pipeline.read_store, wish.checkpoint)
    if (isinstance(found, Fresh) or found.read_only) and me.revision:
        empty = look(pipeline.store)
        if isinstance(empty, Empty):
            resolve.require_never_filled(empty, me, pipeline.node, pipeline.store.name)
    if isinstance(found, Fresh):
        return found
    if wish.to is None and not found.read_only:
        require_own_repository(found.repository.descriptor, me, pipeline.node, pipeline.store.name)
    if wish.checkpoint == LATEST and wish.to is None and not found.may_lag:
        require_no_rollback(found.head, me, pipeline.store.name)
    warn_if_foreign(pipeline, found.repository)
    return found


def _note_seen(pipeline: Pipeline, found: Remote) -> None:
    """Remember the bucket that the storage goes on from, if it is this pipeline's own."""
    descriptor, identity = found.repository.descriptor, pipeline.state.identity
    known = identity.remembered().repository_id
    is_own = descriptor.pipeline == pipeline.node.pipeline
    if found.may_lag or not is_own or known not in (None, descriptor.repository_id):
        return
    identity.joined(descriptor.repository_id)
    pipeline.register().note(found.head, identity.remembered())


def _target(pipeline: Pipeline, wish: Wish) -> Target:
    if wish.to is not None:
        stores = filter(_is_local, (pipeline.store, pipeline.read_store))
        buckets = [Path(each.name.removeprefix(_FILE)) for each in stores]
        return Target.elsewhere(
            wish.to, outside=(pipeline.storage_path, pipeline.work_path, *buckets)
        )
    return Target.storage(pipeline.storage_path, pipeline.work_path)


def _is_local(store: ObjectStore | None) -> TypeGuard[ObjectStore]:
    return store is not None and store.name.startswith(_FILE)


def _present(pipeline: Pipeline, wish: Wish) -> Sequence[LocalCheckpoint]:
    """The local checkpoints; none on a host that has no storage yet."""
    if not pipeline.storage_path.exists():
        return ()
    try:
        return pipeline.layout.checkpoints()
    except SourceError:
        if wish.force:  # what lies there goes to quarantine, whatever it is
            return ()
        raise


def _require_replaceable(
    pipeline: Pipeline, found: Remote, present: Sequence[LocalCheckpoint], wish: Wish
) -> None:
    running = pipeline.layout.engine_running()
    if running:
        raise EngineRunning(
            f"an engine is running on {pipeline.storage_path}",
            hint="stop it, or restore elsewhere with --to DIR",
        )
    if running is None and not wish.engine_stopped:
        raise Refused(
            f"layout '{pipeline.layout.name}' cannot tell whether an engine runs on "
            f"{pipeline.storage_path}",
            hint="stop it and say so with --engine-stopped, or configure hooks.engine_running",
        )
    newest = present[-1] if present else None
    if newest is None or wish.force:
        return
    if not any(entry.is_of(newest.engine) for entry in found.repository.entries(found.head)):
        known = known_as(pipeline.state.identity.remembered(), newest)
        where = found.repository.store.name
        why = "was never pushed" if known is None else f"is not in {where} any more"
        raise UnpushedWork(
            f"{pipeline.storage_path}: local checkpoint {newest.engine.id} (step "
            f"{newest.engine.step}) {why}, and pulling would put it aside",
            hint="'ckptsync push' first, or pull with --force",
        )


def _first_complete(
    pipeline: Pipeline, found: Remote, target: Target, progress: Progress
) -> tuple[Entry, int]:
    """Restore the first entry whose objects are all there."""

    def restored(entry: Entry) -> tuple[Entry, int]:
        if entry.state == "retired":
            log.warning("pull.retired", checkpoint=entry.id)
        with telling_forgotten(found.repository, entry):
            return entry, _restore(pipeline, found, entry, target, progress)

    for entry in found.entries[:-1]:
        try:
            return restored(entry)
        except MissingObject as error:
            # A replica may show the head before the data: not damaged, just not there yet.
            log.warning("pull.incomplete", checkpoint=entry.id, error=str(error))
    return restored(found.entries[-1])


def _restore(
    pipeline: Pipeline, found: Remote, entry: Entry, target: Target, progress: Progress
) -> int:
    stored = read_stored(pipeline, found.repository, entry)
    descriptor, in_storage = found.repository.descriptor, target.directory is None
    if in_storage:
        pipeline.state.warm.clear()  # what a standby staged there is used, or deleted
    files = StagedFiles(target.work, target.root, digests(pipeline, descriptor))
    noting = note_publishing(pipeline, entry) if in_storage else nothing
    try:
        files.keep_only(stored.digests())
        recover(pipeline, files, progress)
        staging = stored.staging(files, on_begin=noting)
        fetched = fetch(pipeline, stored, staging, progress=progress)
        pipeline.layout.publish(staging, target.root)
    except (IntegrityError, LocalDiskFull):
        files.discard()
        target.vanish()
        raise
    if in_storage:
        pipeline.state.identity.published(from_bucket=not found.read_only)
    files.discard()
    target.appear(stored.data, descriptors.encode(descriptor))
    remember_manifest(pipeline, entry, stored.data)
    return fetched
