"""A planned switchover: this primary gives its pipeline to a standby, and nothing is lost.

The engine stops, its last checkpoint is pushed, and head is released to the other node, which
activates itself. Until that node has swapped head, this one can still take it back: of the two
swaps one wins.
"""

import threading
from dataclasses import dataclass, replace
from typing import Final

import structlog

from ckptsync.errors import (
    Cancelled,
    CannotTell,
    CkptsyncError,
    HookFailed,
    NotModified,
    Refused,
    StoreError,
    TimedOut,
)
from ckptsync.hooks import Hook
from ckptsync.model import CheckpointId, Progress, Role
from ckptsync.operations.engine import await_stopped
from ckptsync.operations.orders import Switchover
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.push import push
from ckptsync.operations.roles import become, require_primary, role_after, role_of
from ckptsync.repository import claim, epochs, nodes
from ckptsync.repository.head import Head
from ckptsync.repository.repository import HeadAt
from ckptsync.state.switchover import Handover

log = structlog.get_logger()

_LOOK_EVERY: Final = 0.5  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedOver:
    node: str
    """The new primary."""
    epoch: int
    checkpoint: CheckpointId | None
    """The last one that this node pushed."""


def switchover(
    pipeline: Pipeline, order: Switchover, *, withdraw: threading.Event, progress: Progress
) -> SwitchedOver:
    """Hand the pipeline over, or go on with it here as if nothing had been asked.

    `withdraw` is set to take it back while the other node has not taken it.

    Raises, with nothing done, NotPrimary, Fenced and what else head says against this node;
    Refused if the other is no standby that is alive. What stopping and pushing raise: then this
    node goes on. Then what `await_taken` raises; after a stop of the process `resume` goes on at
    the next start.
    """
    require_primary(pipeline)
    _require_writer(pipeline)
    _require_standby(pipeline, order.to)
    handovers = pipeline.state.handovers
    handovers.save(_handover(pipeline, order, released=False))
    try:
        _stop_engine(pipeline, order)
        push(pipeline, engine_id=None, new_timeline=False, progress=progress)
    except CkptsyncError as error:
        if role_after(error) is None:
            _start_engine(pipeline)
        handovers.end()
        raise
    handovers.save(_handover(pipeline, order, released=True))
    because = f": {order.reason}" if order.reason else ""
    become(pipeline, Role.RELEASED, reason=f"switchover to {order.to}{because}")
    return await_taken(pipeline, withdraw)


def resume(pipeline: Pipeline, withdraw: threading.Event) -> SwitchedOver | None:
    """Go on with a switchover that a crash or a stop interrupted; None where there is none.

    Call where `start` has found the role. Raises what `await_taken` raises.
    """
    if role_of(pipeline) is Role.RELEASED:
        return await_taken(pipeline, withdraw)
    if pipeline.state.handovers.current() is not None:
        _start_engine(pipeline)  # it had been stopped, and this node goes on
        pipeline.state.handovers.end()
    return None


def await_taken(pipeline: Pipeline, withdraw: threading.Event) -> SwitchedOver:
    """Release head, and wait until the other node has taken over; or take the pipeline back.

    While the bucket does not answer neither can be; so this waits on. Raises TimedOut or
    Cancelled once it was taken back; Cancelled, with nothing changed, on a stop; what the bucket
    answers but that it is away.
    """
    handovers, version = pipeline.state.handovers, None
    while True:
        handover = handovers.current()
        if handover is not None and withdraw.is_set():
            handover = replace(handover, deadline=pipeline.now())
            handovers.save(handover)  # whoever has to go on with it takes it back, too
        try:
            if handover is None or pipeline.now() >= handover.deadline:
                return _taken_back(pipeline, handover, cancelled=withdraw.is_set())
            found = pipeline.register().read(unless=version)
            head = _released(pipeline, found.head, handover.node)
            if not _is_mine(pipeline, head):
                return _handed_over(pipeline, head)
            version = found.version
        except NotModified:
            log.debug("switchover.not_taken_yet")
        except (StoreError, CannotTell) as error:
            if not error.transient:
                raise
            log.warning("switchover.waiting", error=str(error))
        if pipeline.stop.wait(_LOOK_EVERY):
            raise Cancelled(
                "stopped while another node is to take over",
                hint="the daemon goes on at its next start; else: ckptsync switchover --cancel",
            )


def _handover(pipeline: Pipeline, order: Switchover, *, released: bool) -> Handover:
    """The other node gets its time from now on."""
    return Handover(node=order.to, deadline=pipeline.now() + order.timeout, released=released)


def _require_writer(pipeline: Pipeline) -> None:
    """Before the engine is stopped in vain."""
    head = pipeline.register().read().head
    epochs.require_writer(head, pipeline.state.identity.remembered(), pipeline.store.name)


def _require_standby(pipeline: Pipeline, node: str) -> None:
    name = pipeline.node.pipeline
    if node == pipeline.node.name:
        raise Refused(f"node '{node}' is this one", hint=f"ckptsync topology {name}")
    seen = nodes.read(pipeline.store, node)
    beat = None if seen is None else seen.heartbeat
    if seen is None or beat is None or not seen.fresh:
        raise Refused(
            f"node '{node}' gives no sign of life in {pipeline.store.name}",
            hint=f"'ckptsync topology {name}' shows those that do",
        )
    if beat.role is not Role.STANDBY:
        raise Refused(
            f"node '{node}' is {beat.role}, not a standby", hint=f"ckptsync topology {name}"
        )


def _stop_engine(pipeline: Pipeline, order: Switchover) -> None:
    pipeline.hooks.run(Hook.ON_RELEASE, {"to": order.to}, stop=pipeline.stop)
    seconds = order.timeout.total_seconds() if pipeline.hooks.has(Hook.ON_RELEASE) else 0.0
    await_stopped(pipeline, word=order.engine_stopped, seconds=seconds)


def _start_engine(pipeline: Pipeline) -> None:
    try:
        pipeline.hooks.run(Hook.ON_ACTIVATE, {"reason": "the switchover was taken back"})
    except HookFailed as error:
        log.error("switchover.engine_not_started", error=str(error))


def _released(pipeline: Pipeline, seen: Head, to: str) -> Head:
    """The head that has it released, or that the other node has taken."""

    def is_released(head: Head) -> bool:
        return not _is_mine(pipeline, head) or head.writer.state == "released"

    def decide(old: HeadAt) -> Head | None:
        if is_released(old.head):
            return None
        me = pipeline.state.identity.remembered()
        epochs.require_writer(old.head, me, pipeline.store.name)
        return claim.released(old.head, to)

    return seen if is_released(seen) else pipeline.register().change(decide, landed=is_released)


def _taken_back(pipeline: Pipeline, handover: Handover | None, *, cancelled: bool) -> SwitchedOver:
    """Raises TimedOut or Cancelled once it is done; gives the outcome if it came too late."""

    def decide(old: HeadAt) -> Head | None:
        # Even if it is not released: a swap for that which is still on its way comes to nothing.
        return claim.taken_back(old.head) if _is_mine(pipeline, old.head) else None

    head = pipeline.register().change(decide, landed=lambda _head: False)
    if not _is_mine(pipeline, head):
        return _handed_over(pipeline, head)
    node = "the other node" if handover is None else f"node '{handover.node}'"
    _go_on(pipeline, f"{node} had not taken over")
    if cancelled:
        raise Cancelled(f"the switchover was cancelled; {node} had not taken over")
    raise TimedOut(f"{node} did not take over in time, so this node goes on as the primary")


def _go_on(pipeline: Pipeline, reason: str) -> None:
    become(pipeline, Role.PRIMARY, reason=reason)
    _start_engine(pipeline)
    pipeline.state.handovers.end()


def _handed_over(pipeline: Pipeline, head: Head) -> SwitchedOver:
    become(pipeline, Role.STANDBY, reason=f"node '{head.writer.node}' took over as agreed")
    pipeline.state.handovers.end()
    pushed = pipeline.state.identity.remembered().pushed
    return SwitchedOver(
        node=head.writer.node,
        epoch=head.epoch,
        checkpoint=None if pushed is None else CheckpointId(pushed.checkpoint_id),
    )


def _is_mine(pipeline: Pipeline, head: Head) -> bool:
    return head.writer.instance in pipeline.state.identity.remembered().instances
