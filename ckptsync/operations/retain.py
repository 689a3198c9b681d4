"""Letting the rules of retention hold in head: retire, revive and forget in one swap."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import structlog

from ckptsync.errors import IntegrityError, Refused
from ckptsync.model import CheckpointId, Progress
from ckptsync.operations.indexing import READER_GRACE, bring_up
from ckptsync.operations.manifests import manifest_bytes
from ckptsync.operations.pipeline import Pipeline
from ckptsync.operations.tidying import Tidying, require_writer
from ckptsync.operations.verify_checks import DAMAGE
from ckptsync.repository import keeps, keys, nodes, pages, retention, timelines
from ckptsync.repository.head import Entry, Head
from ckptsync.repository.known import ALL_DAMAGED
from ckptsync.repository.rebuild import REBUILT
from ckptsync.repository.repository import HeadAt, Repository
from ckptsync.repository.retention import Listed, Plan
from ckptsync.repository.timelines import latest_fault
from ckptsync.state.index import Index, Row
from ckptsync.state.journal import UploadJournal

log = structlog.get_logger()

_SURPRISING: Final = 20
"""More than so many that go at once, by rules that are not those of the last time, want a yes."""


def retain(
    pipeline: Pipeline,
    tidying: Tidying,
    index: Index,
    *,
    scheduled: bool,
    insist: bool,
    progress: Progress,
) -> tuple[Plan, Head]:
    """Swap head for one in which the rules hold, and what every try of that meant to do.

    The index is up to that head. Raises IntegrityError if it cannot be told what is referred to, or
    what the latest is; Fenced and the other refusals of epochs for what is `scheduled`; Refused,
    unless told to `insist`, where the rules were changed and much would go; Busy, CannotTell,
    StoreError, Cancelled.
    """
    repository, policy = tidying.repository, pipeline.retention
    meant = Plan(retire=frozenset(), revive=frozenset(), forget=frozenset())

    def decide(old: HeadAt) -> Head | None:
        nonlocal meant
        if scheduled:
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
        plan = retention.plan(verdicts, now=now, reader_grace=READER_GRACE)
        refusal = objection(pipeline, old.head, plan)
        if refusal is not None and not insist:
            raise refusal
        meant = Plan(
            retire=meant.retire | plan.retire,
            revive=meant.revive | plan.revive,
            forget=meant.forget | plan.forget,
        )
        new = _retained(repository, index, old.head, plan, now)
        rules = policy.record() if insist or old.head.policy != REBUILT else old.head.policy
        new = new.model_copy(update={"policy": rules})
        return None if new == old.head else new

    head = tidying.register.change(decide, as_writer=False, landed=lambda _head: False)
    bring_up(pipeline, repository, head, index, now=pipeline.store.now(), progress=progress)
    return meant, head


def _retained(repository: Repository, index: Index, head: Head, plan: Plan, now: datetime) -> Head:
    """The head after that plan; the same where it has nothing to do."""
    there = index.states().keys() - plan.forget
    concerned = plan.retire | plan.revive | plan.forget
    edited = pages.edited(repository, head, concerned, _edit(plan, now))
    # Until a head names them nothing refers to them, and that need not come to pass.
    index.note_unreferenced(((key, 0) for key in edited.written), due=now)
    new = edited.head
    if plan.revive:  # it may be newer than what is called the latest for want of a better one
        new = timelines.with_latest(new, repository.entries(new))
    return new.model_copy(update={"keeps": keeps.tidied(head, there=there.__contains__)})


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


def objection(pipeline: Pipeline, head: Head, plan: Plan) -> Refused | None:
    """What is held against a plan until an operator insists."""
    name, where, policy = pipeline.node.pipeline, pipeline.store.name, pipeline.retention
    if head.policy == REBUILT and plan.retire:
        return Refused(
            f"{where}: head.json was rebuilt, so nobody knows any more which checkpoints were kept "
            f"by name; {len(plan.retire)} would go by the rules alone",
            hint=f"'ckptsync prune -n {name}' shows what goes; keep again what is to stay, with "
            f"'ckptsync keep ID {name}'; if the rest may go: ckptsync prune --yes {name}",
        )
    if head.policy == policy.record() or len(plan.retire) <= _SURPRISING:
        return None
    before = "none were" if head.policy is None else f"they were {_told(head.policy)}"
    return Refused(
        f"{where}: {len(plan.retire)} checkpoints would go at once by rules that were not "
        f"applied before: now {_told(policy.record())}, when it was last pruned {before}",
        hint=f"'ckptsync prune -n {name}' shows them; if they may go: ckptsync prune --yes {name}",
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


def forget_bad(pipeline: Pipeline, tidying: Tidying, index: Index) -> frozenset[CheckpointId]:
    """Forget what was found damaged, but what is kept by name, even if its manifests are gone.

    What only they referred to is unreferenced then; as far as their manifests cannot be read, it is
    orphaned. Raises CannotTell, StoreError.
    """
    repository = tidying.repository
    journal = UploadJournal(pipeline.state.database, tidying.head.repository_id)
    gone: set[CheckpointId] = set()

    def decide(old: HeadAt) -> Head | None:
        now = pipeline.store.now()
        kept = keeps.named(old.head, now)
        bad = {
            entry.id: entry
            for entry in repository.entries(old.head)
            if entry.state == "bad" and entry.id not in kept and entry.id != old.head.latest
        }
        for entry in bad.values():
            index.note_unreferenced(_objects(pipeline, repository, entry), due=now)
            # Else the next push would refer to an own upload that is known to be damaged.
            journal.drop(journal.sizes() if ALL_DAMAGED in entry.damaged else entry.damaged)
        gone.update(bad)
        return pages.edited(repository, old.head, bad, lambda _entry: None).head if bad else None

    tidying.register.change(decide, as_writer=False, landed=lambda _head: False)
    return frozenset(gone)


def _objects(pipeline: Pipeline, repository: Repository, entry: Entry) -> Sequence[tuple[str, int]]:
    """Keys and sizes of its manifest and of what that refers to, as far as it can be read."""
    key = keys.manifest(entry.id)
    try:
        objects = repository.objects(manifest_bytes(pipeline, repository, entry), entry)
    except DAMAGE as error:
        log.info("prune.manifest_unread", checkpoint=entry.id, error=str(error))
        return [(key, entry.manifest.size)]
    return [(key, entry.manifest.size), *((each.key, each.size) for each in objects)]
