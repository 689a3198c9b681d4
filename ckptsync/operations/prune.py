"""Prune: let the rules of retention hold in the bucket, and sweep what that sets free.

First everything that could raise a doubt is read; then one swap retires, revives and forgets
checkpoints; then what nothing refers to any more is deleted. An error ends it where it is: what
was done by then holds, and nothing else happens.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Final

import structlog

from ckptsync.errors import AccessDenied, CkptsyncError, IntegrityError, Refused
from ckptsync.model import CheckpointId, Progress
from ckptsync.operations.deleting import is_left_to_others, require_delete
from ckptsync.operations.indexing import READER_GRACE, bring_up
from ckptsync.operations.orders import Prune
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.sweep import Swept, sweep
from ckptsync.operations.tidying import Tidying, open_for_tidying, require_writer
from ckptsync.operations.transfers import stoppable
from ckptsync.repository import keeps, keys, nodes, pages, retention, timelines
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.repository import HeadAt, Repository
from ckptsync.repository.retention import Listed, Plan, Policy
from ckptsync.repository.timelines import latest_fault
from ckptsync.state.index import Index, Row

log = structlog.get_logger()

_SURPRISING: Final = 20
"""More than so many that go at once, by rules that are not those of the last time, want a yes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneReport:
    retired: Sequence[CheckpointId]
    """They may be deleted in a day, unless `keep` brings them back."""
    revived: Sequence[CheckpointId]
    """They were retired, and the rules keep them again."""
    forgotten: Sequence[CheckpointId]
    live: int
    """Checkpoints, afterwards."""
    waiting: int
    """Retired ones, afterwards."""
    swept: Swept
    left_to_others: bool
    """This node may not delete, so it has done nothing."""
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

    Raises what `open_for_tidying` and `sweep` raise; Fenced and the other refusals of epochs for
    one that is scheduled, which only the writer does; Refused, unless told to insist, where the
    rules were changed and much would go; AccessDenied before anything is changed.
    """
    started = monotonic()
    progress = stoppable(progress, pipeline.stop)
    if order.scheduled and is_left_to_others(pipeline):
        return _left_to_others(started)
    tidying = open_for_tidying(pipeline)
    index = Index(pipeline.state.database, tidying.head.repository_id)
    try:
        require_delete(pipeline, index)
    except AccessDenied as error:
        if not order.scheduled:
            raise
        log.warning("prune.left_to_others", error=str(error))
        return _left_to_others(started)
    meant, head = _retain(pipeline, tidying, index, order, progress)
    swept = sweep(
        pipeline,
        replace(tidying, head=head),
        index,
        whole=order.orphans,
        scheduled=order.scheduled,
        insist=order.insist,
        progress=progress,
    )
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
        swept=swept,
        left_to_others=False,
        seconds=monotonic() - started,
    )


def _left_to_others(started: float) -> PruneReport:
    return PruneReport(
        retired=(),
        revived=(),
        forgotten=(),
        live=0,
        waiting=0,
        swept=Swept(),
        left_to_others=True,
        seconds=monotonic() - started,
    )


def _retain(
    pipeline: Pipeline, tidying: Tidying, index: Index, order: Prune, progress: Progress
) -> tuple[Plan, Head]:
    """Swap head for one in which the rules hold, and what every try of that meant to do.

    The index is up to that head.
    """
    repository, policy = tidying.repository, pipeline.retention
    meant = Plan(retire=frozenset(), revive=frozenset(), forget=frozenset())

    def decide(old: HeadAt) -> Head | None:
        nonlocal meant
        if order.scheduled:
            require_writer(pipeline, old.head)
        now = pipeline.store.now()
        require_sound(repository, old.head)
        bring_up(pipeline, repository, old.head, index, now=now, progress=progress)
        verdicts = retention.judge(
            map(listed, index.rows()),
            head=old.head,
            in_use=nodes.in_use(nodes.read_all(pipeline.store)),
            policy=policy,
            now=now,
        )
        plan = retention.plan(verdicts, now=now, reader_grace=READER_GRACE, bad=order.bad)
        refusal = objection(old.head, plan, policy, where=pipeline.store.name)
        if refusal is not None and not order.insist:
            raise refusal
        meant = Plan(
            retire=meant.retire | plan.retire,
            revive=meant.revive | plan.revive,
            forget=meant.forget | plan.forget,
        )
        return _retained(repository, index, old.head, plan, policy, now)

    head = tidying.register.change(decide, as_writer=False, landed=lambda _head: False)
    bring_up(pipeline, repository, head, index, now=pipeline.store.now(), progress=progress)
    return meant, head


def _retained(
    repository: Repository, index: Index, head: Head, plan: Plan, policy: Policy, now: datetime
) -> Head | None:
    """The head in which the rules hold; None if it is that already."""
    there = index.states().keys() - plan.forget
    concerned = plan.retire | plan.revive | plan.forget
    edited = pages.edited(repository, head, concerned, _edit(plan, now))
    # Until a head names them nothing refers to them, and that need not come to pass.
    index.note_unreferenced(((key, 0) for key in edited.written), due=now)
    new = edited.head
    if plan.revive:  # it may be newer than what is called the latest for want of a better one
        new = timelines.with_latest(new, repository.entries(new))
    new = new.model_copy(
        update={
            "keeps": keeps.tidied(head, now, there=there.__contains__),
            "policy": policy.record(),
        }
    )
    return None if new == head else new


def _edit(plan: Plan, now: datetime) -> Callable[[Entry], Entry | None]:
    def edit(entry: Entry) -> Entry | None:
        if entry.id in plan.forget:
            return None
        if entry.id in plan.retire:
            return entry.model_copy(update={"state": "retired", "retired_at": now})
        return entry.model_copy(update={"state": "live", "retired_at": None})

    return edit


def require_sound(repository: Repository, head: Head) -> None:
    """Raises IntegrityError if what head calls the latest cannot be it: then nothing may go."""
    latest = repository.find(head, head.latest) if head.latest else None
    fault = latest_fault(head, latest)
    if fault is not None:
        raise IntegrityError(
            f"{repository.named(keys.HEAD)} is damaged: {fault}; nothing was deleted",
            hint="ckptsync verify",
        )


def objection(head: Head, plan: Plan, policy: Policy, *, where: str) -> CkptsyncError | None:
    """What is held against a plan until an operator insists."""
    if head.policy == policy.record() or len(plan.retire) <= _SURPRISING:
        return None
    before = "none were" if head.policy is None else f"they were {_told(head.policy)}"
    return Refused(
        f"{where}: {len(plan.retire)} checkpoints would go at once by rules that were not "
        f"applied before: now {_told(policy.record())}, when it was last pruned {before}",
        hint="'ckptsync prune --dry-run' shows them; if they may go: ckptsync prune --yes",
    )


def _told(policy: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in policy.items())


def listed(row: Row) -> Listed:
    """A row of the index as retention looks at it."""
    return Listed(
        id=CheckpointId(row.id),
        seq=row.seq,
        timeline=row.timeline,
        at=row.at,
        state=row.state,
        retired_at=row.retired_at,
        engine_id=row.engine_id,
        bytes=row.bytes,
        new_bytes=row.new_bytes,
    )
