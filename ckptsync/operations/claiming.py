"""Taking the epoch of a bucket: from then on no other node can commit there."""

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import structlog

from ckptsync.errors import Diverged, Fenced, NotFound, PrimaryActive, Refused
from ckptsync.model import Role
from ckptsync.operations import fence
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import become, role_of
from ckptsync.operations.writing import (
    create_repository,
    require_fit,
    require_own,
)
from ckptsync.repository import claim, nodes
from ckptsync.repository.claim import Claimant
from ckptsync.repository.head import Head, Writer
from ckptsync.repository.nodes import SeenNode
from ckptsync.repository.register import Register
from ckptsync.repository.repository import HeadAt, Repository
from ckptsync.state.activation import Activation, Stage
from ckptsync.state.identity import Remembered

log = structlog.get_logger()

Judge = Callable[[Head], None]
"""Raises what speaks against taking the epoch that a head has."""


def is_in(head: Head, activation: Activation, me: Remembered) -> bool:
    """Whether head's writer is this node, by this very activation."""
    return head.writer.request == activation.request and head.writer.instance in me.instances


def take(
    pipeline: Pipeline, activation: Activation, *, judge: Judge, detach_replica: bool
) -> Activation:
    """Become the writer, still activating; the same activation may do so again.

    `judge` is asked about each head that is swapped, unless it is this activation's own already.

    Raises what `judge` raises, Diverged or Refused; Fenced if another node was quicker; Refused
    for a head that is a replica; WrongRepository, RollbackDetected, HeadLost, UnfitStore. After
    CannotTell and StoreError the activation is to be gone on with.
    """
    register = pipeline.register()
    repository, first = _opened(pipeline, register)
    me = pipeline.state.identity.remembered()
    resumed = is_in(first, activation, me)
    if activation.epoch is not None and not resumed:
        raise _overtaken(pipeline, first)
    require_fit(pipeline)
    by = Claimant(
        node=pipeline.node.name,
        node_id=me.node_id,
        instance=str(uuid4()),
        request=activation.request,
    )
    pipeline.state.identity.begin(repository.descriptor.repository_id, by.instance)
    activation = pipeline.state.activations.save(
        replace(
            activation,
            stage=Stage.FENCING,
            instance=by.instance,
            problem=None,
            to_latest=activation.to_latest or _goes_on(pipeline, first, me),
        )
    )
    at = pipeline.store.now()
    passed: int | None = None

    def decide(old: HeadAt) -> Head | None:
        nonlocal passed
        head = old.head
        if head.writer.instance == by.instance:
            return None  # stored after all, when no answer came
        if head.epoch != first.epoch:
            raise _overtaken(pipeline, head)
        if old.replica and not detach_replica:
            raise Refused(
                f"{pipeline.store.name}: the store marks head.json as a replica of another "
                "bucket's: what is written there may be overwritten, and fences nobody",
                hint="activate on the bucket it comes from, or end the replication and say "
                "--detach-replica",
            )
        if resumed:
            return claim.reclaimed(head, by, at)
        if head.revision != passed:
            judge(head)
            passed = head.revision  # once: a swap that was not answered may still be on its way
        latest = repository.find(head, head.latest) if head.latest else None
        return claim.claimed(head, by, latest, _reason(activation), at)

    try:
        head = register.change(decide, landed=lambda head: head.writer.instance == by.instance)
    except (Diverged, Fenced, Refused) as error:
        # By a head that no swap of ours can follow any more.
        if activation.epoch is None:
            _abandon(pipeline, activation, str(error))
        raise
    log.warning("epoch.taken", epoch=head.epoch, displaced=first.writer.node)
    return pipeline.state.activations.save(
        replace(
            activation,
            stage=Stage.PUBLISHED if activation.in_place else Stage.FENCED,
            epoch=head.epoch,
            timeline=head.timeline,
            latest=head.latest,
        )
    )


def give_up(pipeline: Pipeline, activation: Activation, why: str) -> None:
    """End an activation of which another node has the epoch.

    This node is what it was before, a standby above all, unless its engine may have been started.
    """
    if activation.engine_may_run:
        fence.lose(pipeline, why)
    elif activation.epoch is not None or role_of(pipeline) is Role.ACTIVATION_FAILED:
        become(pipeline, Role.STANDBY, reason=why)
    _abandon(pipeline, activation, why)


def landed(pipeline: Pipeline, head: Head) -> Activation | None:
    """An activation that was given up, if its claim has come to the bucket after all.

    The swap was on its way when this node last looked. It is unfinished again.
    """
    activations = pipeline.state.activations
    request = head.writer.request
    activation = None if request is None else activations.find(request)
    if activation is None or activation.stage is not Stage.ABANDONED:
        return None
    if not is_in(head, activation, pipeline.state.identity.remembered()):
        return None
    log.warning("activation.landed", epoch=head.epoch)
    return activations.save(replace(activation, stage=Stage.FENCING, problem=None))


def _abandon(pipeline: Pipeline, activation: Activation, why: str) -> None:
    pipeline.state.activations.save(replace(activation, stage=Stage.ABANDONED, problem=why))


def guard(pipeline: Pipeline, head: Head) -> None:
    """Raises PrimaryActive if the writer that would be displaced seems alive."""
    writer = head.writer
    if not pipeline.takeover.guard or writer.released_to == pipeline.node.name:
        return
    seen = nodes.read(pipeline.store, writer.node)
    if seen is None or not seen.fresh:
        seen = _renamed(pipeline, writer)
    if seen is None:
        return
    beat = seen.heartbeat
    if beat is not None and beat.machine == pipeline.machine:
        if beat.node_id == writer.node_id:
            return
        raise PrimaryActive(
            f"{pipeline.store.name}: its primary is another node that is called '{writer.node}' as "
            "this one is; whether that is alive cannot be told, since this one is",
            hint="give each node a name of its own; or, if that one is gone, say --force",
        )
    age, to = max(seen.age.total_seconds(), 0), writer.released_to
    raise PrimaryActive(
        f"{pipeline.store.name}: its primary, node '{writer.node}', was alive {age:.0f} s ago"
        + (f", and gives it to node '{to}'" if to else ""),
        hint=f"'ckptsync switchover' there loses nothing; is it gone, wait "
        f"{nodes.FRESH.seconds} s or say --force",
    )


def _renamed(pipeline: Pipeline, writer: Writer) -> SeenNode | None:
    """The writer's fresh beat under another name: a node keeps its id when it is renamed."""
    return next(
        (
            each
            for each in nodes.read_all(pipeline.store)
            if each.fresh and each.heartbeat and each.heartbeat.node_id == writer.node_id
        ),
        None,
    )


def insist(_head: Head) -> None:
    """The judge of an operator who does."""


def _goes_on(pipeline: Pipeline, head: Head, me: Remembered) -> bool:
    """Whether this node was given the pipeline, or has been its primary before.

    That of a bucket without a checkpoint does not count: this activation may have created it.
    """
    given = head.writer.released_to == pipeline.node.name
    return head.next_seq > 1 and (given or me.held_epoch > 0)


def _opened(pipeline: Pipeline, register: Register) -> tuple[Repository, Head]:
    try:
        head = register.read().head
    except NotFound:
        create_repository(pipeline)
        head = register.read().head
    return require_own(pipeline, head), head


def _overtaken(pipeline: Pipeline, head: Head) -> Fenced:
    writer = head.writer.node
    return Fenced(
        f"{pipeline.store.name}: node '{writer}' took over at epoch {head.epoch} meanwhile",
        hint=f"ckptsync topology {pipeline.node.pipeline}",
    )


def _reason(activation: Activation) -> str:
    return f"activate: {activation.reason}" if activation.reason else "activate"
