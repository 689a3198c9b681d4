"""What follows once an activation has the epoch: last pull, publish, confirm, start."""

from dataclasses import replace

import structlog

from ckptsync.errors import Cancelled, CkptsyncError, HookFailed
from ckptsync.hooks import Hook
from ckptsync.model import CheckpointId, Progress, Role
from ckptsync.operations.last_pull import GoingOn, last_pull, newest_here
from ckptsync.operations.may_start import require_whole
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.resolve import LATEST
from ckptsync.operations.roles import become, role_of
from ckptsync.operations.standby import Standby
from ckptsync.operations.writing import require_own
from ckptsync.repository import claim, epochs, pages
from ckptsync.repository.head import Head
from ckptsync.repository.repository import HeadAt
from ckptsync.state.activation import Activation, Stage

log = structlog.get_logger()


def finish(
    pipeline: Pipeline, activation: Activation, standby: Standby, progress: Progress
) -> Activation:
    """Last pull, publish, confirm and start, as far as they are still to be done.

    Raises Fenced if another node took the next epoch; HookFailed; what pulling raises.
    """
    if not activation.in_place:
        become(pipeline, Role.ACTIVATING, reason=activation.reason)
    if activation.stage is Stage.FENCED:
        going_on = _pulled(pipeline, activation, standby, progress)
        published = replace(activation, stage=Stage.PUBLISHED)
        activation = _published(pipeline, published, standby, going_on)
    if activation.stage is Stage.PUBLISHED:
        activation = _confirmed(pipeline, activation)
    head = pipeline.register().read().head
    epochs.require_writer(head, pipeline.state.identity.remembered(), pipeline.store.name)
    _start_engine(pipeline, activation)
    become(pipeline, Role.PRIMARY, reason=activation.reason)
    return pipeline.state.activations.save(replace(activation, stage=Stage.DONE, problem=None))


def _start_engine(pipeline: Pipeline, activation: Activation) -> None:
    try:
        pipeline.hooks.run(Hook.ON_ACTIVATE, facts(activation), stop=pipeline.stop)
    except HookFailed as error:
        raise HookFailed(
            f"this node has the bucket, but its engine may not run: {error}",
            hint=f"mend that, then: ckptsync activate {pipeline.node.pipeline}",
        ) from error


def publish_what_is_here(
    pipeline: Pipeline, activation: Activation, standby: Standby
) -> Activation:
    """Raises CheckpointNotFound, TooStale, and what publishing raises.

    The claim may have come to the bucket all the same: head will tell.
    """
    going_on = newest_here(pipeline, standby)
    seen = pipeline.state.identity.remembered().epoch
    unfenced = replace(activation, stage=Stage.UNFENCED, epoch=seen)
    return _published(pipeline, unfenced, standby, going_on)


def run_unfenced(pipeline: Pipeline, activation: Activation) -> Activation:
    """Run from what is here, and push nothing until the bucket tells who owns it."""
    if role_of(pipeline) is not Role.UNFENCED:
        become(pipeline, Role.UNFENCED, reason=activation.reason, problem=activation.problem)
    pipeline.hooks.run(Hook.ON_ACTIVATE, facts(activation), stop=pipeline.stop)
    return pipeline.state.activations.save(replace(activation, problem=None))


def _pulled(
    pipeline: Pipeline, activation: Activation, standby: Standby, progress: Progress
) -> GoingOn:
    wanted = None if activation.to_latest else pipeline.standby.start_from
    try:
        return last_pull(pipeline, standby, wanted or LATEST, progress=progress)
    except Cancelled:
        raise
    except CkptsyncError as error:
        if pipeline.takeover.on_pull_failure != "local":
            raise
        log.error("activation.local", error=str(error))
        return newest_here(pipeline, standby)


def _published(
    pipeline: Pipeline, activation: Activation, standby: Standby, going_on: GoingOn
) -> Activation:
    """Put it in place, and remember that the activation is at the stage it gives.

    Raises Refused where nothing is put in place, and half of a pull lies there.
    """
    if going_on.warm is None:
        require_whole(pipeline, pipeline.state.identity.remembered())
    else:
        standby.publish(going_on.warm)
    activation = pipeline.state.activations.save(
        replace(activation, checkpoint=going_on.checkpoint)
    )
    standby.clear()
    return activation


def _confirmed(pipeline: Pipeline, activation: Activation) -> Activation:
    register = pipeline.register()
    repository = require_own(pipeline, register.read().head)
    restored = None if activation.checkpoint is None else CheckpointId(activation.checkpoint)

    def decide(old: HeadAt) -> Head | None:
        epochs.require_instance(old.head, activation.instance, pipeline.store.name)
        if old.head.writer.state == "active":
            return None
        head = old.head
        entry = None if restored is None else repository.find(head, restored)
        if entry is not None and entry.state == "retired":
            # What is gone on from is the latest, and nothing is deleted of that.
            head = pages.edited(repository, head, {entry.id}, claim.live).head
        return claim.confirmed(head, restored, repository.entries(head))

    def landed(head: Head) -> bool:
        return (head.writer.instance, head.writer.state) == (activation.instance, "active")

    register.change(decide, landed=landed)
    return pipeline.state.activations.save(replace(activation, stage=Stage.CONFIRMED))


def facts(activation: Activation) -> dict[str, str]:
    """What a hook is told."""
    known = {
        "request": activation.request,
        "reason": activation.reason,
        "epoch": activation.epoch,
        "checkpoint": activation.checkpoint,
    }
    return {name: str(value) for name, value in known.items() if value is not None}
