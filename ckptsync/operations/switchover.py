"""A planned switchover: this primary gives its pipeline to a standby, and nothing is lost.

The engine stops, its last checkpoint is pushed, and head is released to the other node, which
activates itself. Until that node has swapped head, this one can still take it back: of the two
swaps one wins.
"""

import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog

from ckptsync.errors import (
    Cancelled,
    CannotTell,
    CkptsyncError,
    EngineRunning,
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
from ckptsync.state.switchover import Handover, HandoverStage

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
    Refused if the other is no standby that is alive and at work. What stopping and pushing raise:
    then this node goes on, unless it was displaced. Then what `await_taken` raises. After
    Cancelled, and after a crash, `resume` goes on.
    """
    require_primary(pipeline)
    _require_writer(pipeline)
    _require_standby(pipeline, order.to)
    handovers = pipeline.state.handovers
    handovers.save(_handover(pipeline, order, HandoverStage.STOPPING))
    try:
        _stop_engine(pipeline, order)
        push(pipeline, engine_id=None, new_timeline=False, engine_stopped=True, progress=progress)
    except Cancelled:
        raise  # why it was interrupted is not known yet: another node may have taken over
    except CkptsyncError as error:
        if role_after(error) is not None:
            handovers.end()
            raise
        with suppress(HookFailed, StoreError):  # `resume` tries again
            _go_on(pipeline, f"the switchover to {order.to} failed")
        raise
    handovers.save(_handover(pipeline, order, HandoverStage.RELEASED))
    because = f": {order.reason}" if order.reason else ""
    become(pipeline, Role.RELEASED, reason=f"switchover to {order.to}{because}")
    return await_taken(pipeline, withdraw)


def resume(pipeline: Pipeline, withdraw: threading.Event) -> SwitchedOver | None:
    """Go on with a switchover that was interrupted; None where there is none.

    Call where `start` has found the role. Raises what `await_taken` raises. Where this node goes
    on: Fenced and what else head says against it, which ends the switchover; HookFailed and
    StoreError if the engine could not be started, after which it is to be called again.
    """
    if role_of(pipeline) is Role.RELEASED:
        return await_taken(pipeline, withdraw)
    if pipeline.state.handovers.current() is not None:
        _go_on(pipeline, "the switchover was interrupted")
    return None


def await_taken(pipeline: Pipeline, withdraw: threading.Event) -> SwitchedOver:
    """Release head, and wait until the other node has taken over; or take the pipeline back.

    While the bucket does not answer neither can be; so this waits on. Raises, once it was taken
    back, TimedOut, Cancelled, EngineRunning, or HookFailed if the engine could not be started;
    Cancelled, with nothing changed, on a stop; ForeignWriter if a copy of this node has written;
    what the bucket answers but that it is away.
    """
    handovers, version = pipeline.state.handovers, None
    running: EngineRunning | None = None
    while True:
        handover = noted = handovers.current()
        if noted is not None:
            handover = _as_of_now(pipeline, noted, withdraw=withdraw.is_set() or bool(running))
            if handover != noted:
                handovers.save(handover)  # whoever has to go on with it takes it back, too
        try:
            if handover is None or handover.stage is HandoverStage.TAKING_BACK:
                why = running or _untaken(handover, withdrawn=withdraw.is_set())
                return _taken_back(pipeline, handover, why)
            found = pipeline.register().read(unless=version)
            head = _released(pipeline, found.head, handover.node)
            if not _is_mine(pipeline, head):
                return _handed_over(pipeline, head)
            version = found.version
        except NotModified:
            log.debug("switchover.not_taken_yet")
        except EngineRunning as error:
            if running is not None:
                raise  # it was taken back
            running = error
            continue
        except (StoreError, CannotTell) as error:
            if not error.transient:
                raise
            log.warning("switchover.waiting", error=str(error))
        if pipeline.stop.wait(_LOOK_EVERY):
            raise Cancelled(
                "stopped while another node is to take over",
                hint="the daemon goes on at its next start; else: ckptsync switchover --cancel",
            )


def _handover(pipeline: Pipeline, order: Switchover, stage: HandoverStage) -> Handover:
    """The other node gets its time from now on."""
    deadline = pipeline.now() + order.timeout
    return Handover(node=order.to, deadline=deadline, timeout=order.timeout, stage=stage)


def _as_of_now(pipeline: Pipeline, handover: Handover, *, withdraw: bool) -> Handover:
    """To be taken back once its time is up; a clock that was set back gives no more than that."""
    now = pipeline.now()
    if withdraw or now >= handover.deadline:
        return replace(handover, stage=HandoverStage.TAKING_BACK)
    return replace(handover, deadline=min(handover.deadline, now + handover.timeout))


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
    if beat.paused:
        raise Refused(
            f"node '{node}' is paused, so it would not take over",
            hint=f"there: ckptsync resume {name}",
        )
    if beat.role is not Role.STANDBY:
        raise Refused(
            f"node '{node}' is {beat.role}, not a standby", hint=f"ckptsync topology {name}"
        )


def _stop_engine(pipeline: Pipeline, order: Switchover) -> None:
    pipeline.hooks.run(Hook.ON_RELEASE, {"to": order.to}, stop=pipeline.stop)
    seconds = order.timeout.total_seconds() if pipeline.hooks.has(Hook.ON_RELEASE) else 0.0
    await_stopped(pipeline, word=order.engine_stopped, seconds=seconds)


def _released(pipeline: Pipeline, seen: Head, to: str) -> Head:
    """The head that has it released, or that the other node has taken."""

    def is_released(head: Head) -> bool:
        return not _is_mine(pipeline, head) or head.writer.state == "released"

    def decide(old: HeadAt) -> Head | None:
        if is_released(old.head):
            return None
        me = pipeline.state.identity.remembered()
        epochs.require_writer(old.head, me, pipeline.store.name)
        _require_stopped(pipeline)
        return claim.released(old.head, to)

    return seen if is_released(seen) else pipeline.register().change(decide, landed=is_released)


def _require_stopped(pipeline: Pipeline) -> None:
    """The last push may have taken long. Whether it was stopped, was found out before that."""
    if pipeline.layout.engine_running():
        raise EngineRunning(
            f"an engine was started on {pipeline.storage_path} during the switchover, so this "
            "node goes on as the primary",
            hint="find out what started it, then ask again",
        )


def _untaken(handover: Handover | None, *, withdrawn: bool) -> CkptsyncError:
    node = "the other node" if handover is None else f"node '{handover.node}'"
    if withdrawn:
        return Cancelled(f"the switchover was cancelled; {node} had not taken over")
    return TimedOut(f"{node} did not take over in time, so this node goes on as the primary")


def _taken_back(pipeline: Pipeline, handover: Handover | None, why: CkptsyncError) -> SwitchedOver:
    """Raises `why` once it is done; gives the outcome if it came too late."""

    def decide(old: HeadAt) -> Head | None:
        if not _is_mine(pipeline, old.head):
            return None
        me = pipeline.state.identity.remembered()
        epochs.require_own_write(old.head, me, pipeline.store.name)
        # Even if it is not released: a swap for that which is still on its way comes to nothing.
        return claim.taken_back(old.head)

    head = pipeline.register().change(decide, landed=lambda _head: False)
    if not _is_mine(pipeline, head):
        return _handed_over(pipeline, head)
    node = "the other node" if handover is None else f"node '{handover.node}'"
    _go_on(pipeline, f"{node} had not taken over")
    raise why


def _go_on(pipeline: Pipeline, reason: str) -> None:
    """Be the primary, and start the engine again; until that is done, the switchover is not over.

    Raises Fenced and what else head says against it: then no engine is started, and it is over.
    Raises HookFailed, StoreError, Cancelled.
    """
    handovers = pipeline.state.handovers
    handover = handovers.current()
    if role_of(pipeline) is not Role.PRIMARY:
        become(pipeline, Role.PRIMARY, reason=reason)
    try:
        _require_undisplaced(pipeline)
        if handover is not None:
            handovers.save(
                replace(handover, stage=HandoverStage.TAKING_BACK)
            )  # now the engine may start
        facts = {"reason": "the switchover was taken back"}
        pipeline.hooks.run(Hook.ON_ACTIVATE, facts, stop=pipeline.stop)
    except Cancelled:
        raise
    except CkptsyncError as error:
        if role_after(error) is not None:
            handovers.end()
        else:
            log.error("switchover.engine_not_started", error=str(error))
            problem = f"the engine was not started again: {error}"
            become(pipeline, Role.PRIMARY, reason=reason, problem=problem)
        raise
    become(pipeline, Role.PRIMARY, reason=reason)
    handovers.end()


def _require_undisplaced(pipeline: Pipeline) -> None:
    """As `may_start` judges: a bucket that does not answer keeps a primary from nothing."""
    try:
        _require_writer(pipeline)
    except StoreError as error:
        if not pipeline.takeover.start_unverified:
            raise
        log.warning("start.unverified", store=pipeline.store.name, error=str(error))


def _handed_over(pipeline: Pipeline, head: Head) -> SwitchedOver:
    become(pipeline, Role.STANDBY, reason=f"node '{head.writer.node}' took over as agreed")
    pipeline.state.handovers.end()
    me = pipeline.state.identity.remembered()
    last = me.pushed or me.restored
    return SwitchedOver(
        node=head.writer.node,
        epoch=head.epoch,
        checkpoint=None if last is None else CheckpointId(last.checkpoint_id),
    )


def _is_mine(pipeline: Pipeline, head: Head) -> bool:
    return head.writer.instance in pipeline.state.identity.remembered().instances
