"""The role of this node: what it may do with the bucket, and what an error makes of it."""

import threading
from typing import Final, assert_never

import structlog

from ckptsync.errors import (
    CkptsyncError,
    Diverged,
    Fenced,
    ForeignWriter,
    HeadLost,
    HookFailed,
    NotPrimary,
    RollbackDetected,
    WrongRepository,
)
from ckptsync.hooks import Hook, Hooks
from ckptsync.model import Role
from ckptsync.operations.pipeline import Pipeline
from ckptsync.state.role import RoleChange

log = structlog.get_logger()

_STOPPING: Final = (ForeignWriter, RollbackDetected, WrongRepository, HeadLost)
"""What only an operator can judge; nothing is written, and the engine is left alone."""
_OF_ITS_BUCKET: Final = frozenset(each.__name__ for each in (RollbackDetected, HeadLost))
"""Of these, what happened to the bucket of which this node is still the primary."""


def role_of(pipeline: Pipeline) -> Role:
    current = pipeline.state.roles.current()
    return initial(pipeline) if current is None else current.role


def initial(pipeline: Pipeline) -> Role:
    """What a node begins as."""
    return Role.STANDBY if pipeline.standby.initially else Role.PRIMARY


def role_before_it_stopped(pipeline: Pipeline) -> Role:
    changes = (each.role for each in pipeline.state.roles.changes())
    return next((role for role in changes if role is not Role.STOPPED), initial(pipeline))


def stop(pipeline: Pipeline, error: CkptsyncError) -> None:
    """Leave it to an operator; what kind of error it was decides what is still done."""
    become(pipeline, Role.STOPPED, reason=type(error).__name__, problem=str(error))


def is_silent(pipeline: Pipeline) -> bool:
    """Whether not even a heartbeat may be written, in another's bucket or another's name."""
    current = pipeline.state.roles.current()
    if current is None or current.role is not Role.STOPPED:
        return False
    return current.reason not in _OF_ITS_BUCKET


def is_to_be_displaced(pipeline: Pipeline) -> bool:
    """Whether the engine may run here, so that another writer in head ends that."""
    role = role_of(pipeline)
    match role:
        case Role.PRIMARY:
            return True
        case Role.ACTIVATING | Role.ACTIVATION_FAILED:
            begun = pipeline.state.activations.unfinished()
            return begun is not None and begun.engine_may_run
        case Role.STOPPED:
            return not is_silent(pipeline) and role_before_it_stopped(pipeline) is Role.PRIMARY
        case _:
            return False


def become(
    pipeline: Pipeline, role: Role, *, reason: str | None = None, problem: str | None = None
) -> None:
    """Remember a role before anything is done in it, and tell who wants to know."""
    change = RoleChange(
        role=role,
        at=pipeline.now(),
        epoch=pipeline.state.identity.remembered().epoch,
        reason=reason,
        problem=problem,
    )
    if pipeline.state.roles.change(change):
        log.info("role.changed", role=str(role), epoch=change.epoch, reason=reason, error=problem)
        pipeline.on_role(change)


def announce(hooks: Hooks, change: RoleChange, *, stop: threading.Event | None = None) -> None:
    """Run the hook on_role_change, which decides nothing: a failure is logged. Raises Cancelled."""
    facts = {"role": str(change.role), "epoch": str(change.epoch), "reason": change.reason or ""}
    try:
        hooks.run(Hook.ON_ROLE_CHANGE, facts, stop=stop)
    except HookFailed as error:
        log.warning("role.unannounced", role=str(change.role), error=str(error))


def require_primary(pipeline: Pipeline) -> None:
    """Raises NotPrimary, Fenced, Diverged: only a primary pushes."""
    role = role_of(pipeline)
    where = pipeline.store.name
    match role:
        case Role.PRIMARY | Role.STOPPED:
            return  # whether it is still so, or is so again, is found out from head
        case Role.STANDBY | Role.ACTIVATING | Role.ACTIVATION_FAILED:
            raise NotPrimary(
                f"this node is {_named(role)} of pipeline '{pipeline.node.pipeline}'; "
                f"it writes to {where} only as its primary",
                hint=f"ckptsync activate {pipeline.node.pipeline}",
            )
        case Role.FENCED | Role.RELEASED:
            raise Fenced(
                f"this node is {role}: another one writes to {where}",
                hint=f"ckptsync topology {pipeline.node.pipeline}",
            )
        case Role.UNFENCED | Role.DIVERGED:
            raise Diverged(
                f"this node was activated without {where}, so it pushes nothing there",
                hint=f"ckptsync status {pipeline.node.pipeline}",
            )
        case _:
            assert_never(role)


def role_after(error: CkptsyncError) -> Role | None:
    """What an error about the bucket makes of a primary; None if it leaves it one."""
    if isinstance(error, Fenced):
        return Role.FENCED
    return Role.STOPPED if isinstance(error, _STOPPING) else None


def _named(role: Role) -> str:
    return {
        Role.STANDBY: "a standby",
        Role.ACTIVATING: "being activated as the primary",
        Role.ACTIVATION_FAILED: "not yet activated as the primary",
    }[role]
