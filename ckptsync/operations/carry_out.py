"""One way to do what was asked for, for the command itself and for the daemon."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, assert_never

import structlog

from ckptsync.errors import CkptsyncError, HookFailed
from ckptsync.hooks import Hook
from ckptsync.model import Progress, Role
from ckptsync.operations import fence, outcomes
from ckptsync.operations.activate import activate
from ckptsync.operations.copies import require_no_copy
from ckptsync.operations.divergence import settle_divergence
from ckptsync.operations.keep import keep, unkeep
from ckptsync.operations.orders import (
    AcceptRollback,
    Activate,
    Keep,
    Order,
    Prune,
    Pull,
    Push,
    RebuildHead,
    Rejoin,
    SettleDivergence,
    Switchover,
    Unkeep,
    kind,
)
from ckptsync.operations.pipeline import Pipeline, StandbySettings
from ckptsync.operations.prune import prune
from ckptsync.operations.pull import Wish, pull
from ckptsync.operations.push import push
from ckptsync.operations.recorded import recorded
from ckptsync.operations.rejoin import rejoin
from ckptsync.operations.repair_head import rebuild_head
from ckptsync.operations.repair_rollback import accept_rollback
from ckptsync.operations.resolve import LATEST
from ckptsync.operations.roles import require_primary, role_of
from ckptsync.operations.standby import Standby
from ckptsync.operations.start import start
from ckptsync.operations.switchover import switchover
from ckptsync.state.history import Outcome

log = structlog.get_logger()

_AS_PRIMARY: Final = (Push, Switchover)
"""What swaps head as the writer that this node is; a repair looks at every node itself."""

_MOVED: Final = ("retired", "revived", "forgotten", "deleted_objects")
"""What pruning tells of in its document, if it did anything."""


def carry_out(
    pipeline: Pipeline,
    order: Order,
    *,
    standby: Standby,
    withdraw: threading.Event,
    progress: Progress,
    started: bool = True,
) -> Mapping[str, Any]:
    """What it came to, as a document that is kept in the history too.

    `withdraw` takes a switchover back. Who has not `started` this node, as a daemon does, looks
    for a copy of it before head is swapped in its name. Call with the pipeline's lock held.

    Raises what the operation raises, once this node has the role that the error asks for.
    """
    try:
        with recorded(pipeline, kind(order), passing=_is_passing(pipeline, order)) as record:
            if not started and isinstance(order, _AS_PRIMARY):
                require_no_copy(pipeline)
            document = _done(pipeline, order, standby, withdraw, progress)
            record(document)
    except CkptsyncError as error:
        _settle(pipeline, error)
        raise
    return document


def carry_out_whole(
    pipeline: Pipeline,
    order: Order,
    *,
    standby: Standby,
    withdraw: threading.Event,
    progress: Progress,
    started: bool = True,
) -> Mapping[str, Any]:
    """As `carry_out`, and then what follows from it; how that fares changes nothing of the order.

    Raises what `carry_out` raises.
    """
    document = carry_out(
        pipeline, order, standby=standby, withdraw=withdraw, progress=progress, started=started
    )
    after = follow_up(order, document)
    if after is not None:
        try:
            carry_out(pipeline, after, standby=standby, withdraw=withdraw, progress=progress)
        except CkptsyncError as error:
            log.warning("push.not_pruned", error=str(error), hint=error.hint)
    return document


def follow_up(order: Order, document: Mapping[str, Any]) -> Order | None:
    """What is to be done once an order has come to that, though nobody has asked for it."""
    committed = isinstance(order, Push) and not document["already_synced"]
    return Prune(scheduled=True) if committed else None


def _is_passing(pipeline: Pipeline, order: Order) -> Callable[[Mapping[str, Any]], bool]:
    """Whether what it has come to is not worth a line in the history.

    After one that ended badly it is: else that would look like how things are now.
    """
    before = pipeline.state.history.last(kind(order))
    goes_well = before is None or before.outcome is Outcome.DONE

    def is_passing(document: Mapping[str, Any]) -> bool:
        if not isinstance(order, Prune) or not order.scheduled:
            return False
        if document["left_to_others"] or document["put_off"]:
            return True
        return goes_well and not any(document[each] for each in _MOVED)

    return is_passing


def _settle(pipeline: Pipeline, error: CkptsyncError) -> None:
    """Who was displaced is fenced from now on, and stops its engine, if it has a hook for that."""
    try:
        fence.settle(pipeline, error)
        fence.stop_engine(pipeline)
    except CkptsyncError as unclear:
        log.warning("fence.unchecked", error=str(unclear))


def _done(
    pipeline: Pipeline,
    order: Order,
    standby: Standby,
    withdraw: threading.Event,
    progress: Progress,
) -> Mapping[str, Any]:
    match order:
        case Push():
            require_primary(pipeline)
            _prepare(pipeline)
            pushed = push(
                pipeline,
                engine_id=order.engine_id,
                new_timeline=order.new_timeline,
                progress=progress,
            )
            _go_on(pipeline)
            return outcomes.pushed(pipeline, pushed)
        case Pull():
            wish = _wish(order, pipeline.standby)
            return outcomes.pulled(pipeline, pull(pipeline, wish, progress=progress))
        case Activate():
            done = activate(pipeline, order, standby, progress=progress)
            return outcomes.activated(pipeline, done)
        case Switchover():
            handed_over = switchover(pipeline, order, withdraw=withdraw, progress=progress)
            return outcomes.switched_over(pipeline, handed_over)
        case Rejoin():
            return outcomes.rejoined(pipeline, rejoin(pipeline, order))
        case SettleDivergence():
            return outcomes.settled(pipeline, settle_divergence(pipeline, order, standby))
        case AcceptRollback():
            accepted = accept_rollback(pipeline, force=order.force)
            _go_on(pipeline)
            return outcomes.accepted(pipeline, accepted)
        case RebuildHead():
            rebuilt = rebuild_head(pipeline, force=order.force, progress=progress)
            _go_on(pipeline)
            return outcomes.rebuilt(pipeline, rebuilt)
        case Prune():
            _go_on(pipeline)
            return outcomes.pruned(pipeline, prune(pipeline, order, progress=progress))
        case Keep():
            _go_on(pipeline)
            return outcomes.kept_as(pipeline, keep(pipeline, order))
        case Unkeep():
            _go_on(pipeline)
            return outcomes.let_go(pipeline, unkeep(pipeline, order))
        case _:
            assert_never(order)


def _prepare(pipeline: Pipeline) -> None:
    """Let the engine write a checkpoint; if it does not, the newest there is will do."""
    try:
        pipeline.hooks.run(Hook.PRE_PUSH, {}, stop=pipeline.stop)
    except HookFailed as error:
        log.warning("push.unprepared", error=str(error))


def _go_on(pipeline: Pipeline) -> None:
    """What made this node stop may be over: find its role again. Raises what `start` raises."""
    if role_of(pipeline) is Role.STOPPED:
        start(pipeline)


def _wish(order: Pull, standby: StandbySettings) -> Wish:
    return Wish(
        checkpoint=order.checkpoint or standby.start_from or LATEST,
        explicit=order.checkpoint is not None,
        force=order.force,
        engine_stopped=order.engine_stopped,
        required=standby.required,
    )
