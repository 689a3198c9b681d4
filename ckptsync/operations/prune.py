"""Prune: let the rules of retention hold in the bucket, and sweep what that sets free.

First everything that could raise a doubt is read; then one swap retires, revives and forgets
checkpoints; then what nothing refers to any more is deleted. An error ends it where it is: what
was done by then holds, and nothing else happens.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic
from typing import Final

import structlog

from ckptsync.errors import AccessDenied, Refused
from ckptsync.model import CheckpointId, Progress
from ckptsync.operations.deleting import is_left_to_others, require_delete
from ckptsync.operations.indexing import bring_up
from ckptsync.operations.orders import Prune
from ckptsync.operations.orphans import Orphans, find_orphans
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.retain import forget_bad, retain
from ckptsync.operations.sweep import (
    NOT_SWEPT,
    Swept,
    is_due,
    note_listing,
    sweep,
    wants_listing,
)
from ckptsync.operations.tidying import Tidying, open_for_tidying
from ckptsync.operations.transfers import stoppable
from ckptsync.repository.retention import Plan
from ckptsync.state.index import Index

log = structlog.get_logger()


_REFUSED: Final = "refused"
_REFUSED_FOR: Final = timedelta(hours=1)
"""How long what was held against pruning is not asked about again, unless an operator prunes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    retired: Sequence[CheckpointId] = ()
    """They may be deleted in a day, unless `keep` brings them back."""
    revived: Sequence[CheckpointId] = ()
    """They were retired, and the rules keep them again."""
    forgotten: Sequence[CheckpointId] = ()
    live: int = 0
    """Checkpoints, afterwards; likewise those below."""
    waiting: int = 0
    """Retired ones."""
    bad: int = 0
    swept: Swept = NOT_SWEPT
    left_to_others: bool = False
    """This node may not delete, so it has done nothing."""
    put_off: bool = False
    """It has done nothing, as an operator has to answer first what was held against it lately."""
    seconds: float

    @property
    def idle(self) -> bool:
        """Whether nothing was to be done."""
        moved = self.retired or self.revived or self.forgotten
        return not moved and not self.swept.deleted.objects


def prune(pipeline: Pipeline, order: Prune, *, progress: Progress) -> PruneReport:
    """Retire, revive and forget checkpoints by the rules, and delete what is not referred to.

    A crash anywhere leaves every checkpoint that head names whole; pruning again goes on. Call
    with the pipeline's lock held. Progress gets the bytes that are read and those that are gone.

    Raises what `open_for_tidying`, `retain` and `sweep` raise; Fenced and the other refusals of
    epochs for one that is scheduled, which only the writer does; Refused, unless told to insist,
    where much would go by other rules than before, or more is orphaned than can be explained;
    AccessDenied before anything is changed.
    """
    started = monotonic()
    if order.scheduled:
        if is_left_to_others(pipeline):
            return PruneReport(left_to_others=True, seconds=monotonic() - started)
        if _was_refused(pipeline):
            return PruneReport(put_off=True, seconds=monotonic() - started)
    tidying = open_for_tidying(pipeline)
    if tidying is None:
        return PruneReport(seconds=monotonic() - started)
    index = Index(pipeline.state.database, tidying.head.repository_id)
    try:
        require_delete(pipeline, index)
    except AccessDenied as error:
        if not order.scheduled:
            raise
        log.warning("prune.left_to_others", error=str(error))
        return PruneReport(left_to_others=True, seconds=monotonic() - started)
    try:
        meant, swept = _pruned(pipeline, tidying, index, order, progress)
    except Refused:
        index.note(_REFUSED, pipeline.now() if order.scheduled else None)
        raise
    index.note(_REFUSED, None)
    report = _report(meant, index, swept, started)
    if not report.idle:
        log.info(
            "prune.done",
            retired=len(report.retired),
            forgotten=len(report.forgotten),
            deleted=swept.deleted.objects,
            bytes=swept.deleted.bytes,
        )
    return report


def _was_refused(pipeline: Pipeline) -> bool:
    repository_id = pipeline.state.identity.remembered().repository_id
    if repository_id is None:
        return False
    at = Index(pipeline.state.database, repository_id).recall(_REFUSED)
    return at is not None and abs(pipeline.now() - at) < _REFUSED_FOR


def _pruned(
    pipeline: Pipeline, tidying: Tidying, index: Index, order: Prune, progress: Progress
) -> tuple[Plan, Swept]:
    progress = stoppable(progress, pipeline.stop)
    bad = forget_bad(pipeline, tidying, index) if order.bad else frozenset()
    sweeps = not order.scheduled or is_due(pipeline, index)
    orphans = _orphans(pipeline, tidying, index, order, progress) if sweeps else None
    meant, head = retain(
        pipeline,
        tidying,
        index,
        scheduled=order.scheduled,
        insist=order.insist,
        progress=progress,
    )
    swept = NOT_SWEPT
    if sweeps:
        swept = sweep(
            pipeline,
            replace(tidying, head=head),
            index,
            orphans=orphans,
            scheduled=order.scheduled,
            progress=progress,
        )
    return replace(meant, forget=meant.forget | bad), swept


def _report(meant: Plan, index: Index, swept: Swept, started: float) -> PruneReport:
    """By what holds at the end: an answer may have been lost, and others may have been at it."""
    states = index.states()
    counts = Counter(states.values())
    return PruneReport(
        retired=[each for each in sorted(meant.retire) if states.get(each) == "retired"],
        revived=[each for each in sorted(meant.revive) if states.get(each) == "live"],
        forgotten=[each for each in sorted(meant.forget) if each not in states],
        live=counts["live"],
        waiting=counts["retired"],
        bad=counts["bad"],
        swept=swept,
        seconds=monotonic() - started,
    )


def _orphans(
    pipeline: Pipeline, tidying: Tidying, index: Index, order: Prune, progress: Progress
) -> Orphans | None:
    """Those of the whole bucket, if it is time to look; before anything is changed.

    Raises what `find_orphans` raises.
    """
    if not order.orphans and not wants_listing(pipeline, index):
        return None
    head, now = tidying.register.read().head, pipeline.store.now()
    bring_up(pipeline, tidying.repository, head, index, now=now, progress=progress)
    orphans = find_orphans(
        pipeline,
        replace(tidying, head=head),
        index,
        insist=order.insist and order.orphans,
        progress=progress,
    )
    note_listing(pipeline, index)
    return orphans
