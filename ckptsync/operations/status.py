"""How a pipeline is doing: what the bucket would restore, and what it does not have yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ckptsync.errors import Cancelled, CannotTell, CkptsyncError
from ckptsync.model import CheckpointId, LocalCheckpoint, Role
from ckptsync.operations.deleting import is_left_to_others
from ckptsync.operations.listing import local_checkpoints, unpushed
from ckptsync.operations.looking import look_again
from ckptsync.operations.objections import objection
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import initial
from ckptsync.operations.topology import behind
from ckptsync.operations.writing import remembered_capabilities
from ckptsync.repository import epochs, keeps
from ckptsync.repository.descriptor import Descriptor
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import Empty
from ckptsync.sources.base import Layout
from ckptsync.state.activation import Activation
from ckptsync.state.history import Run
from ckptsync.state.identity import Remembered
from ckptsync.state.role import RoleChange
from ckptsync.state.switchover import Handover
from ckptsync.stores.probe import Capabilities

_LOST: Final = frozenset({Role.FENCED, Role.DIVERGED, Role.STOPPED})
"""Roles that only an operator ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketStatus:
    """What the bucket says of itself; of an empty one that is nothing."""

    head: Head | None = None
    latest: Entry | None = None
    entries: Sequence[Entry] = ()
    kept: int = 0
    """Checkpoints that a name keeps from being pruned."""
    is_writer: bool = False
    """Whether this node is the one that head names."""
    recovery_point_age: timedelta | None = None
    """Since what the bucket would restore was committed; None if it would restore nothing."""
    distrust: CkptsyncError | None = None
    """Why this node would not push there: it is another pipeline's, or went back in time."""

    def count(self, state: str) -> int:
        """Of the checkpoints that are live, retired or bad."""
        return sum(entry.state == state for entry in self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What this node remembers of itself."""

    role: Role
    change: RoleChange | None
    """The one that made it that; None where the configuration says what it begins as."""
    epoch: int
    """The highest it has seen; 0 before the first."""
    paused_since: datetime | None
    activation: Activation | None
    """One that has not come to its end."""
    handover: Handover | None
    """The switchover that is under way."""
    warm: CheckpointId | None
    """The newest that a standby holds complete and verified."""
    last_push: Run | None
    last_good_push: Run | None
    """The newest that succeeded, whatever became of later ones."""
    last_pull: Run | None
    last_prune: Run | None
    """The newest that had something to do, or failed."""
    prune_left_to_others: bool
    """The store has refused a deletion of this node within a day."""
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
    def warm(self) -> Entry | None:
        """The checkpoint that a standby could go on from; None if head does not name it."""
        if isinstance(self.memory, CkptsyncError) or isinstance(self.bucket, CkptsyncError):
            return None
        return next((each for each in self.bucket.entries if each.id == self.memory.warm), None)

    @property
    def lag(self) -> timedelta | None:
        """How long after that the latest was committed; None where it is not behind the latest."""
        if isinstance(self.bucket, CkptsyncError) or self.bucket.head is None:
            return None
        return behind(self.bucket.head, self.bucket.latest, self.warm)

    @property
    def problem(self) -> CkptsyncError | None:
        """What keeps the state of the pipeline from being known or trusted, the worst of it."""
        if isinstance(self.bucket, BucketStatus):
            if self.bucket.distrust is not None:
                return self.bucket.distrust
        elif not self.bucket.transient:
            return self.bucket
        if isinstance(self.memory, Memory) and self.memory.role in _LOST:
            return objection(self.memory.role, self.pipeline, self.memory.change)
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
        state = pipeline.state
        change, history = state.roles.current(), state.history
        return Memory(
            role=initial(pipeline) if change is None else change.role,
            change=change,
            epoch=state.identity.remembered().epoch,
            paused_since=state.roles.paused_since(),
            activation=state.activations.unfinished(),
            handover=state.handovers.current(),
            warm=next(map(CheckpointId, state.warm.ids()), None),
            last_push=history.last("push"),
            last_good_push=history.last_success("push"),
            last_pull=history.last("pull"),
            last_prune=history.last("prune"),
            prune_left_to_others=is_left_to_others(pipeline),
            capabilities=remembered_capabilities(pipeline),
        )
    except CkptsyncError as error:
        return error


def _bucket(pipeline: Pipeline) -> BucketStatus | CkptsyncError:
    # Recalled first, or a push meanwhile would make the head that was read look too old.
    me = pipeline.state.identity.remembered()
    try:
        found = look_again(pipeline.store, me)
        if isinstance(found, Empty):
            head = None if found.head is None else found.head.head
            return BucketStatus(distrust=_distrust(pipeline, found.descriptor, head, me))
        repository, at = found
        latest = repository.find(at.head, at.head.latest) if at.head.latest else None
        now = pipeline.now()
        return BucketStatus(
            head=at.head,
            latest=latest,
            entries=tuple(repository.entries(at.head)),
            kept=len(keeps.named(at.head, now)),
            is_writer=at.head.writer.instance in me.instances,
            recovery_point_age=None if latest is None else now - latest.at,
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
            current = pipeline.state.roles.current()
            primary = current is not None and current.role is Role.PRIMARY
            if primary and head.writer.instance not in me.instances:
                epochs.require_writer(head, me, where)
    except CkptsyncError as error:
        return error
    return None


def _local(layout: Layout, storage_path: Path) -> Sequence[LocalCheckpoint] | CkptsyncError:
    try:
        return local_checkpoints(layout, storage_path)
    except CkptsyncError as error:
        return error
