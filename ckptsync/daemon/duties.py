"""What a pipeline's worker does by itself, each duty once."""

import threading
from collections.abc import Mapping
from typing import Any, assert_never
from uuid import NAMESPACE_OID, uuid5

import structlog

from ckptsync.daemon.duty import Duty, Standing
from ckptsync.errors import Cancelled, CkptsyncError, HookFailed, LocalDiskFull, StoreError
from ckptsync.hooks import Hook
from ckptsync.model import Progress, Role
from ckptsync.operations import fence, outcomes
from ckptsync.operations.activate import again
from ckptsync.operations.claiming import landed
from ckptsync.operations.divergence import reconnect
from ckptsync.operations.listing import local_checkpoints
from ckptsync.operations.orders import Activate, Order, Push
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.pull import Restored
from ckptsync.operations.recorded import recorded
from ckptsync.operations.standby import Poll, Standby
from ckptsync.operations.start import asks_for_a_pull, initial_pull, start
from ckptsync.operations.switchover import resume
from ckptsync.operations.unsynced import unsynced
from ckptsync.repository.head import Head

log = structlog.get_logger()


def standing(
    pipeline: Pipeline,
    role: Role | None,
    *,
    activation_failure: CkptsyncError | None = None,
    first_pull_due: bool = False,
) -> Standing:
    """By what this node remembers of itself; the failure is what an activation last came to."""
    roles = pipeline.state.roles
    current = roles.current()
    unfinished = pipeline.state.activations.unfinished() is not None
    return Standing(
        role=role,
        paused=roles.paused_since() is not None,
        engine_unstopped=current is not None and current.problem is not None,
        activation_retriable=unfinished and _may_pass(activation_failure),
        handing_over=pipeline.state.handovers.current() is not None,
        activation_unfinished=unfinished,
        first_pull_due=first_pull_due,
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
        self.first_pull_due = False
        """Since the start has found a primary, until its first pull has come to an end."""

    def do(self, duty: Duty, progress: Progress) -> Order | None:
        """Do it; what follows from it is given as an order. Raises CkptsyncError."""
        pipeline = self._pipeline
        match duty:
            case Duty.START:
                self._start()
            case Duty.FIRST_PULL:
                self._first_pull(progress)
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
                self._start()  # it was given up, and what this node is was not noted
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

    def _start(self) -> None:
        primary = start(self._pipeline) is Role.PRIMARY
        self.first_pull_due = primary and asks_for_a_pull(self._pipeline)

    def _first_pull(self, progress: Progress) -> None:
        """Raises Cancelled; StoreError where the engine cannot start before it has succeeded."""
        pipeline = self._pipeline
        try:
            pulled = initial_pull(pipeline, progress=progress)
        except Cancelled:
            raise
        except CkptsyncError as error:
            if isinstance(error, StoreError) and not _may_start_without(pipeline):
                raise
            # Whether the engine may start without it, the gate of its unit decides.
            log.error("start.not_pulled", error=str(error))
        else:
            if isinstance(pulled, Restored):
                with recorded(pipeline, "pull") as record:
                    record(outcomes.pulled(pipeline, pulled))
        self.first_pull_due = False

    def _poll(self, progress: Progress) -> Order | None:
        self.polled = self._standby.poll(progress=progress)
        document = polled(self.polled)
        if document is not None:
            with recorded(self._pipeline, "poll") as record:
                record(document)
        head = self.polled.head
        if head is None:
            return None
        if head.writer.released_to == self._pipeline.node.name:
            return _handed_over(head)
        claimed = landed(self._pipeline, head)
        return None if claimed is None else again(claimed)


def _may_pass(failure: CkptsyncError | None) -> bool:
    """Whether to try again; credentials are renewed, and disks are tidied up."""
    if failure is None or failure.transient:
        return True
    return isinstance(failure, StoreError | LocalDiskFull)


def _may_start_without(pipeline: Pipeline) -> bool:
    """Whether there is a whole checkpoint here. Raises SourceError."""
    whole = pipeline.state.identity.remembered().publishing is None
    return whole and bool(local_checkpoints(pipeline.layout, pipeline.storage_path))


def _handed_over(head: Head) -> Activate:
    """The same request for the same release, however often it is seen."""
    return Activate(
        request=str(uuid5(NAMESPACE_OID, head.write_id)),
        reason=f"switchover from {head.writer.node}",
    )
