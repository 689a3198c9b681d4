"""What a pipeline's worker does by itself, each duty once."""

import threading
from collections.abc import Mapping
from typing import Any, assert_never
from uuid import NAMESPACE_OID, uuid5

import structlog

from ckptsync.daemon.duty import Duty, Standing
from ckptsync.errors import Cancelled, CkptsyncError, HookFailed, StoreError
from ckptsync.hooks import Hook
from ckptsync.model import Progress, Role
from ckptsync.operations import fence, outcomes
from ckptsync.operations.activate import again
from ckptsync.operations.divergence import reconnect
from ckptsync.operations.orders import Activate, Order, Push
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.pull import Restored
from ckptsync.operations.recorded import recorded
from ckptsync.operations.standby import Poll, Standby
from ckptsync.operations.start import initial_pull, start
from ckptsync.operations.switchover import resume
from ckptsync.operations.unsynced import unsynced
from ckptsync.repository.head import Head

log = structlog.get_logger()


def standing(pipeline: Pipeline, role: Role | None, *, activation_retriable: bool) -> Standing:
    """By what this node remembers of itself."""
    roles = pipeline.state.roles
    current = roles.current()
    return Standing(
        role=role,
        paused=roles.paused_since() is not None,
        engine_unstopped=current is not None and current.problem is not None,
        activation_retriable=activation_retriable,
        handing_over=pipeline.state.handovers.current() is not None,
    )


def polled(poll: Poll) -> Mapping[str, Any] | None:
    """What a poll has brought; None if there was nothing new."""
    if poll.staged is None:
        return None
    return {"checkpoint": poll.staged.entry.id, "fetched_bytes": poll.fetched}


class Duties:
    """For the thread of one worker."""

    def __init__(self, pipeline: Pipeline, standby: Standby, withdraw: threading.Event) -> None:
        """`withdraw` takes a switchover back."""
        self._pipeline = pipeline
        self._standby = standby
        self._withdraw = withdraw
        self.polled: Poll | None = None
        """What the last poll found."""

    def do(self, duty: Duty, progress: Progress) -> Order | None:
        """Do it; what follows from it is given as an order. Raises CkptsyncError."""
        pipeline = self._pipeline
        match duty:
            case Duty.START:
                self._start(progress)
            case Duty.LOOK:
                # Who lets the engine write one before each push cannot see it beforehand.
                due = pipeline.hooks.has(Hook.PRE_PUSH) or unsynced(pipeline) is not None
                return Push() if due else None
            case Duty.POLL:
                return self._poll(progress)
            case Duty.ACTIVATE:
                activation = pipeline.state.activations.unfinished()
                if activation is not None:
                    return again(activation)
                self._start(progress)  # it was given up, and what this node is was not noted
            case Duty.HAND_OVER:
                resume(pipeline, self._withdraw)
            case Duty.STOP_ENGINE:
                if not fence.stop_engine(pipeline):
                    raise HookFailed("on_fenced has not stopped the engine; trying again")
            case Duty.RECONNECT:
                reconnect(pipeline, self._standby)
            case _:
                assert_never(duty)
        return None

    def _start(self, progress: Progress) -> None:
        if start(self._pipeline) is not Role.PRIMARY:
            return
        try:
            pulled = initial_pull(self._pipeline, progress=progress)
        except (Cancelled, StoreError):
            raise
        except CkptsyncError as error:
            # Whether the engine may start without it, the gate of its unit decides.
            log.error("start.not_pulled", error=str(error))
        else:
            if isinstance(pulled, Restored):
                with recorded(self._pipeline, "pull") as record:
                    record(outcomes.pulled(self._pipeline, pulled))

    def _poll(self, progress: Progress) -> Order | None:
        self.polled = self._standby.poll(progress=progress)
        document = polled(self.polled)
        if document is not None:
            with recorded(self._pipeline, "poll") as record:
                record(document)
        head = self.polled.head
        if head is None or head.writer.released_to != self._pipeline.node.name:
            return None
        return _handed_over(head)


def _handed_over(head: Head) -> Activate:
    """The same request for the same release, however often it is seen."""
    return Activate(
        request=str(uuid5(NAMESPACE_OID, head.write_id)),
        reason=f"switchover from {head.writer.node}",
    )
