"""What a role says against running the engine here, and what an operator can do about it."""

from typing import assert_never

from ckptsync.errors import CkptsyncError, Diverged, Fenced, NotPrimary, Stopped
from ckptsync.model import Role
from ckptsync.state.role import RoleChange
from ckptsync.state.switchover import Handover, HandoverStage


def objection(role: Role, pipeline: str, change: RoleChange | None) -> CkptsyncError | None:
    """None in a role in which the engine runs. `change` says how this node came to its role."""
    reason = None if change is None else change.reason
    problem = None if change is None else change.problem or change.reason
    match role:
        case Role.PRIMARY | Role.UNFENCED:
            return None
        case Role.STANDBY:
            return NotPrimary(
                f"this node is a standby of '{pipeline}'", hint=f"ckptsync activate {pipeline}"
            )
        case Role.ACTIVATING:
            return NotPrimary(
                f"this node is still being activated for '{pipeline}'",
                hint=f"ckptsync status {pipeline}",
            )
        case Role.ACTIVATION_FAILED:
            return NotPrimary(
                _told(f"the activation of this node for '{pipeline}' has not succeeded", problem),
                hint=f"ckptsync activate {pipeline}",
            )
        case Role.FENCED:
            return Fenced(
                _told(f"this node is fenced from '{pipeline}'", reason),
                hint=f"ckptsync rejoin {pipeline}",
            )
        case Role.RELEASED:
            return Fenced(
                _told(f"this node has given '{pipeline}' to another", problem),
                hint=f"ckptsync switchover --cancel {pipeline}",
            )
        case Role.DIVERGED:
            return Diverged(
                _told(f"'{pipeline}' went on elsewhere while this node ran it unfenced", problem),
                hint=f"ckptsync diverged --keep local {pipeline}, or --keep bucket",
            )
        case Role.STOPPED:
            return Stopped(
                _told(f"this node leaves '{pipeline}' to an operator's judgement", problem),
                hint=f"ckptsync doctor {pipeline}",
            )
        case _:
            assert_never(role)


def under_way(handover: Handover | None, pipeline: str) -> CkptsyncError | None:
    """What a switchover says against it: the engine was stopped for that."""
    if handover is None or handover.stage is HandoverStage.TAKING_BACK:
        return None
    return NotPrimary(
        f"this node is giving '{pipeline}' to node '{handover.node}'",
        hint=f"ckptsync switchover --cancel {pipeline}",
    )


def _told(what: str, why: str | None) -> str:
    return what if why is None else f"{what}: {why}"
