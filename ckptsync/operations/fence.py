"""Finding out that another node took over, and seeing to it that the engine here stops."""

from dataclasses import dataclass, replace
from typing import Final

import structlog

from ckptsync.errors import CkptsyncError, HookFailed, NotModified
from ckptsync.hooks import Hook
from ckptsync.model import Role
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import become, is_to_be_displaced, role_after, role_of, stop
from ckptsync.repository import epochs
from ckptsync.repository.head import Head
from ckptsync.state.activation import Stage
from ckptsync.stores.base import Version

log = structlog.get_logger()

ENGINE_NOT_STOPPED: Final = "the engine here was not stopped yet"
"""The problem of a fenced node whose hook on_fenced has not succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    version: Version | None
    """Of the head that was read last, for the next look; None where it has to be read whole."""
    revision: int | None
    """Of that head; None where it was not read."""
    trouble: CkptsyncError | None
    """What keeps this node from writing, by what that head says."""


def look(pipeline: Pipeline, since: Version | None) -> Looked:
    """Read head, unless it is still the version that was found in order. Writes nothing.

    Raises StoreError and CannotTell where head could not be read: that is no verdict.
    """
    try:
        found = pipeline.register().read(unless=since)
        _require_mine(pipeline, found.head)
    except NotModified:
        return Looked(version=since, revision=None, trouble=None)
    except CkptsyncError as error:
        if role_after(error) is None:
            raise
        return Looked(version=None, revision=None, trouble=error)
    return Looked(version=found.version, revision=found.head.revision, trouble=None)


def settle(pipeline: Pipeline, trouble: CkptsyncError) -> None:
    """Take the role that a trouble asks for, once a second look has found the same.

    Raises what `look` raises.
    """
    role = role_after(trouble)
    if role is None or not is_to_be_displaced(pipeline):
        return
    again = look(pipeline, None).trouble
    if again is None or role_after(again) is not role:
        return
    if role is Role.FENCED:
        lose(pipeline, str(again))
    elif role_of(pipeline) is not Role.STOPPED:
        log.error("role.stopped", error=str(again))
        stop(pipeline, again)


def lose(pipeline: Pipeline, why: str) -> None:
    """Become fenced; the engine here is to be stopped, if there is a hook that can."""
    log.error("role.fenced", error=why)
    pipeline.state.handovers.end()
    unstopped = ENGINE_NOT_STOPPED if pipeline.hooks.has(Hook.ON_FENCED) else None
    begun = pipeline.state.activations.unfinished()
    become(pipeline, Role.FENCED, reason=why, problem=unstopped)
    if begun is not None:
        pipeline.state.activations.save(replace(begun, stage=Stage.ABANDONED, problem=why))


def _require_mine(pipeline: Pipeline, head: Head) -> None:
    """Raises what `require_writer` raises; a claim need not be confirmed yet."""
    me = pipeline.state.identity.remembered()
    begun = pipeline.state.activations.unfinished()
    confirming = begun is not None and begun.in_place and begun.stage < Stage.CONFIRMED
    if not (confirming and head.writer.instance in me.instances):
        epochs.require_writer(head, me, pipeline.store.name)


def stop_engine(pipeline: Pipeline) -> bool:
    """Run on_fenced where it is still due; False if it is to be tried again. Raises Cancelled."""
    current = pipeline.state.roles.current()
    if current is None or current.role is not Role.FENCED or current.problem is None:
        return True
    try:
        facts = {"role": str(Role.FENCED), "epoch": str(current.epoch)}
        pipeline.hooks.run(Hook.ON_FENCED, facts, stop=pipeline.stop)
    except HookFailed as error:
        log.error("fenced.engine_not_stopped", error=str(error))
        return False
    become(pipeline, Role.FENCED, reason=current.reason)
    return True
