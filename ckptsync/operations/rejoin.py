"""Becoming a standby again: what this host has is kept in quarantine, and the bucket is pulled."""

from dataclasses import dataclass, replace
from pathlib import Path

from ckptsync.errors import NotFound, Refused
from ckptsync.model import Role
from ckptsync.operations.engine import require_stopped
from ckptsync.operations.orders import Rejoin
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import become, role_of
from ckptsync.sources.publish import set_aside
from ckptsync.state.activation import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoined:
    quarantine: Path | None
    """Where the storage's contents are now; None where there were none."""
    already: bool
    """It was a standby before."""


def rejoin(pipeline: Pipeline, order: Rejoin) -> Rejoined:
    """Make a node whose pipeline another one runs its standby.

    Nothing is deleted. Raises Refused if the bucket still names this node its writer;
    EngineRunning; StoreError, CannotTell where that cannot be found out.
    """
    if role_of(pipeline) is Role.STANDBY:
        return Rejoined(quarantine=None, already=True)
    _require_displaced(pipeline)
    return make_standby(pipeline, engine_stopped=order.engine_stopped, reason="rejoined")


def make_standby(pipeline: Pipeline, *, engine_stopped: bool, reason: str) -> Rejoined:
    """Empty the storage into quarantine and take the role. A crash leaves the role as it was.

    Raises EngineRunning; Refused if nobody can tell; SourceError.
    """
    require_stopped(pipeline, word=engine_stopped)
    quarantine = set_aside(pipeline.layout, pipeline.storage_path, pipeline.work_path)
    state = pipeline.state
    state.identity.vacated()
    state.handovers.end()
    if (unfinished := state.activations.unfinished()) is not None:
        state.activations.save(replace(unfinished, stage=Stage.ABANDONED))
    become(pipeline, Role.STANDBY, reason=reason)
    return Rejoined(quarantine=quarantine, already=False)


def _require_displaced(pipeline: Pipeline) -> None:
    name = pipeline.node.pipeline
    try:
        head = pipeline.register().read().head
    except NotFound:
        raise Refused(
            f"{pipeline.store.name} holds no repository: there is no other primary to follow",
            hint=f"ckptsync push {name}",
        ) from None
    me = pipeline.state.identity.remembered()
    if head.writer.instance in me.instances and head.writer.write_id in me.write_ids:
        raise Refused(
            f"{pipeline.store.name}: this node is still the writer, at epoch {head.epoch}",
            hint=f"ckptsync switchover --to NODE {name}, or activate another node first",
        )
