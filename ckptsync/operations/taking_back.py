"""Taking back what a switchover gave away, where no daemon has it in hand."""

import threading
from dataclasses import replace

from ckptsync.errors import Cancelled, NothingToDo
from ckptsync.model import Role
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.roles import role_of
from ckptsync.operations.start import start
from ckptsync.operations.switchover import resume


def take_back(pipeline: Pipeline) -> Role:
    """What this node is then: the primary again, unless another one was quicker.

    Raises NothingToDo where no switchover is under way; HookFailed if the engine could not be
    started, and it is to be asked again; what `start` and `resume` raise.
    """
    if pipeline.state.handovers.current() is None and role_of(pipeline) is not Role.RELEASED:
        raise NothingToDo(f"no switchover of pipeline '{pipeline.node.pipeline}' is under way")
    role = start(pipeline)
    if role not in (Role.PRIMARY, Role.RELEASED):
        return role
    withdraw = threading.Event()
    withdraw.set()
    try:
        resume(pipeline, withdraw)
    except Cancelled:
        if pipeline.state.handovers.current() is not None:
            raise  # not by `withdraw`, but by a stop
    return role_of(pipeline)


def bring_back(pipeline: Pipeline) -> None:
    """Start the engine again after a switchover that was stopped before it gave anything away.

    What this process is told to stop does not end this. Raises what `resume` raises.
    """
    if role_of(pipeline) is Role.PRIMARY:
        resume(replace(pipeline, stop=threading.Event()), threading.Event())
