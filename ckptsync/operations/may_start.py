"""Whether the engine may start on this host: what its own unit asks first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from ckptsync.errors import (
    CannotTell,
    NotFound,
    Refused,
    StoreError,
    WrongRepository,
)
from ckptsync.model import LocalCheckpoint, Role
from ckptsync.operations.copies import require_no_copy
from ckptsync.operations.listing import local_checkpoints
from ckptsync.operations.objections import objection, under_way
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import initial
from ckptsync.repository import epochs
from ckptsync.repository.head import Head
from ckptsync.repository.register import head_lost
from ckptsync.repository.repository import Empty, look, read_head, require_no_manifest
from ckptsync.state.activation import Activation, Stage
from ckptsync.state.identity import Remembered
from ckptsync.state.role import RoleChange
from ckptsync.state.switchover import Handover
from ckptsync.stores.base import ObjectStore

log = structlog.get_logger()

_MADE_BY: Final = {Stage.CONFIRMED: Role.PRIMARY, Stage.UNFENCED: Role.UNFENCED}
"""What an activation has made of this node before its hook on_activate starts the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """The engine may start."""

    role: Role
    reason: str
    verified: bool
    """Whether the bucket has just said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What this node remembers of itself."""

    pipeline: str
    where: str
    """The bucket."""
    begins_as: Role
    role: RoleChange | None
    activation: Activation | None
    """The newest."""
    handover: Handover | None
    me: Remembered

    @property
    def acts_as(self) -> Role:
        role = self.begins_as if self.role is None else self.role.role
        if self.activation is None or role not in (Role.ACTIVATING, Role.ACTIVATION_FAILED):
            return role
        return _MADE_BY.get(self.activation.stage, role)

    @property
    def was_primary(self) -> bool:
        """At the last contact with the bucket."""
        return self.acts_as is Role.PRIMARY and (self.role is not None or self.me.held_epoch > 0)


def may_start(pipeline: Pipeline, *, fresh: bool) -> Permission:
    """Say why the engine may start, or raise why not. Writes nothing and takes no lock.

    With `fresh` it may start from nothing, although there was a checkpoint.

    Raises Fenced, ForeignWriter, RollbackDetected, Diverged, Stopped where another writer is or
    may be at work; PrimaryActive where a copy of this node is; NotPrimary where this node has not
    taken over, or gives its pipeline away; Refused where the engine would start from nothing, or
    from half of a pull; HeadLost, IntegrityError, WrongRepository, UnsupportedFormat for a bucket
    that is not as it should be; CannotTell where it does not answer, and this node was not its
    primary; Cancelled; SourceError, PermissionRefused.
    """
    facts = _facts(pipeline)
    require_role(facts)
    require_whole(pipeline, facts.me)
    head: Head | None = None
    unanswered: StoreError | None = None
    if facts.acts_as is Role.UNFENCED:
        reason = f"it was activated by force, without {facts.where}"
    else:
        try:
            head = _head(pipeline.store)
            reason = require_head(_recalled(pipeline, facts), head)
            if head is not None:
                require_no_copy(pipeline)
        except StoreError as error:
            unanswered = error
            trusting = pipeline.takeover.start_unverified
            reason = require_trust(facts, error, start_unverified=trusting)
    if not fresh:
        _require_checkpoint(pipeline, facts.me, head)
    if unanswered is not None:
        log.warning("start.unverified", store=facts.where, error=str(unanswered))
    verified = facts.acts_as is Role.PRIMARY and unanswered is None
    return Permission(role=facts.acts_as, reason=reason, verified=verified)


def require_role(facts: Facts) -> None:
    """Raises what this node's role says against it, whatever the bucket may say."""
    against = objection(facts.acts_as, facts.pipeline, facts.role)
    against = against or under_way(facts.handover, facts.pipeline)
    if against is not None:
        raise against


def require_head(facts: Facts, head: Head | None) -> str:
    """Why head lets the engine start; it is None where there never was one.

    Raises Fenced, ForeignWriter, RollbackDetected, WrongRepository, HeadLost.
    """
    me, where = facts.me, facts.where
    if head is None:
        if me.revision:
            raise head_lost(where, me)
        return f"nothing was ever pushed to {where}"
    if me.repository_id not in (None, head.repository_id):
        raise WrongRepository(
            f"{where} holds repository {head.repository_id}; "
            f"this node knows repository {me.repository_id} there",
            hint="somebody replaced the bucket's contents: find out who",
        )
    epochs.require_no_rollback(head, me, where)
    epochs.require_writer(head, me, where)
    return f"it is the primary of {where}, at epoch {head.epoch}"


def require_trust(facts: Facts, unanswered: StoreError, *, start_unverified: bool) -> str:
    """Why the engine may start without the bucket's word. Raises CannotTell."""
    if not facts.was_primary:
        raise CannotTell(
            f"whether '{facts.pipeline}' runs elsewhere cannot be told: {unanswered}",
            hint=unanswered.hint,
        )
    if not start_unverified:
        raise CannotTell(
            f"whether '{facts.pipeline}' runs elsewhere by now cannot be told, and "
            f"start_unverified is false: {unanswered}",
            hint=unanswered.hint,
        )
    return f"it was the primary when {facts.where} last answered"


def require_whole(pipeline: Pipeline, me: Remembered) -> None:
    """Raises Refused if the storage may hold half of what a pull is putting in place."""
    if me.publishing is not None:
        raise Refused(
            f"{pipeline.storage_path}: a pull of checkpoint {me.publishing.checkpoint_id} has "
            "not finished putting it in place",
            hint=f"ckptsync pull {pipeline.node.pipeline}",
        )


def lost(local: Sequence[LocalCheckpoint], me: Remembered, head: Head | None) -> str | None:
    """What the engine was to go on from, where the storage holds nothing to go on from."""
    if local:
        return None
    had = me.pushed or me.restored
    if had is not None:
        return f"this node had {had.engine_id} (step {had.step})"
    if head is not None and head.latest is not None:
        return f"the bucket holds {head.latest}"
    return None


def _facts(pipeline: Pipeline) -> Facts:
    state = pipeline.state
    with state.database.transaction():  # a daemon may be changing them
        return Facts(
            pipeline=pipeline.node.pipeline,
            where=pipeline.store.name,
            begins_as=initial(pipeline),
            role=state.roles.current(),
            activation=state.activations.newest(),
            handover=state.handovers.current(),
            me=state.identity.remembered(),
        )


def _head(store: ObjectStore) -> Head | None:
    try:
        return read_head(store).head
    except NotFound:
        require_no_manifest(store)
        return None


def _recalled(pipeline: Pipeline, facts: Facts) -> Facts:
    """With the writes of a push that was under way while head was read."""
    now = pipeline.state.identity.remembered()
    me = replace(
        facts.me,
        instances=facts.me.instances | now.instances,
        write_ids=facts.me.write_ids | now.write_ids,
    )
    return replace(facts, me=me)


def _require_checkpoint(pipeline: Pipeline, me: Remembered, head: Head | None) -> None:
    """Raises Refused if the engine would start from nothing, although there is a checkpoint."""
    local = local_checkpoints(pipeline.layout, pipeline.storage_path)
    why = lost(local, me, head)
    if why is None and not local and pipeline.standby.start_from is not None:
        why = _in_read_bucket(pipeline)
    if why is not None:
        raise Refused(
            f"{pipeline.storage_path}: no complete checkpoint to start from, but {why}",
            hint=f"ckptsync pull {pipeline.node.pipeline}; or --fresh, to start from nothing",
        )


def _in_read_bucket(pipeline: Pipeline) -> str | None:
    store = pipeline.read_store
    try:
        if store is not None and not isinstance(look(store), Empty):
            return f"{store.name} holds one"
    except StoreError as error:
        raise CannotTell(
            f"whether read_bucket holds a checkpoint to start from cannot be told: {error}",
            hint=error.hint,
        ) from error
    if pipeline.standby.required:
        return "fail_if_no_checkpoint is set"
    return None
