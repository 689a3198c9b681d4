"""What a daemon would do for a pipeline now, done once and without one."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from ckptsync.daemon.duties import Duties, polled, standing
from ckptsync.daemon.duty import Duty, Pace, duty_of
from ckptsync.model import Progress, Role
from ckptsync.operations.carry_out import carry_out_whole
from ckptsync.operations.heartbeat import beat
from ckptsync.operations.orders import kind
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import is_silent, role_of
from ckptsync.operations.standby import Standby

_NOW: Final = timedelta(0)
_AT_ONCE: Final = Pace(push_interval=_NOW, pull_interval=_NOW, fence_check_interval=_NOW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Did:
    role: Role
    """As it is now."""
    did: str | None
    """The kind of an order, or a duty; None where there was nothing to do."""
    document: Mapping[str, Any] | None
    """What it came to, where there is more to say."""


def once(pipeline: Pipeline, *, progress: Progress) -> Did:
    """Find the role and do what is its duty: push, poll, or go on with what was interrupted.

    Call with the pipeline's lock held. Raises what the duty raises.
    """
    standby, withdraw = Standby(pipeline), threading.Event()
    duties = Duties(pipeline, standby, withdraw)
    duties.do(Duty.START, progress)
    if duties.first_pull_due:
        duties.do(Duty.FIRST_PULL, progress)
    duty = duty_of(standing(pipeline, role_of(pipeline)), _AT_ONCE)
    order = None if duty is None else duties.do(duty, progress)
    did: str | None = duty
    document: Mapping[str, Any] | None = None
    if order is not None:
        did = kind(order)
        document = carry_out_whole(
            pipeline, order, standby=standby, withdraw=withdraw, progress=progress
        )
    elif duty is Duty.LOOK:
        did = None
    elif duties.polled is not None:
        document = polled(duties.polled)
        did = None if document is None else did
    if pipeline.state.identity.remembered().repository_id is not None and not is_silent(pipeline):
        warm = standby.warm
        beat(pipeline, warm=None if warm is None else warm.entry.id)
    return Did(role=role_of(pipeline), did=did, document=document)
