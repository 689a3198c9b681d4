"""How a pipeline is doing: what the bucket would restore, and what it does not have yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ckptsync.errors import Cancelled, CannotTell, CkptsyncError
from ckptsync.model import LocalCheckpoint
from ckptsync.operations.listing import local_checkpoints, unpushed
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.writing import remembered_capabilities
from ckptsync.repository import epochs
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.register import head_lost
from ckptsync.repository.repository import Empty, look
from ckptsync.sources.base import Layout
from ckptsync.state.history import History, Run
from ckptsync.state.identity import Remembered
from ckptsync.stores.probe import Capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketStatus:
    """What the bucket says of itself; of an empty one that is nothing."""

    head: Head | None = None
    latest: Entry | None = None
    entries: Sequence[Entry] = ()
    is_writer: bool = False
    """Whether this node is the one that head names."""
    recovery_point_age: timedelta | None = None
    """Since what the bucket would restore was committed; None if it would restore nothing."""
    distrust: CkptsyncError | None = None
    """Why this node would not push there: it is another pipeline's, or went back in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What this node remembers of itself."""

    last_push: Run | None
    last_good_push: Run | None
    """The newest that succeeded, whatever became of later ones."""
    last_pull: Run | None
    capabilities: Capabilities | None
    """Of the store, if it was probed within a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    pipeline: str
    store: str
    bucket: BucketStatus | CkptsyncError
    """Or why that cannot be told: never to be read as empty."""
    local: Sequence[LocalCheckpoint] | CkptsyncError
    """The complete ones, oldest first."""
    memory: Memory | CkptsyncError
    """Or why it cannot be recalled: never to be read as "there was none"."""

    @property
    def unpushed(self) -> Sequence[LocalCheckpoint] | None:
        """The local ones that no pull could make up for; None if that cannot be told."""
        if isinstance(self.local, CkptsyncError) or isinstance(self.bucket, CkptsyncError):
            return None
        return unpushed(self.local, self.bucket.entries)

    @property
    def problem(self) -> CkptsyncError | None:
        """What keeps the state of the pipeline from being known or trusted, the worst of it."""
        if isinstance(self.bucket, BucketStatus):
            if self.bucket.distrust is not None:
                return self.bucket.distrust
        elif not self.bucket.transient:
            return self.bucket
        unknown = (self.bucket, self.local, self.memory)
        return next(
            (_cannot_tell(each) for each in unknown if isinstance(each, CkptsyncError)), None
        )


def status(pipeline: Pipeline) -> Status:
    """Look at everything, write nothing to the bucket. What fails is part of the answer."""
    return Status(
        pipeline=pipeline.node.pipeline,
        store=pipeline.store.name,
        bucket=_bucket(pipeline),
        local=_local(pipeline.layout, pipeline.storage_path),
        memory=_memory(pipeline),
    )


def unreachable(
    pipeline: str, store: str, layout: Layout, storage_path: Path, error: CkptsyncError
) -> Status:
    """Of a pipeline whose bucket cannot even be asked, for what the configuration lacks."""
    return Status(
        pipeline=pipeline,
        store=store,
        bucket=error,
        local=_local(layout, storage_path),
        memory=error,
    )


def _cannot_tell(error: CkptsyncError) -> CannotTell:
    return CannotTell(str(error), hint=error.hint)


def _memory(pipeline: Pipeline) -> Memory | CkptsyncError:
    if pipeline.state.missing is not None:
        return pipeline.state.missing
    try:
        history = History(pipeline.state.database)
        return Memory(
            last_push=history.last("push"),
            last_good_push=history.last_success("push"),
            last_pull=history.last("pull"),
            capabilities=remembered_capabilities(pipeline),
        )
    except CkptsyncError as error:
        return error


def _bucket(pipeline: Pipeline) -> BucketStatus | CkptsyncError:
    # Recalled first, or a push meanwhile would make the head that was read look too old.
    me = pipeline.state.identity.remembered()
    try:
        found = look(pipeline.store)
        if isinstance(found, Empty):
            if found.head is None and me.revision:
                return head_lost(pipeline.store.name, me)
            head = None if found.head is None else found.head.head
            return BucketStatus(distrust=_distrust(pipeline, found.descriptor, head, me))
        repository, at = found
        latest = repository.find(at.head, at.head.latest) if at.head.latest else None
        return BucketStatus(
            head=at.head,
            latest=latest,
            entries=tuple(repository.entries(at.head)),
            is_writer=at.head.writer.instance in me.instances,
            recovery_point_age=None if latest is None else pipeline.now() - latest.at,
            distrust=_distrust(pipeline, repository.descriptor, at.head, me),
        )
    except Cancelled:
        raise
    except CkptsyncError as error:
        return error


def _distrust(
    pipeline: Pipeline, descriptor: Descriptor | None, head: Head | None, me: Remembered
) -> CkptsyncError | None:
    where = pipeline.store.name
    try:
        if descriptor is not None:
            epochs.require_own_repository(descriptor, me, pipeline.node, where)
        if head is not None:
            epochs.require_no_rollback(head, me, where)
    except CkptsyncError as error:
        return error
    return None


def _local(layout: Layout, storage_path: Path) -> Sequence[LocalCheckpoint] | CkptsyncError:
    try:
        return local_checkpoints(layout, storage_path)
    except CkptsyncError as error:
        return error
