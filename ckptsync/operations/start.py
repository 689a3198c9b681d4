"""What this node is when a daemon starts: what it remembers, held against what head says."""

from typing import Final

import structlog

from ckptsync.errors import CkptsyncError, NotFound
from ckptsync.model import Progress, Role
from ckptsync.operations import fence
from ckptsync.operations.claiming import give_up, is_in, landed
from ckptsync.operations.copies import require_no_copy
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.pull import PullReport, Wish, pull
from ckptsync.operations.resolve import LATEST
from ckptsync.operations.roles import (
    become,
    role_after,
    role_before_it_stopped,
    role_of,
    stop,
)
from ckptsync.operations.writing import open_for_writing
from ckptsync.repository.head import Head
from ckptsync.state.activation import Activation, Stage

log = structlog.get_logger()

_UNFINISHED: Final = (Role.ACTIVATING, Role.ACTIVATION_FAILED)


def start(pipeline: Pipeline) -> Role:
    """Find the role of this node, take it, and give it.

    A role that only an operator ends (fenced, diverged) is kept. A standby asks the bucket only
    whether a claim that it gave up has come there after all. Who is to be the primary creates the
    repository where there is none; who is giving it to another node goes on waiting for that.

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
    if role is Role.STANDBY and _has_given_up_a_claim(pipeline):
        role = _after_a_claim(pipeline)
    if role in (Role.PRIMARY, Role.RELEASED):
        role = _writer(pipeline, role)
    if role not in (Role.PRIMARY, Role.RELEASED):
        pipeline.state.handovers.end()
    if pipeline.state.roles.current() is None or role is not role_of(pipeline):
        become(pipeline, role, reason="found at the start")
    return role


def _resumed(pipeline: Pipeline, activation: Activation, role: Role) -> Role:
    """Go on with an activation whose claim is in head, or give it up."""
    if activation.in_place and role is Role.UNFENCED:
        return role  # to reconnect goes on with it
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


def _has_given_up_a_claim(pipeline: Pipeline) -> bool:
    newest = pipeline.state.activations.newest()
    return newest is not None and newest.stage is Stage.ABANDONED and newest.instance is not None


def _after_a_claim(pipeline: Pipeline) -> Role:
    """Whether the claim came to the bucket after all; where that cannot be told, polls will."""
    try:
        claimed = landed(pipeline, pipeline.register().read().head)
    except CkptsyncError as error:
        log.info("activation.unchecked", error=str(error))
        return Role.STANDBY
    return Role.STANDBY if claimed is None else Role.ACTIVATING


def _writer(pipeline: Pipeline, role: Role) -> Role:
    try:
        return _judged(pipeline, role)
    except CkptsyncError as error:
        lost = role_after(error)
        if lost is Role.FENCED:
            return _fenced(pipeline, error)
        if lost is not None:
            stop(pipeline, error)
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
            require_no_copy(pipeline)
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


def asks_for_a_pull(pipeline: Pipeline) -> bool:
    """Whether something is to be put in place before the engine of this primary starts."""
    unfinished = pipeline.state.identity.remembered().publishing
    return pipeline.standby.start_from is not None or unfinished is not None


def initial_pull(pipeline: Pipeline, *, progress: Progress) -> PullReport | None:
    """What a primary pulls before its engine starts; None where the configuration asks for none.

    A checkpoint that is here already will do. That which the configuration names is asked for only
    until this node has pushed or restored one: then any will do, and it is the latest that is
    pulled. A pull that was interrupted while it put one in place is finished in any case. Raises
    what `pull` raises.
    """
    me, wanted = pipeline.state.identity.remembered(), pipeline.standby.start_from
    if not asks_for_a_pull(pipeline):
        return None
    has_begun = me.pushed is not None or me.restored is not None
    wish = Wish(
        checkpoint=LATEST if wanted is None or has_begun else wanted,
        explicit=False,
        required=pipeline.standby.required,
    )
    return pull(pipeline, wish, progress=progress)
