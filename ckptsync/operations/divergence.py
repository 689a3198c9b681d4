"""A node that was activated without the bucket, once the bucket answers again."""

from uuid import uuid4

import structlog

from ckptsync.errors import Diverged, PrimaryActive, Refused
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.operations.activate import Activated, go_on_in_place
from ckptsync.operations.claiming import guard, insist
from ckptsync.operations.orders import SettleDivergence
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.rejoin import Rejoined, make_standby
from ckptsync.operations.roles import become, role_of
from ckptsync.operations.standby import Standby
from ckptsync.repository.head import Head
from ckptsync.state.activation import Activation, Stage

log = structlog.get_logger()


def reconnect(pipeline: Pipeline, standby: Standby) -> Role:
    """Become the primary if the bucket is still what was gone on from, else DIVERGED.

    Raises StoreError and CannotTell where the bucket does not answer yet: nothing has changed.
    """
    unfenced = _unfenced(pipeline)

    def judge(head: Head) -> None:
        _require_unmoved(pipeline, head, unfenced)
        guard(pipeline, head)

    try:
        go_on_in_place(pipeline, _claim(pipeline, unfenced), standby, judge=judge)
    except (Diverged, PrimaryActive) as error:
        log.critical("role.diverged", error=str(error))
        become(pipeline, Role.DIVERGED, reason=unfenced.reason, problem=str(error))
    return role_of(pipeline)


def settle_divergence(
    pipeline: Pipeline, order: SettleDivergence, standby: Standby
) -> Activated | Rejoined:
    """Do what the operator decided: this host's state goes on, or the bucket's.

    Keeping the bucket's stops the engine here and keeps its state in quarantine. Raises Refused
    in any other role; what an activation or a rejoin raises.
    """
    if role_of(pipeline) is not Role.DIVERGED:
        raise Refused(f"this node is {role_of(pipeline)}: nothing has diverged")
    if order.keep == "local":
        claim = _claim(pipeline, _unfenced(pipeline))
        return go_on_in_place(pipeline, claim, standby, judge=insist)
    pipeline.hooks.run(Hook.ON_FENCED, {"role": str(Role.DIVERGED)}, stop=pipeline.stop)
    reason = "the bucket's state is kept"
    return make_standby(pipeline, engine_stopped=order.engine_stopped, reason=reason)


def _unfenced(pipeline: Pipeline) -> Activation:
    unfenced = pipeline.state.activations.unfenced()
    if unfenced is None:
        raise Refused("no activation without the bucket is remembered")
    return unfenced


def _claim(pipeline: Pipeline, unfenced: Activation) -> Activation:
    """A second activation, for what the first has put in place; an interrupted one goes on."""
    begun = pipeline.state.activations.unfinished()
    if begun is not None and begun.in_place:
        return begun
    return Activation(
        request=str(uuid4()),
        started_at=pipeline.now(),
        reason=unfenced.reason,
        forced=unfenced.forced,
        stage=Stage.BEGUN,
        checkpoint=unfenced.checkpoint,
        in_place=True,
        detach_replica=unfenced.detach_replica,
    )


def _require_unmoved(pipeline: Pipeline, head: Head, unfenced: Activation) -> None:
    """Raises Diverged if something happened in the bucket without this node.

    Its own claim may have arrived there, when the answer did not.
    """
    writer, where = head.writer, pipeline.store.name
    ours = writer.instance in pipeline.state.identity.remembered().instances
    if head.epoch != unfenced.epoch and not ours:
        raise Diverged(f"{where}: node '{writer.node}' took over at epoch {head.epoch}")
    if head.latest != unfenced.checkpoint:
        raise Diverged(f"{where}: node '{writer.node}' committed checkpoint {head.latest} since")
