"""What this node is when a daemon starts: what it remembers, held against what head says."""

from datetime import timedelta
from typing import Final

import structlog

from ckptsync.errors import Cancelled, CkptsyncError, NotFound, PrimaryActive
from ckptsync.model import Progress, Role
from ckptsync.operations import fence
from ckptsync.operations.claiming import give_up, is_in
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.pull import PullReport, Wish, pull
from ckptsync.operations.resolve import LATEST
from ckptsync.operations.roles import (
    become,
    role_after,
    role_before_it_stopped,
    role_of,
)
from ckptsync.operations.writing import open_for_writing
from ckptsync.repository import nodes
from ckptsync.repository.head import Head
from ckptsync.state.activation import Activation

log = structlog.get_logger()

_UNFINISHED: Final = (Role.ACTIVATING, Role.ACTIVATION_FAILED)
_MARGIN: Final = timedelta(seconds=2)  # some stores tell the time in whole seconds


def start(pipeline: Pipeline) -> Role:
    """Find the role of this node, take it, and give it.

    A role that only an operator ends (fenced, diverged) is kept, and a standby asks the bucket
    nothing. Who is to be the primary creates the repository where there is none; who is giving
    it to another node goes on waiting for that.

    Raises what head makes of a primary, once it has the role for that: WrongRepository,
    RollbackDetected, ForeignWriter, HeadLost; PrimaryActive if a copy of this node is at work;
    UnfitStore and what else `open_for_writing` raises, StoreError and CannotTell, which change
    nothing.
    """
    role = role_of(pipeline)
    if role is Role.STOPPED:
        role = role_before_it_stopped(pipeline)
    activation = pipeline.state.activations.unfinished()
    if activation is not None:
        role = _resumed(pipeline, activation, role)
    elif role in _UNFINISHED:
        role = Role.STANDBY
    if role in (Role.PRIMARY, Role.RELEASED):
        role = _writer(pipeline, role)
    if role not in (Role.PRIMARY, Role.RELEASED):
        pipeline.state.handovers.end()
    if pipeline.state.roles.current() is None or role is not role_of(pipeline):
        become(pipeline, role, reason="found at the start")
    return role


def _resumed(pipeline: Pipeline, activation: Activation, role: Role) -> Role:
    """Go on with an activation whose claim is in head, or give it up."""
    head = pipeline.register().read().head
    if is_in(head, activation, pipeline.state.identity.remembered()):
        return Role.ACTIVATING
    log.warning("activation.given_up", node=head.writer.node, epoch=head.epoch)
    if activation.epoch is None:
        why = "it was interrupted before it took the epoch"
    else:
        why = f"node '{head.writer.node}' took over at epoch {head.epoch}"
    give_up(pipeline, activation, why)
    now = role_of(pipeline)
    return role if now is Role.STOPPED else now


def _writer(pipeline: Pipeline, role: Role) -> Role:
    try:
        return _judged(pipeline, role)
    except CkptsyncError as error:
        lost = role_after(error)
        if lost is Role.FENCED:
            return _fenced(pipeline, error)
        if lost is not None:
            become(pipeline, lost, reason="found at the start", problem=str(error))
        raise


def _judged(pipeline: Pipeline, role: Role) -> Role:
    """Raises what `start` raises, and Fenced."""
    try:
        head: Head | None = pipeline.register().read().head
    except NotFound:
        head = None
    if head is not None:
        mine = head.writer.instance in pipeline.state.identity.remembered().instances
        if role is Role.RELEASED and not mine:
            return Role.STANDBY  # it was taken over as agreed
        if mine and _is_given_away(pipeline, head, role):
            return Role.RELEASED
        if mine and head.writer.state == "activating":
            return Role.ACTIVATION_FAILED  # what was done of it is forgotten
        if mine:
            _require_no_copy(pipeline)
    open_for_writing(pipeline, anew=True)
    return Role.PRIMARY


def _is_given_away(pipeline: Pipeline, head: Head, role: Role) -> bool:
    """Whether it is released; or the swap for that is intended, and may still be on its way."""
    intended = role is Role.RELEASED and pipeline.state.handovers.current() is not None
    return intended or head.writer.state == "released"


def _fenced(pipeline: Pipeline, error: CkptsyncError) -> Role:
    """Believed once a second look has found the same. Raises what that finds instead."""
    again = fence.look(pipeline, None).trouble
    if again is None or role_after(again) is not Role.FENCED:
        raise again or error
    fence.lose(pipeline, str(again))
    return Role.FENCED


def _require_no_copy(pipeline: Pipeline) -> None:
    """Raises PrimaryActive if the node of this name beats on another machine.

    One that was just left by this node, before its host booted anew, grows old while we wait;
    that of a copy is renewed.
    """
    first = nodes.read(pipeline.store, pipeline.node.name)
    if first is None or not first.fresh or _is_ours(pipeline, first):
        return
    log.warning("node.same_elsewhere", node=pipeline.node.name, seconds=nodes.FRESH.seconds)
    if pipeline.stop.wait((nodes.FRESH - first.age + _MARGIN).total_seconds()):
        raise Cancelled("stopped while finding out whether a copy of this node is at work")
    again = nodes.read(pipeline.store, pipeline.node.name)
    if again is not None and again.fresh and not _is_ours(pipeline, again):
        raise PrimaryActive(
            f"{pipeline.store.name}: node '{pipeline.node.name}' is at work on another machine, "
            "too: a copy of it, or one of the same name",
            hint="stop one of the two, and give it a state directory and a node name of its own",
        )


def _is_ours(pipeline: Pipeline, seen: nodes.SeenNode) -> bool:
    beat = seen.heartbeat
    return beat is not None and beat.machine == pipeline.machine


def initial_pull(pipeline: Pipeline, *, progress: Progress) -> PullReport | None:
    """What a primary pulls before its engine starts; None where the configuration asks for none.

    A checkpoint that is here already will do. A pull that was interrupted while it put one in
    place is finished in any case. Raises what `pull` raises.
    """
    publishing = pipeline.state.identity.remembered().publishing
    if pipeline.standby.start_from is None and publishing is None:
        return None
    wish = Wish(
        checkpoint=pipeline.standby.start_from or LATEST,
        explicit=False,
        required=pipeline.standby.required,
    )
    return pull(pipeline, wish, progress=progress)
