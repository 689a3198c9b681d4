"""Activation: this node takes the bucket over and becomes the primary.

In this order: guard, fence, last pull, publish, confirm, start. The epoch is raised first, so
what is pulled afterwards cannot be outdated any more. Each step is remembered before the next,
and asking again goes on after the last that was taken.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Final

import structlog

from ckptsync.errors import (
    AccessDenied,
    BucketNotFound,
    Cancelled,
    CannotTell,
    CkptsyncError,
    Fenced,
    ForeignWriter,
    HookFailed,
    NotFound,
    Refused,
    Unavailable,
    Vetoed,
)
from ckptsync.hooks import Hook
from ckptsync.model import CheckpointId, Progress, Role, ignore
from ckptsync.operations.claiming import Judge, give_up, guard, insist, take
from ckptsync.operations.engine import require_stopped
from ckptsync.operations.finishing import facts, finish, publish_what_is_here, run_unfenced
from ckptsync.operations.orders import Activate
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import become, role_of
from ckptsync.operations.standby import Standby
from ckptsync.repository import claim, epochs
from ckptsync.sources.disk import require_same_filesystem, require_space
from ckptsync.state.activation import Activation, Stage

log = structlog.get_logger()

_AWAY: Final = (Unavailable, CannotTell, AccessDenied, BucketNotFound)
"""Nobody can be fenced there now."""

Fence = Callable[[Activation], Activation]
"""Takes the epoch, or has the activation go on without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    request: str
    role: Role
    """PRIMARY, or UNFENCED where the bucket did not answer."""
    already: bool
    """It was before this was asked."""
    epoch: int
    timeline: int | None
    checkpoint: CheckpointId | None
    """What the pipeline goes on from; None for a fresh start, and for one of read_bucket."""
    left_behind: int
    """Commits that the bucket has beyond that: they are not lost, but not gone on from."""
    seconds: float


def activate(
    pipeline: Pipeline, order: Activate, standby: Standby, *, progress: Progress
) -> Activated:
    """Take over, once, however often and in however many pieces it is asked for.

    Raises, with nothing changed, PrimaryActive, Vetoed, EngineRunning, Refused, WrongRepository,
    RollbackDetected, HeadLost; Fenced if another node was quicker. Later failures leave the
    epoch with this node and the role ACTIVATION_FAILED, from which asking again goes on; so it
    does after CannotTell.
    """
    started = monotonic()
    activations = pipeline.state.activations
    asked = activations.find(order.request)
    if asked is None or asked.stage not in (Stage.DONE, Stage.UNFENCED):
        activation = _to_go_on_with(pipeline, order)
        if activation is None:
            return _as_it_is(pipeline, order, since=started)
    elif asked.problem is None or asked != activations.newest():
        return _report(pipeline, asked, already=True, since=started)
    else:
        activation = asked  # the bucket is away, and the engine was not started yet

    def fence(begun: Activation) -> Activation:
        return _fenced(pipeline, begun, order, standby)

    activation = _through(pipeline, activation, standby, fence, progress)
    return _report(pipeline, activation, already=False, since=started)


def go_on_in_place(
    pipeline: Pipeline, activation: Activation, standby: Standby, *, judge: Judge
) -> Activated:
    """Take the epoch for what this host runs already, activated before without the bucket.

    Raises what `take` and `activate` raise; until the epoch is taken nothing is changed.
    """
    started = monotonic()

    def fence(begun: Activation) -> Activation:
        return take(pipeline, begun, judge=judge, detach_replica=begun.detach_replica)

    activation = _through(pipeline, activation, standby, fence, ignore)
    return _report(pipeline, activation, already=False, since=started)


def again(activation: Activation) -> Activate:
    """The order that an activation goes on by, as it was given."""
    return Activate(
        request=activation.request,
        reason=activation.reason,
        force=activation.forced,
        detach_replica=activation.detach_replica,
        engine_stopped=activation.engine_stopped,
    )


def _to_go_on_with(pipeline: Pipeline, order: Activate) -> Activation | None:
    """The activation that is under way, or a new one; None if this node is the primary.

    Raises Refused in a role that something else has to end first.
    """
    role, name = role_of(pipeline), pipeline.node.pipeline
    ways_out = {
        Role.FENCED: f"ckptsync rejoin {name}",
        Role.RELEASED: f"ckptsync switchover --cancel {name}",
        Role.DIVERGED: f"ckptsync diverged --keep local {name}, or --keep bucket",
        Role.UNFENCED: f"ckptsync status {name}",
    }
    if role in ways_out:
        raise Refused(f"this node is {role} of pipeline '{name}'", hint=ways_out[role])
    unfinished = pipeline.state.activations.unfinished()
    if unfinished is not None:
        return unfinished
    if role is Role.PRIMARY and _writes(pipeline):
        return None
    return pipeline.state.activations.save(
        Activation(
            request=order.request,
            started_at=pipeline.now(),
            reason=order.reason,
            forced=order.force,
            stage=Stage.BEGUN,
            detach_replica=order.detach_replica,
            engine_stopped=order.engine_stopped,
        )
    )


def _writes(pipeline: Pipeline) -> bool:
    """Whether head names this primary; False if it never did. Raises Fenced if it does no more."""
    me = pipeline.state.identity.remembered()
    try:
        head = pipeline.register().read().head
        if head.writer.instance in me.instances and head.writer.state != "active":
            return False
        epochs.require_writer(head, me, pipeline.store.name)
    except (NotFound, ForeignWriter):
        return False
    return True


def _through(
    pipeline: Pipeline, activation: Activation, standby: Standby, fence: Fence, progress: Progress
) -> Activation:
    """Go on from wherever it is to its end. What ends it is remembered before it is raised."""
    try:
        if activation.stage <= Stage.FENCED:
            activation = fence(activation)
        if activation.stage is Stage.UNFENCED:
            return run_unfenced(pipeline, activation)
        return finish(pipeline, activation, standby, progress)
    except Cancelled:
        raise  # whoever starts next goes on
    except CkptsyncError as error:
        _failed(pipeline, activation.request, error)
        raise


def _fenced(
    pipeline: Pipeline, activation: Activation, order: Activate, standby: Standby
) -> Activation:
    """Guard and fence; or go on without the bucket, where the operator has said so."""
    if not activation.in_place:
        require_stopped(pipeline, word=order.engine_stopped)
    if activation.stage is Stage.BEGUN:
        require_same_filesystem(pipeline.work_path, pipeline.storage_path)
        _require_no_veto(pipeline, activation)
    judge = insist if order.force else partial(guard, pipeline)
    try:
        if activation.stage is Stage.BEGUN:
            _require_room(pipeline, standby)
        return take(pipeline, activation, judge=judge, detach_replica=order.detach_replica)
    except _AWAY as error:
        insists = order.force and pipeline.takeover.on_pull_failure == "local"
        if not insists or activation.in_place or activation.epoch is not None:
            raise
        log.critical("activation.unfenced", error=str(error))
        begun = replace(activation, problem=str(error))
        return publish_what_is_here(pipeline, begun, standby)


def _require_room(pipeline: Pipeline, standby: Standby) -> None:
    """Raises LocalDiskFull if the last pull is sure to find no room: nobody is fenced for that.

    How much it has to fetch is only known once it is planned; this is the least.
    """
    try:
        head = pipeline.register().read().head
    except NotFound:
        return
    latest, held = None if head.latest is None else head.entry(head.latest), standby.newest()
    if latest is None or (held is not None and held.is_of(latest)):
        return
    work = pipeline.work_path
    needed = latest.bytes if held is None else latest.new_bytes
    require_space(work if work.exists() else work.parent, needed)


def _require_no_veto(pipeline: Pipeline, activation: Activation) -> None:
    try:
        pipeline.hooks.run(Hook.PRE_ACTIVATE, facts(activation), stop=pipeline.stop)
    except HookFailed as error:
        raise Vetoed(f"the activation was vetoed: {error}", hint=error.hint) from error


def _failed(pipeline: Pipeline, request: str, error: CkptsyncError) -> None:
    """Remember why it does not go on, and what this node is now."""
    activations = pipeline.state.activations
    activation = activations.find(request)
    if activation is None or activation.stage is Stage.ABANDONED:
        return
    if activation.epoch is not None and isinstance(error, Fenced):
        give_up(pipeline, activation, str(error))
        return
    if activation.stage is Stage.BEGUN:
        activation = replace(activation, stage=Stage.ABANDONED)
    activations.save(replace(activation, problem=str(error)))
    if activation.epoch is not None and activation.stage is not Stage.UNFENCED:
        become(pipeline, Role.ACTIVATION_FAILED, reason=activation.reason, problem=str(error))


def _as_it_is(pipeline: Pipeline, order: Activate, *, since: float) -> Activated:
    head = pipeline.register().read().head
    return Activated(
        request=order.request,
        role=Role.PRIMARY,
        already=True,
        epoch=head.epoch,
        timeline=head.timeline,
        checkpoint=head.latest,
        left_behind=0,
        seconds=monotonic() - since,
    )


def _report(
    pipeline: Pipeline, activation: Activation, *, already: bool, since: float
) -> Activated:
    latest, checkpoint = activation.latest, activation.checkpoint
    return Activated(
        request=activation.request,
        role=role_of(pipeline),
        already=already,
        epoch=activation.epoch or pipeline.state.identity.remembered().epoch,
        timeline=activation.timeline,
        checkpoint=None if checkpoint is None else CheckpointId(checkpoint),
        left_behind=claim.behind(latest, checkpoint),
        seconds=monotonic() - since,
    )
